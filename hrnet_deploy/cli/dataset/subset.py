"""``hrnet-deploy dataset subset``: the persons or images that fit."""

from __future__ import annotations

from pathlib import Path

import click

from hrnet_deploy.cli.dataset.shared import file_argument, print_parts
from hrnet_deploy.cli.options import FILE, force_option, json_option
from hrnet_deploy.errors import InputError


@click.command("subset")
@file_argument
@click.option("-o", "--output", type=FILE, required=True, help="The file to write.")
@click.option("--annotation-ids", metavar="IDS", help="Ids separated by commas, or @FILE.")
@click.option("--image-ids", metavar="IDS", help="Ids separated by commas, or @FILE.")
@click.option("--files", type=FILE, metavar="LIST", help="A file with one picture name a line.")
@click.option("--size", metavar="SIZES", help="small, medium, large (COCO's classes by area).")
@click.option("--people", metavar="COUNT", help="Persons on the image: 1, 2-4 or 5+.")
@click.option("--facing", metavar="DIRECTIONS", help="front, back, left, right, unknown.")
@click.option("--where", metavar="EXPRESSION", help="Such as: area > 5000 and people == 1.")
@click.option(
    "--others",
    type=click.Choice(["drop", "ignore"]),
    default="drop",
    show_default=True,
    help="What becomes of persons that do not fit, on the images that stay.",
)
@force_option
@json_option
def command(
    file: Path,
    output: Path,
    annotation_ids: str | None,
    image_ids: str | None,
    files: Path | None,
    size: str | None,
    people: str | None,
    facing: str | None,
    where: str | None,
    others: str,
    force: bool,
    as_json: bool,
) -> None:
    """Write the part of FILE in which everything that is asked for holds."""
    from hrnet_deploy.datasets import subset as parts
    from hrnet_deploy.datasets.document import read_sound_document, write_document
    from hrnet_deploy.files import check_output_file

    ids = parts.parse_ids
    choices = parts.CHOICES
    selection = parts.Selection(
        annotation_ids=ids(annotation_ids, source="--annotation-ids") if annotation_ids else None,
        image_ids=ids(image_ids, source="--image-ids") if image_ids else None,
        files=parts.read_file_list(files) if files else None,
        sizes=parts.parse_choice(size, choices["--size"], source="--size") if size else None,
        facings=parts.parse_choice(facing, choices["--facing"], source="--facing")
        if facing
        else None,
        people=parts.parse_people(people) if people else None,
        where=parts.parse_where(where) if where is not None else None,
        others=others,
    )
    if selection == parts.Selection(others=others):
        raise InputError("subset", "nothing is asked for", "Pass --size, --where or another one")
    check_output_file(output, force=force, inputs=(file,))
    content = parts.take_subset(read_sound_document(file), selection)
    write_document(output, content)
    print_parts({output: content}, as_json=as_json)
