"""``eval --ladder``: every form of a network in one table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hrnet_deploy.cli.figures import figure, interval_text
from hrnet_deploy.cli.options import print_json, print_table, say
from hrnet_deploy.cli.progress import progress_bar
from hrnet_deploy.cli.signals import stop_on_signal
from hrnet_deploy.errors import EXIT_GATE, printable

if TYPE_CHECKING:
    from hrnet_deploy.cli.eval_options import Further
    from hrnet_deploy.evaluation.session import EvalJob
    from hrnet_deploy.export.ladder import Rung


def show_ladder(
    job: EvalJob, checkpoint: Path, engines: tuple[Path, ...], chosen: Further, *, as_json: bool
) -> None:
    """``eval --ladder``: one table of all forms of a network, and the same as JSON."""
    from hrnet_deploy.files import check_input_file, check_output_file, write_json

    inputs = [check_input_file(checkpoint, what="checkpoint")]
    check_output_file(job.output, force=True, inputs=tuple(inputs))
    from hrnet_deploy.export.ladder import LadderJob, climb

    ladder = LadderJob(
        checkpoint,
        job.annotations,
        job.images,
        job.boxes,
        engines,
        job.engine_options.device,
        job.engine_options.threads,
        chosen.seed,
        job.settings,
    )
    with stop_on_signal() as stop, progress_bar() as progress:
        rungs = climb(ladder, say=say, progress=progress, stop=stop)
    content = {
        "kind": "hrnet-deploy ladder",
        "schema": 1,
        "checkpoint": checkpoint.name,
        "seed": chosen.seed,
        "rungs": [rung.as_json() for rung in rungs],
    }
    write_json(job.output, content)
    say(f"written: {job.output}")
    if as_json:
        print_json(content)
    else:
        _print_ladder(rungs, f"{checkpoint.name} on {job.annotations.name}")
    if any("left out" in rung.label for rung in rungs):
        say(f"failed: {rungs[0].label}")
        raise click.exceptions.Exit(EXIT_GATE)


def _print_ladder(rungs: list[Rung], title: str) -> None:
    from rich.table import Table

    label = "" if rungs[0].label == "full" else f"\n{rungs[0].label}"
    table = Table(title=printable(title) + label, caption="95 % bootstrap intervals over images")
    for name in ("boxes", "flip", "engine", "AP", "AP50", "AP75", "to PyTorch", "by the flip-test"):
        table.add_column(name, justify="left" if name in ("boxes", "flip", "engine") else "right")
    last = None
    for rung in rungs:
        kind = (rung.boxes, rung.flip_test)
        if last is not None and kind != last:
            table.add_section()
        last = kind
        table.add_row(
            rung.boxes,
            "yes" if rung.flip_test else "no",
            printable(rung.name),
            interval_text(rung.ap),
            figure(rung.stats["AP50"]),
            figure(rung.stats["AP75"]),
            interval_text(rung.to_reference, 4, "+"),
            interval_text(rung.flip_gain, 3, "+"),
        )
    print_table(table)
