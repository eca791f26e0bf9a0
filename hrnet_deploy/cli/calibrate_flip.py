"""``hrnet-deploy calibrate-flip``: the threshold of an adaptive flip-test."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hrnet_deploy.cli.figures import interval_text
from hrnet_deploy.cli.options import (
    FILE,
    FiniteRange,
    batch_option,
    boxes_option,
    force_option,
    json_option,
    max_pixels_option,
    print_json,
    print_table,
    say,
    with_engine_options,
)

if TYPE_CHECKING:
    from hrnet_deploy.evaluation.flip import FlipCalibration
    from hrnet_deploy.runtime.engine_options import EngineOptions


@click.command("calibrate-flip")
@click.argument("engine", type=FILE)
@click.option("--annotations", type=FILE, required=True, help="COCO keypoints file (.json).")
@click.option("--images", type=FILE, required=True, help="The folder of its pictures.")
@boxes_option
@click.option(
    "--max-ap-drop",
    type=FiniteRange(0, 100),
    default=0.1,
    show_default=True,
    help="Points of AP that may be lost against an exact flip-test.",
)
@click.option("--limit", type=click.IntRange(1), help="Only the first images of the file.")
@batch_option
@with_engine_options(flip=False)
@max_pixels_option
@force_option
@json_option
def command(
    engine: Path,
    annotations: Path,
    images: Path,
    boxes: Path | None,
    max_ap_drop: float,
    limit: int | None,
    batch: int,
    engine_options: EngineOptions,
    max_pixels: float,
    force: bool,
    as_json: bool,
) -> None:
    """Find from which doubt on --flip adaptive needs a second pass of ENGINE.

    ENGINE was exported with --no-flip. Everybody is evaluated with one pass and with two; the
    fewest second passes that lose at most --max-ap-drop make the threshold in ENGINE.flip.json,
    which --flip adaptive reads. Exit code 1: only a second pass for everybody holds the budget.
    """
    from hrnet_deploy.cli.progress import progress_bar
    from hrnet_deploy.cli.signals import stop_on_signal
    from hrnet_deploy.errors import InterruptedRun, command_line
    from hrnet_deploy.evaluation.flip import calibrate_flip
    from hrnet_deploy.evaluation.settings import EvalSettings
    from hrnet_deploy.files import check_input_file, check_output_file, write_json
    from hrnet_deploy.runtime.flip_choice import calibration_path

    inputs = [check_input_file(engine, what="engine (.onnx or .plan)")]
    inputs.append(check_input_file(annotations, what="annotation file"))
    target = check_output_file(calibration_path(engine), force=force, inputs=tuple(inputs))
    with (
        engine_options.open(engine, say) as loaded,
        stop_on_signal() as stop,
        progress_bar() as progress,
        stop.deferred(),
    ):
        try:
            found = calibrate_flip(
                loaded,
                annotations,
                images,
                boxes=boxes,
                settings=EvalSettings(limit=limit, batch_size=batch, max_pixels=max_pixels),
                max_ap_drop=max_ap_drop,
                say=say,
                progress=progress,
                stop=stop,
            )
        except InterruptedRun as interrupted:
            problem, number = "interrupted, nothing is written", interrupted.signal_number
            fix = f"To start over: {command_line(*sys.argv[1:])}"
            raise InterruptedRun(engine, problem, fix, signal_number=number) from None
    write_json(target, found.as_json())
    if as_json:
        print_json({"path": str(target), **found.as_json()})
    else:
        _print(found, engine.name)
    for note in found.notes:
        say(f"note: {note}")
    say(f"written: {target}")
    say(f"next: {command_line('predict', 'SOURCE', '--engine', engine, '--flip', 'adaptive')}")


def _print(found: FlipCalibration, name: str) -> None:
    from rich.table import Table

    caption = f"{found.persons} persons in {found.images} images; drops with 95 % intervals"
    table = Table(title=f"adaptive flip-test, {name}", caption=caption)
    for column in ("", "AP", "drop, points", "second passes", "passes saved"):
        table.add_column(column, justify="right" if column else "left")
    table.add_row("exact", f"{found.exact:.4f}", "0", "100%", "1x")
    drop = interval_text(found.drop, 2)
    cells = (f"{found.adaptive:.4f}", drop, f"{found.share:.1%}", _saved(found.share))
    table.add_row(f"adaptive from {found.threshold:.4g} on", *cells)
    held_out = interval_text(found.held_out, 2)
    cells = ("", held_out, f"{found.held_out_share:.1%}", _saved(found.held_out_share))
    table.add_row("  held out", *cells)
    single = f"{100 * (found.exact - found.single):.2f}"
    table.add_row("one pass", f"{found.single:.4f}", single, "0%", _saved(0))
    print_table(table)


def _saved(share: float) -> str:
    """How many times fewer passes than an exact flip-test."""
    return f"{2 / (1 + share):.2f}x"
