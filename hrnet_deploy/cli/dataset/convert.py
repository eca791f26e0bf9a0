"""``hrnet-deploy dataset convert``: a COCO file of what an annotation tool exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hrnet_deploy.cli.dataset.shared import (
    area_factor_option,
    counts_of,
    file_argument,
    images_option,
    say_areas,
    say_left,
)
from hrnet_deploy.cli.options import FILE, force_option, json_option, print_json, say
from hrnet_deploy.errors import EXIT_GATE, printable


@click.command("convert")
@file_argument
@click.option("-o", "--output", type=FILE, help="The file to write. Default: FILE.coco.json.")
@click.option(
    "--from",
    "kind",
    type=click.Choice(["auto", "cvat", "label-studio", "coco"]),
    default="auto",
    show_default=True,
    help="What FILE is.",
)
@click.option(
    "--keypoints", metavar="NAMES", help="A keypoint set, or names separated by commas, in order."
)
@images_option
@area_factor_option
@force_option
@json_option
def command(
    file: Path,
    output: Path | None,
    kind: str,
    keypoints: str | None,
    images: Path | None,
    area_factor: float,
    force: bool,
    as_json: bool,
) -> None:
    """Make a COCO keypoint file of an export: CVAT (XML), Label Studio (JSON), COCO of any tool.

    All repairs of `clean` run on the result. Exit code 1 where problems are left.
    """
    from hrnet_deploy.datasets.check import check_document
    from hrnet_deploy.datasets.convert import convert, parse_keypoints
    from hrnet_deploy.datasets.document import write_document
    from hrnet_deploy.files import check_output_file

    target = output or file.with_name(f"{file.stem}.coco.json")
    check_output_file(target, force=force, inputs=(file,))
    wanted = parse_keypoints(keypoints) if keypoints else None
    result = convert(file, kind=kind, keypoints=wanted, images=images, area_factor=area_factor)
    write_document(target, result.document.content)
    problems = check_document(result.document).problems
    left = [problem for problem in problems if not problem.hint]
    counts = counts_of(result.document.content)
    facts = {"source": result.source, "counts": counts, "repairs": result.changes.counts}
    if as_json:
        more = {"notes": list(result.notes), "left": [p.as_json() for p in problems]}
        print_json({**facts, **more, "file": str(target)})
    else:
        _print_conversion(file, facts)
    for note in result.notes:
        say(f"note: {note}")
    say_areas(result.changes)
    say_left(left)
    say(f"wrote {target}")
    if left:
        raise click.exceptions.Exit(EXIT_GATE)


def _print_conversion(file: Path, facts: dict[str, Any]) -> None:
    """What the export was and what came out of it."""
    counts = facts["counts"]
    click.echo(
        printable(str(file))
        + f": {facts['source']}, {counts['images']} images, {counts['annotations']} annotations"
    )
    for rule, count in facts["repairs"].items():
        click.echo(f"{count:>8} x {rule}")
