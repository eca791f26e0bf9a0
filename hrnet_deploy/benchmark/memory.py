"""Peak memory of one way to run an artefact, measured in a process of its own."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from hrnet_deploy.benchmark.contenders import Way, open_way
from hrnet_deploy.spec import ModelSpec
from hrnet_deploy.talk import Say

_STATUS = Path("/proc/self/status")
_SECONDS = 600
_RUNS = 3
_CODE = "from hrnet_deploy.benchmark.memory import answer; answer()"


def peak_mb(way: Way, spec: ModelSpec, batch: int, *, say: Say) -> float | None:
    """Peak resident memory (MB) of loading and running batches; None, with a word why, if unknown.

    ``spec`` is what a checkpoint is run as.
    """
    question = {
        "way": {**dataclasses.asdict(way), "path": str(way.path)},
        "spec": spec.to_json(),
        "batch": batch,
    }
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter with our own code
            [sys.executable, "-c", _CODE],
            input=json.dumps(question, allow_nan=False),
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        say(f"memory of {way.path}: not measured ({error})")
        return None
    if done.returncode != 0:
        *_, last = ["", *done.stderr.splitlines()]
        say(f"memory of {way.path}: not measured (exit code {done.returncode}; {last})")
        return None
    value = json.loads(done.stdout.splitlines()[-1])
    return None if value is None else float(value)


def answer() -> None:
    """The other side: reads the question from stdin, writes megabytes (or null) to stdout."""
    from hrnet_deploy.export.crops import seeded_crops

    question: dict[str, Any] = json.loads(sys.stdin.read())
    fields = question["way"]
    way = Way(**{**fields, "path": Path(fields["path"])})
    spec = ModelSpec.from_json(question["spec"], source=way.path)
    with open_way(way, spec) as engine:
        crops = seeded_crops(engine.spec.input_size_hw, question["batch"])
        for _ in range(_RUNS):
            engine.run(crops)
    sys.stdout.write(json.dumps(high_water_mark_mb(), allow_nan=False) + "\n")


def high_water_mark_mb() -> float | None:
    """From the process's own record: getrusage would count its parent's memory too."""
    try:
        found = re.search(r"^VmHWM:\s*(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1024 / 1e6 if found else None
