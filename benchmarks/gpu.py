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
import importlib
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from gpu_suite import MODELS, SECTIONS, Context  # noqa: E402
from gpu_suite.report import write_report  # noqa: E402
from sections import child, found_before, run_section, save  # noqa: E402


def main() -> int:
    """Run the sections and write the report; 1 where one of them failed."""
    arguments = parsed()
    work = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    if arguments.child:
        return child(arguments.child, lambda: found_by(arguments, work), work)
    failed = [name for name in arguments.sections if not run(name, arguments, work)]
    written = write_report(work, arguments.output, arguments.cards)
    for path in written:
        print(path)
    if not written:
        print("nothing was measured, so no result is written", file=sys.stderr)
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


def run(name: str, arguments: argparse.Namespace, work: Path) -> bool:
    """Run one section in a process of its own; whether it did not fail."""
    command = [arguments.python, __file__, "--child", name, "--work", str(work)]
    command += ["--device", arguments.device] + ["--quick"] * arguments.quick
    command += ["--models", *arguments.models] if arguments.models else []
    return run_section(name, command, work, arguments.timeout, merge=True)


def found_by(arguments: argparse.Namespace, work: Path) -> dict[str, Any]:
    """What a section finds, with what it found before; kept network by network."""
    name = arguments.child
    before = found_before(work, name)
    context = Context(
        work,
        arguments.quick,
        arguments.device,
        only=tuple(arguments.models),
        keep=lambda found: save(work, name, merged(before, found)),
    )
    section = importlib.import_module(f"gpu_suite.{SECTIONS[name]}")
    return merged(before, section.run(context))


def merged(before: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """``found`` beside the networks that were measured before."""
    if isinstance(found.get("models"), dict):
        found = {**found, "models": {**before.get("models", {}), **found["models"]}}
    return {**before, **found}


if __name__ == "__main__":
    sys.exit(main())
