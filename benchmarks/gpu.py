"""The GPU suite: everything that can only be known on a GPU, in one go and without a network.

    python benchmarks/gpu.py                      # all of it
    python benchmarks/gpu.py --quick              # the small network only, a minute or two
    python benchmarks/gpu.py --sections crops tensorrt --python ~/kit/bin/kitpy
    python benchmarks/gpu.py --sections tensorrt --models w32-256x192 --timeout 500

Each section runs in a process of its own, so that a lost GPU or a crash ends only that one, and
writes what it found beside the others in --work, network by network; a section whose packages are
missing says so. Run it again with other --models, or with another --python to add the sections that
need that one: results are merged. With --work kept, what was prepared (checkpoints, ONNX files,
reference poses) is used again.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from gpu_suite import SECTIONS, Context, Missing  # noqa: E402
from gpu_suite.prepare import MODELS  # noqa: E402
from gpu_suite.report import write_report  # noqa: E402


def main() -> int:
    """Run the sections and write the report; 1 where one of them failed."""
    arguments = parsed()
    work = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    if arguments.child:
        only = tuple(arguments.models)
        return child(arguments.child, Context(work, arguments.quick, arguments.device, only))
    failed = [name for name in arguments.sections if not run_section(name, arguments, work)]
    for path in write_report(work, arguments.output, arguments.cards):
        print(path)
    print(f"failed: {', '.join(failed)}" if failed else "no section failed", file=sys.stderr)
    return 1 if failed else 0


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument(
        "--models", nargs="+", choices=[model.name for model in MODELS], default=[], help="not all"
    )
    parser.add_argument("--work", type=Path, default=Path("gpu-suite"), help="kept between runs")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "benchmarks" / "results")
    parser.add_argument("--cards", type=Path, default=REPOSITORY / "engines" / "cards")
    parser.add_argument("--python", default=sys.executable, help="runs the sections")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--timeout", type=float, default=1800.0, help="seconds for one section")
    parser.add_argument("--quick", action="store_true", help="the small network, few repetitions")
    parser.add_argument("--child", choices=SECTIONS, help=argparse.SUPPRESS)
    return parser.parse_args()


def run_section(name: str, arguments: argparse.Namespace, work: Path) -> bool:
    """Run one section in a process of its own; whether it did not fail."""
    command = [arguments.python, __file__, "--child", name, "--work", str(work)]
    command += ["--device", arguments.device] + ["--quick"] * arguments.quick
    command += ["--models", *arguments.models] if arguments.models else []
    print(f"== {name}", file=sys.stderr, flush=True)
    started = time.perf_counter()
    try:
        code = subprocess.run(command, timeout=arguments.timeout, check=False).returncode
        problem = None if code in (0, 3) else f"exit code {code}"
    except subprocess.TimeoutExpired:
        problem = f"took longer than {arguments.timeout:.0f} s"
    seconds = time.perf_counter() - started
    if problem is not None:
        save(work, name, {**found_before(work, name), "failed": problem})
    print(f"== {name}: {problem or 'ended'} after {seconds:.0f} s", file=sys.stderr, flush=True)
    return problem is None


def child(name: str, context: Context) -> int:
    """One section: 0 done, 3 something is missing (an earlier result of it is kept)."""
    before = found_before(context.work, name)

    def keep(found: dict[str, Any]) -> None:
        save(context.work, name, merged(before, found))

    try:
        section = importlib.import_module(f"gpu_suite.{SECTIONS[name]}")
        keep(section.run(dataclasses.replace(context, keep=keep)))
    except Missing as missing:
        print(f"   left out: {missing}", file=sys.stderr)
        if not (context.work / f"{name}.json").exists():
            save(context.work, name, {"left_out": str(missing)})
        return 3
    return 0


def found_before(work: Path, name: str) -> dict[str, Any]:
    """What earlier runs of the section found, without what they failed at."""
    file = work / f"{name}.json"
    before: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return {key: value for key, value in before.items() if key not in ("failed", "left_out")}


def merged(before: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """``found`` beside the networks that were measured before."""
    if isinstance(found.get("models"), dict):
        found = {**found, "models": {**before.get("models", {}), **found["models"]}}
    return {**before, **found}


def save(work: Path, name: str, found: dict[str, Any]) -> None:
    """Write a section's findings, whole or not at all."""
    temporary = work / f".{name}.json"
    temporary.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n")
    os.replace(temporary, work / f"{name}.json")


if __name__ == "__main__":
    sys.exit(main())
