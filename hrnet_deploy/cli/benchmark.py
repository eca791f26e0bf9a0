"""``hrnet-deploy benchmark``: what this machine does with engines, measured side by side."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hrnet_deploy.cli.options import (
    FILE,
    MAX_BATCH,
    FiniteRange,
    boxes_option,
    device_option,
    json_option,
    print_json,
    print_table,
    say,
    threads_option,
)
from hrnet_deploy.cli.progress import progress_bar
from hrnet_deploy.cli.signals import stop_on_signal
from hrnet_deploy.cli.usage import given_options
from hrnet_deploy.errors import EnvironmentFault, GateError, InputError, InterruptedRun

if TYPE_CHECKING:
    from hrnet_deploy.benchmark.job import BenchmarkJob
    from hrnet_deploy.benchmark.tables import PlainTable


class Batches(click.ParamType):  # type: ignore[type-arg]
    """``1,2,4`` as sorted batch sizes, ``none`` as no sizes."""

    name = "N,N,..."

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        if value == "none":
            return ()
        words = str(value).split(",")
        if not all(word.strip().isdecimal() and 1 <= int(word) <= MAX_BATCH for word in words):
            self.fail(f"'{value}' is not a list of batches from 1 to {MAX_BATCH}, nor none")
        return tuple(sorted({int(word) for word in words}))


@click.command("benchmark")
@click.argument("artefacts", type=FILE, nargs=-1, required=True)
@click.option("--compare", is_flag=True, help="The two arguments are result files: what changed?")
@click.option(
    "--batch", type=click.IntRange(1, MAX_BATCH), default=8, show_default=True,
    help="Persons at a time.",
)  # fmt: skip
@click.option(
    "--sweep", type=Batches(), default="1,2,4,8,16", show_default=True,
    help="Batches to sweep over, or none.",
)  # fmt: skip
@click.option(
    "--rounds", type=click.IntRange(1, 100_000), default=20, show_default=True,
    help="Interleaved rounds; the sweep and the way from files have a third.",
)  # fmt: skip
@click.option(
    "--warmup", type=click.IntRange(0, 1000), default=2, show_default=True,
    help="Rounds before them that do not count.",
)  # fmt: skip
@click.option(
    "--backend", "backends", multiple=True,
    type=click.Choice(["auto", "onnxruntime", "openvino"]),
    help="How .onnx files are run; may be repeated. Default: every way there is.",
)  # fmt: skip
@click.option(
    "--precision", "precisions", multiple=True, type=click.Choice(["exact", "bf16", "fastest"]),
    help="The arithmetic of .onnx files; may be repeated.",
)  # fmt: skip
@device_option
@threads_option
@click.option(
    "--flip", "flips", multiple=True, type=click.Choice(["exact", "adaptive", "off"]),
    help="Of engines that can; may be repeated. Default: what each contains.",
)  # fmt: skip
@click.option(
    "--flip-threshold", type=FiniteRange(0, 1),
    help="The doubt from which on. Default: as calibrate-flip found.",
)  # fmt: skip
@click.option("--images", type=FILE, help="Pictures, to measure the way from files too.")
@click.option("--annotations", type=FILE, help="COCO keypoints for the boxes of --images.")
@boxes_option
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=32, show_default=True,
    help="How many pictures with persons.",
)  # fmt: skip
@click.option(
    "--ceiling/--no-ceiling", default=True,
    help="Measure the machine's fastest matrix product and copy too. On by default.",
)  # fmt: skip
@click.option("--memory/--no-memory", default=True, help="Measure peak memory. On by default.")
@click.option("-o", "--output", type=FILE, help="Result file, which is appended to.")
@click.option("--plots", type=FILE, help="Write plots (PNG) into this folder.")
@click.option("--markdown", is_flag=True, help="Print the tables as Markdown.")
@json_option
def command(
    artefacts: tuple[Path, ...],
    compare: bool,
    images: Path | None,
    annotations: Path | None,
    boxes: Path | None,
    limit: int,
    output: Path | None,
    plots: Path | None,
    markdown: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Measure ARTEFACTS side by side: engines (.onnx, .plan) and checkpoints (PyTorch, eager).

    All take turns in every round, so that whatever disturbs the machine meets all alike; "times"
    is the gain over the first artefact. The result is appended to benchmarks/results/PROCESSOR.json
    in a checkout, to hrnet-deploy-benchmark.json elsewhere. With --compare, ARTEFACTS are one or
    two result files, whose last runs are compared. An interruption keeps the finished rounds.
    """
    if compare:
        _refuse_what_is_measured()
        _compare(artefacts, as_json=as_json, markdown=markdown)
        return
    if (annotations or boxes) and not images:
        option = "--annotations" if annotations else "--boxes"
        raise InputError(option, "needs the pictures", "Pass --images as well")
    if images and not annotations:
        raise InputError("--images", "needs the boxes of persons", "Pass --annotations as well")
    from hrnet_deploy.benchmark.end_to_end import Pictures
    from hrnet_deploy.benchmark.job import BenchmarkJob

    pictures = None
    if images and annotations:
        pictures = Pictures(images, annotations, boxes, limit)
    job = BenchmarkJob(artefacts=artefacts, pictures=pictures, **settings)
    run, target, where = _measure(job, output, plots)
    _show(run, as_json=as_json, markdown=markdown)
    say(f"written: {target}, run {where}")
    for line in [*run["notes"], *(f"warning: {text}" for text in run["warnings"])]:
        say(line)
    if plots is not None and any(row["seconds"] for row in run["rows"]):
        from hrnet_deploy.benchmark.plots import write_plots

        say(f"written: {', '.join(map(str, write_plots(run, plots)))}")
    _raise_end(run, target)


def _measure(
    job: BenchmarkJob, output: Path | None, plots: Path | None
) -> tuple[dict[str, Any], Path, int]:
    """The run, the file that it was appended to, and its number there."""
    from hrnet_deploy.benchmark.machine import cpu_model
    from hrnet_deploy.benchmark.plots import PLOTS
    from hrnet_deploy.benchmark.results import append_run, check_output, default_output
    from hrnet_deploy.benchmark.session import run_benchmark
    from hrnet_deploy.errors import require
    from hrnet_deploy.files import check_output_file

    if plots is not None:
        require("matplotlib", extra="report", purpose="plots")
        for name in PLOTS:
            check_output_file(plots / name, force=True)
    target = output or default_output(cpu_model())
    check_output(target)
    with stop_on_signal() as stop, progress_bar(unit="measurements") as progress:
        # A signal ends the rounds; what is finished is written and shown before the exit.
        with contextlib.suppress(InterruptedRun), stop.deferred():
            run = run_benchmark(job, say=say, stop=stop, progress=progress)
            number = append_run(target, run)
        return {**run, "stopped": stop()}, target, number


def _raise_end(run: dict[str, Any], target: Path) -> None:
    """The exit code of a run that ended early; its finished part is in the file."""
    if run["stopped"] is not None:
        raise InterruptedRun(
            "interrupted",
            f"the finished rounds are in {target}",
            "Run the same command again for a complete run",
            signal_number=run["stopped"],
        )
    if run["failed"] is not None:
        kinds = {kind.exit_code: kind for kind in (GateError, InputError, EnvironmentFault)}
        raise kinds[run["failed_exit_code"]](
            "benchmark", f"ended early: {run['failed']}", f"The finished part is in {target}"
        )


def _show(run: dict[str, Any], *, as_json: bool, markdown: bool) -> None:
    from hrnet_deploy.benchmark.tables import header, run_tables

    if as_json:
        print_json(run)
        return
    _print_tables(header(run), run_tables(run), markdown=markdown)


def _print_tables(title: str, tables: list[PlainTable], *, markdown: bool) -> None:
    if markdown:
        click.echo(f"{title}\n")
        click.echo("\n".join(table.markdown() for table in tables), nl=False)
        return
    from rich.table import Table

    click.echo(title)
    for plain in tables:
        table = Table(title=plain.title, title_justify="left", padding=(0, 0, 0, 1), box=None)
        for number, name in enumerate(plain.columns):
            table.add_column(name, justify="right" if number else "left", no_wrap=True)
        for row in plain.rows:
            table.add_row(*row)
        print_table(table)


def _refuse_what_is_measured() -> None:
    """A comparison measures nothing: no choice of a measurement is made in vain."""
    for name, option in given_options():
        if name not in ("compare", "markdown", "as_json"):
            raise click.UsageError(f"{option} is for a measurement, not for --compare")


def _compare(files: tuple[Path, ...], *, as_json: bool, markdown: bool) -> None:
    """Compare the last runs of two files, or the last two of one."""
    from hrnet_deploy.benchmark.compare import compare_runs, differences
    from hrnet_deploy.benchmark.results import read_runs
    from hrnet_deploy.benchmark.tables import comparison_tables

    if len(files) > 2:
        raise InputError("--compare", f"got {len(files)} files", "Give one or two result files")
    runs = [read_runs(file) for file in files]
    if len(runs) == 1 and len(runs[0]) < 2:
        raise InputError(files[0], "holds a single run", "Give a second result file")
    first, second = (runs[0][-2:]) if len(runs) == 1 else (runs[0][-1], runs[1][-1])
    changes = compare_runs(first, second)
    if not changes:
        raise InputError(files[-1], "has no row in common with the other", "Compare equal runs")
    notes = differences(first, second)
    if as_json:
        values = [dataclasses.asdict(change) for change in changes]
        print_json({"changes": values, "differences": notes})
        return
    title = f"{first['time']} -> {second['time']}"
    _print_tables(title, comparison_tables(changes), markdown=markdown)
    for note in notes:
        say(f"note: {note}")
