"""``hrnet-deploy eval`` over several engines and subsets: one report on all of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hrnet_deploy.cli.options import print_json, print_table, say
from hrnet_deploy.cli.progress import progress_bar
from hrnet_deploy.cli.signals import advising_to_go_on, stop_on_signal
from hrnet_deploy.errors import EXIT_GATE, InputError, printable

if TYPE_CHECKING:
    from hrnet_deploy.evaluation.session import EvalJob
    from hrnet_deploy.report.cells import Cell
    from hrnet_deploy.report.study import Study

DEFAULT_FOLDER = Path("eval-report")
RESULTS = "results"
"""The folder within the report's for the result files and journals of the evaluations."""


@dataclass(frozen=True)
class StudyOptions:
    """What the user chose beyond a single evaluation."""

    engines: tuple[Path, ...]
    annotations: Path | None
    subsets: tuple[str, ...]
    report: Path | None
    output: Path | None
    resamples: int


def evaluate_study(
    job: EvalJob, options: StudyOptions, *, min_ap: float | None, as_json: bool
) -> None:
    """Evaluate every engine on every subset, write the report, print its figures.

    Raises Exit with code 1 where an AP is below ``min_ap`` or pictures were left out.
    """
    from hrnet_deploy.report.bootstrap import SEED
    from hrnet_deploy.report.plots import require_matplotlib
    from hrnet_deploy.report.write import FILES, check_folder, write_report

    folder = options.report or DEFAULT_FOLDER
    study = _study(job, options, folder)
    require_matplotlib()
    study.check_files()
    check_folder(folder)
    cells = _evaluate(study)
    say(f"resampling the pictures {options.resamples} times for the intervals")
    with progress_bar(unit="evaluations") as progress:
        facts = write_report(
            cells, folder, resamples=options.resamples, seed=SEED, progress=progress
        )
    say(f"written: {folder}: {', '.join(FILES)}")
    gates = _gates(cells, min_ap)
    if as_json:
        files = {name: str(folder / name) for name in FILES}
        print_json({**facts, "files": files, "failed": gates})
    else:
        _print(facts)
    for line in [*facts["notes"], *(f"failed: {gate}" for gate in gates)]:
        say(line)
    if gates:
        raise click.exceptions.Exit(EXIT_GATE)


def _study(job: EvalJob, options: StudyOptions, folder: Path) -> Study:
    from hrnet_deploy.report.study import Study, name_engines, name_subsets

    if options.output is not None:
        problem = "is for one engine on one set of annotations"
        raise InputError("-o", problem, "Leave it out; --report FOLDER says where the report goes")
    return Study(
        engines=name_engines(options.engines),
        subsets=name_subsets(options.subsets, options.annotations),
        folder=folder / RESULTS,
        job=replace(job, boxes=None),
        boxes=job.boxes,
    )


def _evaluate(study: Study) -> list[Cell]:
    from hrnet_deploy.evaluation.session import Watch
    from hrnet_deploy.report.study import run_study

    with stop_on_signal() as stop, progress_bar() as progress, advising_to_go_on():
        return run_study(study, Watch(say, progress, stop.deferred, stop))


def _gates(cells: list[Cell], min_ap: float | None) -> list[str]:
    from hrnet_deploy.cli.gates import failed_gates

    return [
        f"{cell.engine} on {cell.subset}: {gate}"
        for cell in cells
        for gate in failed_gates(cell.facts, min_ap)
    ]


def _print(facts: dict[str, Any]) -> None:
    from rich.table import Table

    from hrnet_deploy.report.tables import DIFFERENCE, figures_table, subset_title

    for subset in facts["subsets"]:
        headings, rows = figures_table(facts, subset)
        # The difference of engines is too wide for a terminal; it stands in the report.
        headings = [heading for heading in headings if heading != DIFFERENCE]
        table = Table(title=printable(subset_title(facts, subset)), title_justify="left")
        table.add_column(headings[0], overflow="fold")
        for heading in headings[1:]:
            table.add_column(heading, justify="right", no_wrap=True)
        for row in rows:
            table.add_row(*map(printable, row[: len(headings)]))
        print_table(table)
