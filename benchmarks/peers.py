"""Every CPU figure of the README in one go: this package against other ways to do the same.

    python benchmarks/peers.py                           # all of it, on a quiet machine
    python benchmarks/peers.py --sections prepare        # what needs no quiet machine, beforehand
    python benchmarks/peers.py --rounds 2 --persons 4    # a try

An HRNet-W32 for 256x192 crops with weights from a seed (the speed does not depend on them), and
pictures with several persons: a few of COCO where they lie beside the repository, else generated
ones. ``--checkpoint``, ``--int8``, ``--images`` and ``--annotations`` take others. All ways take
turns in every round. Each section runs in a process of its own and writes what it found into
``--work`` when it is done; another run with ``--sections`` replaces those. Prints the README's
table and writes benchmarks/results/peers.json, peers.md and plots.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cpu_suite import SECTIONS, Context, watched
from cpu_suite.report import readme_table, write_report
from sections import child, load, run_section

from hrnet_deploy.engines.cpu import physical_cores
from hrnet_deploy.errors import DeployError

RESULTS = Path(__file__).resolve().parent / "results"


def main() -> int:
    """Run the sections and write the report; 1 where one of them failed."""
    arguments = _parsed()
    work = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    try:
        if arguments.child:
            context = _context(arguments, work)
            return child(arguments.child, lambda: watched(arguments.child, context), work)
        failed = [name for name in arguments.sections if not _run(name, arguments, work)]
        found = load(work, list(SECTIONS))
        measured = set(found) - {"prepare"}
        written = write_report(found, _command(), work, arguments.output) if measured else []
    except DeployError as error:
        print(f"peers: error: {error}", file=sys.stderr)
        return error.exit_code
    print(readme_table(found))
    for path in written:
        print(path, file=sys.stderr)
    print(f"failed: {', '.join(failed)}" if failed else "no section failed", file=sys.stderr)
    return 1 if failed else 0


def _run(name: str, arguments: argparse.Namespace, work: Path) -> bool:
    command = [sys.executable, __file__, *sys.argv[1:], "--child", name]
    return run_section(name, command, work, arguments.timeout)


def _command() -> str:
    """The command line without folders, so that a result says nothing about somebody's machine."""
    return " ".join(["python benchmarks/peers.py", *(Path(word).name for word in sys.argv[1:])])


def _context(arguments: argparse.Namespace, work: Path) -> Context:
    return Context(
        work=work,
        threads=arguments.threads,
        rounds=arguments.rounds,
        persons=arguments.persons,
        batch=arguments.batch,
        torch_compile=arguments.compile,
        only=tuple(arguments.only),
        checkpoint=arguments.checkpoint,
        int8=arguments.int8,
        images=arguments.images,
        annotations=arguments.annotations,
    )


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--work", type=Path, default=Path("peers-suite"), help="kept between runs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--persons", type=int, default=16)
    parser.add_argument(
        "--batch", type=int, default=8, help="persons at a time, where that is free"
    )
    parser.add_argument("--threads", type=int, default=physical_cores())
    parser.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="torch.compile, which takes a minute to warm up",
    )
    parser.add_argument("--only", nargs="*", default=[], help="ways whose names contain a word")
    parser.add_argument("--checkpoint", type=Path, help="default: a W32 with seeded weights")
    parser.add_argument("--int8", type=Path, help="what hrnet-deploy quantize made of it")
    parser.add_argument("--images", type=Path)
    parser.add_argument("--annotations", type=Path)
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds for one section")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS, help="folder of the report")
    parser.add_argument("--child", choices=SECTIONS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if bool(arguments.images) != bool(arguments.annotations):
        parser.error("--images and --annotations belong together")
    if min(arguments.rounds, arguments.persons, arguments.batch, arguments.threads) < 1:
        parser.error("--rounds, --persons, --batch and --threads are at least 1")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
