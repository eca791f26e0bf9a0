"""Sections of a suite: each runs in a process of its own and writes what it found when it is done.

A crash, a lost device or a Ctrl-C ends one section only; what the others wrote is merged.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

LEFT_OUT = 3
"""Exit code of a section for which something is missing on this machine."""


class Missing(Exception):
    """Something that a section needs is not on this machine."""


OURS = {"hrnet_deploy", *(path.stem for path in Path(__file__).parent.iterdir())}
"""What is no package that a machine may lack."""


def run_section(
    name: str, command: Sequence[str], work: Path, timeout: float, *, merge: bool = False
) -> bool:
    """Run one section by its command; whether it did not fail.

    With ``merge`` what it found before stands beside the failure.
    """
    print(f"== {name}", file=sys.stderr, flush=True)
    started = time.perf_counter()
    try:
        code = _exit_code(command, timeout)
        problem = None if code in (0, LEFT_OUT) else f"exit code {code}"
    except subprocess.TimeoutExpired:
        problem = f"took longer than {timeout:.0f} s"
    except OSError as error:
        problem = f"{command[0]} cannot be started ({error.strerror})"
    seconds = time.perf_counter() - started
    if problem is not None:
        save(work, name, {**(found_before(work, name) if merge else {}), "failed": problem})
    print(f"== {name}: {problem or 'ended'} after {seconds:.0f} s", file=sys.stderr, flush=True)
    return problem is None


def _exit_code(command: Sequence[str], timeout: float) -> int:
    """Of a command that does not outlive this call, nor does any process that it started."""
    with subprocess.Popen(command, start_new_session=True) as process:
        try:
            return process.wait(timeout)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def child(name: str, run: Callable[[], Mapping[str, object]], work: Path) -> int:
    """One section, in its own process: its exit code (an earlier result of a missing one stays).

    A package that is not installed is left out as anything else that is missing.
    """
    try:
        found = run()
    except (Missing, ModuleNotFoundError) as missing:
        if isinstance(missing, ModuleNotFoundError) and str(missing.name).split(".")[0] in OURS:
            raise
        print(f"   left out: {missing}", file=sys.stderr)
        if not (work / f"{name}.json").exists():
            save(work, name, {"left_out": str(missing)})
        return LEFT_OUT
    save(work, name, found)
    return 0


def found_before(work: Path, name: str) -> dict[str, Any]:
    """What earlier runs of the section found, without what they failed at."""
    found: dict[str, Any] = load(work, [name]).get(name, {})
    return {key: value for key, value in found.items() if key not in ("failed", "left_out")}


def save(work: Path, name: str, found: Mapping[str, object]) -> None:
    """Write a section's findings, whole or not at all."""
    temporary = work / f".{name}.json"
    temporary.write_text(json.dumps(found, indent=2) + "\n")
    os.replace(temporary, work / f"{name}.json")


def load(work: Path, names: Sequence[str]) -> dict[str, Any]:
    """What the sections found, by name, those that were run."""
    files = {name: work / f"{name}.json" for name in names}
    return {name: json.loads(file.read_text()) for name, file in files.items() if file.exists()}
