"""Arguments and lines of output that several ``dataset`` commands share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hrnet_deploy.cli.options import FILE, FiniteRange, print_json, say
from hrnet_deploy.errors import printable

if TYPE_CHECKING:
    from hrnet_deploy.datasets.changes import Changes
    from hrnet_deploy.datasets.problems import Problem

file_argument = click.argument("file", type=FILE)
images_option = click.option("--images", type=FILE, help="The folder of the pictures.")
area_factor_option = click.option(
    "--area-factor",
    type=FiniteRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    help="Area in parts of the box, where there is no outline.",
)


def counts_of(content: dict[str, Any]) -> dict[str, int]:
    """How many images, annotations and categories a COCO document has."""
    return {name: len(content[name]) for name in ("images", "annotations", "categories")}


def say_areas(changes: Changes) -> None:
    """Warn where areas are those of boxes: it is what makes AP of own pictures look so good."""
    from hrnet_deploy.datasets.clean_persons import AREA_FROM_BOX

    if count := changes.counts.get(AREA_FROM_BOX):
        say(
            f"note: {count} areas are those of the box, as there is no outline: OKS gets milder "
            "and AP higher than with outlined persons (COCO); see --area-factor"
        )


def say_left(left: Sequence[Problem]) -> None:
    """The problems that are left, one line each, on stderr."""
    for problem in left:
        place = problem.places[0]
        say(f"left: {problem.count} x {problem.code}, e.g. {place}; remedy: {problem.remedy}")


def print_parts(parts: dict[Path, dict[str, Any]], *, as_json: bool) -> None:
    """How much is in each file that was written."""
    facts = [
        {
            "file": str(path),
            "images": len(content["images"]),
            "annotations": len(content["annotations"]),
        }
        for path, content in parts.items()
    ]
    if as_json:
        print_json({"parts": facts})
        return
    for part in facts:
        name = printable(str(part["file"]))
        click.echo(f"{name}: {part['images']} images, {part['annotations']} annotations")
