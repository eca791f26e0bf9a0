"""``hrnet-deploy dataset stats``: persons and keypoints in tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from hrnet_deploy.cli.dataset.shared import file_argument
from hrnet_deploy.cli.options import FILE, force_option, json_option, print_json, print_table, say
from hrnet_deploy.errors import printable


@click.command("stats")
@file_argument
@click.option("--plots", type=FILE, metavar="FOLDER", help="Draw the tables as PNG files there.")
@force_option
@json_option
def command(file: Path, plots: Path | None, force: bool, as_json: bool) -> None:
    """Count persons by size, facing and number on an image, keypoints and box shapes."""
    from hrnet_deploy.datasets import plots as drawing
    from hrnet_deploy.datasets.document import read_sound_document
    from hrnet_deploy.datasets.stats import statistics
    from hrnet_deploy.files import check_output_file

    if plots is not None:
        drawing.require_matplotlib()
        for name in drawing.NAMES:
            check_output_file(plots / f"{name}.png", force=force)
    facts = statistics(read_sound_document(file))
    written = drawing.write_plots(facts, plots) if plots is not None else []
    if as_json:
        print_json({**facts, "plots": [str(path) for path in written]})
    else:
        _print_statistics(facts)
    for path in written:
        say(f"wrote {path}")


def _print_statistics(facts: dict[str, Any]) -> None:
    """The tables of ``stats``."""
    click.echo(
        printable(facts["file"])
        + f": {facts['images']} images ({facts['images_without_person']} without a person), "
        f"{facts['persons']} persons, {facts['unlabelled']} unlabelled, {facts['crowds']} crowds"
    )
    titles = {
        "sizes": ("Persons by size", "size"),
        "facing": ("Persons by facing direction", "facing"),
        "people_per_image": ("Images by number of people", "people"),
        "labelled_per_person": ("Persons by number of labelled keypoints", "keypoints"),
        "aspect": ("Persons by shape of the box", "width / height"),
    }
    if facts["facing"]["unknown"] == facts["persons"]:
        del titles["facing"]  # worms, hands: nothing to tell it by
    for key, (title, label) in titles.items():
        _print_counts(facts[key], title, label)
    _print_keypoints(facts["keypoints"])


def _print_counts(counts: dict[str, int], title: str, label: str) -> None:
    from rich import box
    from rich.table import Table

    total = sum(counts.values())
    table = Table(title=title, box=box.SIMPLE, title_justify="left")
    for name, justify in ((label, "left"), ("count", "right"), ("share", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for name, count in counts.items():
        share = f"{100 * count / total:.1f} %" if total else "n/a"
        table.add_row(printable(name), str(count), share)
    print_table(table)


def _print_keypoints(rows: Sequence[dict[str, Any]]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title="Keypoints", box=box.SIMPLE, title_justify="left")
    table.add_column("keypoint")
    for name in ("visible", "hidden", "not labelled"):
        table.add_column(name, justify="right")
    for row in rows:
        numbers = (str(row[key]) for key in ("visible", "hidden", "not_labelled"))
        table.add_row(Text(printable(str(row["keypoint"]))), *numbers)
    print_table(table)
