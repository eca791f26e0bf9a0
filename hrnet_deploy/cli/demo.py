"""``hrnet-deploy demo``: the whole way with data and weights that come along."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hrnet_deploy.cli.options import FILE, json_option, print_json, print_table, say
from hrnet_deploy.cli.progress import progress_bar
from hrnet_deploy.errors import command_line

if TYPE_CHECKING:
    from rich.table import Table

    from hrnet_deploy.demo.run import DemoResult

COLUMNS = ("AP", "AP50", "AP75", "APm", "APl", "AR")


@click.command("demo")
@click.option(
    "-o",
    "--output",
    type=FILE,
    default=Path("hrnet-deploy-demo"),
    show_default=True,
    help="The folder for everything that the demo makes.",
)
@click.option(
    "--images",
    type=click.IntRange(8, 10_000),
    default=150,
    show_default=True,
    help="How many pictures of synthetic people to evaluate on.",
)
@click.option("--force", is_flag=True, help="Use the folder although it exists.")
@json_option
def command(output: Path, images: int, force: bool, as_json: bool) -> None:
    """Export the small HRNet that comes along, prove it, evaluate it and draw its poses.

    Needs no GPU, no weights and no data set.
    """
    from hrnet_deploy.demo.run import run_demo

    with progress_bar() as progress:
        result = run_demo(output, images=images, force=force, say=say, progress=progress)
    if as_json:
        parity = {item.path.name: dataclasses.asdict(item.parity) for item in result.exported}
        print_json({"parity": parity, "figures": result.figures, "overlays": str(result.overlays)})
        return
    from hrnet_deploy.cli.parity import parity_table

    print_table(parity_table({item.path.name: item.parity for item in result.exported}))
    print_table(_figures_table(result))
    engine = result.exported[0].path
    say(f"poses drawn: {result.overlays}")
    say("next, with your own checkpoint and pictures:")
    say("  hrnet-deploy export w32.pth")
    say("  hrnet-deploy eval --engine w32.onnx --annotations FILE.json --images FOLDER")
    say("or again with what the demo made:")
    data = ("--annotations", result.annotations, "--images", result.images)
    say(f"  {command_line('eval', '--engine', engine, *data)}")


def _figures_table(result: DemoResult) -> Table:
    from rich.table import Table

    table = Table(title="AP on held-out synthetic people")
    table.add_column("engine")
    for column in COLUMNS:
        table.add_column(column, justify="right")
    for name, figures in result.figures.items():
        values = [figures[column] for column in COLUMNS]
        table.add_row(name, *("n/a" if value is None else f"{value:.4f}" for value in values))
    return table
