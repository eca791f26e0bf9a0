"""``hrnet-deploy dataset``: check, clean, convert, describe and divide keypoint data sets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from hrnet_deploy.cli import dataset_print as show
from hrnet_deploy.cli.options import (
    FILE,
    FiniteRange,
    force_option,
    json_option,
    keypoints_option,
    print_json,
    say,
)
from hrnet_deploy.datasets.rules import IMAGE_DIGITS, RENAME_MODES, RULES
from hrnet_deploy.errors import EXIT_GATE, InputError

F = TypeVar("F", bound=Callable[..., Any])

_file = click.argument("file", type=FILE)
_output = click.option("-o", "--output", type=FILE, required=True, help="The file to write.")
_images = click.option("--images", type=FILE, help="The folder of the pictures.")
_area_factor = click.option(
    "--area-factor",
    type=FiniteRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    help="Area in parts of the box, where there is no outline.",
)


@click.group("dataset")
def command() -> None:
    """Check, clean, convert, describe and divide COCO keypoint data sets."""


def _rule_options(function: F) -> F:
    """A flag for each rule of ``clean``."""
    for rule, text in reversed(RULES.items()):
        flag = rule.replace("_", "-")
        default = None if rule == "hide_outside_box" else True
        more = " Default: for DataTorch exports." if default is None else ""
        option = click.option(
            f"--{flag}/--no-{flag}", rule, default=default, help=text + "." + more
        )
        function = option(function)
    return function


@command.command("check")
@_file
@_images
@keypoints_option
@click.option("--strict", is_flag=True, help="Hints count as problems.")
@json_option
def check(
    file: Path, images: Path | None, keypoints: str | None, strict: bool, as_json: bool
) -> None:
    """List every problem of FILE with its count, first places and remedy.

    Exit code 1 where there is any. Hints, such as images without a person, are listed and do not
    change the exit code.
    """
    from hrnet_deploy.datasets.check import check_document
    from hrnet_deploy.datasets.document import TOOLS, read_document
    from hrnet_deploy.datasets.pictures import check_pictures, look_at_pictures
    from hrnet_deploy.keypoints import keypoint_set

    document = read_document(file)
    expected = keypoint_set(keypoints) if keypoints else None
    findings = check_document(document, expected=expected)
    if images is not None:
        check_pictures(document, look_at_pictures(document, images), findings)
    problems = findings.problems
    faulty = any(strict or not problem.hint for problem in problems)
    counts = {name: len(document.content[name]) for name in ("images", "annotations", "categories")}
    if as_json:
        facts = {"file": str(file), "tool": TOOLS[document.tool], "counts": counts}
        print_json({**facts, "problems": [p.as_json() for p in problems], "clean": not faulty})
    else:
        show.print_check(file, TOOLS[document.tool], counts, problems)
    if faulty:
        raise click.exceptions.Exit(EXIT_GATE)


@command.command("clean")
@click.argument("file", type=FILE, required=False)
@click.option("-o", "--output", type=FILE, help="The file to write. Default: FILE.clean.json.")
@_images
@click.option(
    "--rename",
    type=click.Choice(RENAME_MODES),
    help="Name pictures by image id, such as 000000000012.jpg.",
)
@click.option("--images-to", type=FILE, help="Folder of the new names. Default: that of --images.")
@click.option(
    "--digits",
    type=click.IntRange(1, 18),
    default=IMAGE_DIGITS,
    show_default=True,
    help="Length of the new names.",
)
@click.option("--undo", type=FILE, metavar="FILE", help="Take the renaming of this file back.")
@keypoints_option
@_rule_options
@click.option(
    "--box-margin",
    type=FiniteRange(0, 1),
    default=0.1,
    show_default=True,
    help="Room around keypoints in a box made from them, in parts of its longer side.",
)
@_area_factor
@click.option("--drop-broken", is_flag=True, help="Remove what cannot be repaired.")
@click.option("--drop-missing", is_flag=True, help="Remove images whose picture is not readable.")
@click.option("--dry-run", is_flag=True, help="Show the difference and write nothing.")
@force_option
@json_option
def clean(
    file: Path | None,
    output: Path | None,
    images: Path | None,
    rename: str | None,
    images_to: Path | None,
    digits: int,
    undo: Path | None,
    keypoints: str | None,
    hide_outside_box: bool | None,
    box_margin: float,
    area_factor: float,
    drop_broken: bool,
    drop_missing: bool,
    dry_run: bool,
    force: bool,
    as_json: bool,
    **rules: bool,
) -> None:
    """Repair FILE into FILE.clean.json; the input is never changed.

    Every change is listed in FILE.clean.changes.json. Exit code 1 where problems are left that no
    rule can repair.
    """
    from hrnet_deploy.datasets.clean import CleanOptions
    from hrnet_deploy.datasets.clean_run import CleanJob, clean_to_files
    from hrnet_deploy.datasets.rename import undo_names
    from hrnet_deploy.keypoints import keypoint_set

    if undo is not None:
        mode, count = undo_names(undo)
        if as_json:
            print_json({"undone": count, "mode": mode})
        say(f"{count} pictures: {mode} taken back; annotation files are as they were")
        return
    if file is None:
        raise InputError("FILE", "is missing", "Give an annotation file, or --undo")
    options = CleanOptions(
        off=frozenset(rule for rule, on in rules.items() if not on),
        hide_outside_box=hide_outside_box,
        box_margin=box_margin,
        area_factor=area_factor,
        keypoints=keypoint_set(keypoints) if keypoints else None,
        drop_broken=drop_broken,
        drop_missing=drop_missing,
    )
    job = CleanJob(
        file, output, images, rename, images_to, digits, options, dry_run=dry_run, force=force
    )
    done = clean_to_files(job)
    left = [problem for problem in done.left if not problem.hint]
    if as_json:
        facts = {"counts": done.changes.counts, "changes": done.changes.as_json()}
        print_json({**facts, "left": [p.as_json() for p in done.left], "files": done.files})
    else:
        show.print_changes(done.changes, everything=dry_run)
    show.say_areas(done.changes)
    show.say_left(left)
    for path in done.files.values():
        say(f"wrote {path}")
    if left:
        raise click.exceptions.Exit(EXIT_GATE)


@command.command("convert")
@_file
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
@_images
@_area_factor
@force_option
@json_option
def convert(
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
    from hrnet_deploy.datasets.convert import convert as convert_file
    from hrnet_deploy.datasets.convert import parse_keypoints
    from hrnet_deploy.datasets.document import write_document
    from hrnet_deploy.files import check_output_file

    target = output or file.with_name(f"{file.stem}.coco.json")
    check_output_file(target, force=force, inputs=(file,))
    wanted = parse_keypoints(keypoints) if keypoints else None
    result = convert_file(file, kind=kind, keypoints=wanted, images=images, area_factor=area_factor)
    write_document(target, result.document.content)
    problems = check_document(result.document).problems
    left = [problem for problem in problems if not problem.hint]
    counts = {
        name: len(result.document.content[name]) for name in ("images", "annotations", "categories")
    }
    facts = {"source": result.source, "counts": counts, "repairs": result.changes.counts}
    if as_json:
        more = {"notes": list(result.notes), "left": [p.as_json() for p in problems]}
        print_json({**facts, **more, "file": str(target)})
    else:
        show.print_conversion(file, facts)
    for note in result.notes:
        say(f"note: {note}")
    show.say_areas(result.changes)
    show.say_left(left)
    say(f"wrote {target}")
    if left:
        raise click.exceptions.Exit(EXIT_GATE)


@command.command("stats")
@_file
@click.option("--plots", type=FILE, metavar="FOLDER", help="Draw the tables as PNG files there.")
@force_option
@json_option
def stats(file: Path, plots: Path | None, force: bool, as_json: bool) -> None:
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
        show.print_statistics(facts)
    for path in written:
        say(f"wrote {path}")


@command.command("subset")
@_file
@_output
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
def subset(
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
    show.print_parts({output: content}, as_json=as_json)


@command.command("split")
@_file
@click.option("-o", "--output", type=FILE, metavar="FOLDER", help="Default: beside FILE.")
@click.option("--ratios", default="0.8,0.2", show_default=True, help="The parts, by images.")
@click.option("--names", metavar="NAMES", help="Of the parts. Default: train,val,test.")
@click.option("--seed", type=int, default=0, show_default=True, help="Another one, other parts.")
@force_option
@json_option
def split(
    file: Path,
    output: Path | None,
    ratios: str,
    names: str | None,
    seed: int,
    force: bool,
    as_json: bool,
) -> None:
    """Divide FILE by images into FILE.train.json, FILE.val.json, ...; the same on every machine."""
    from hrnet_deploy.datasets.document import read_sound_document, write_document
    from hrnet_deploy.datasets.split import parse_names, parse_ratios, split_document
    from hrnet_deploy.files import check_output_file

    parts = parse_ratios(ratios)
    folder = output or file.parent
    targets = [folder / f"{file.stem}.{name}.json" for name in parse_names(names, len(parts))]
    for target in targets:
        check_output_file(target, force=force, inputs=(file,))
    contents = split_document(read_sound_document(file), parts, seed=seed)
    for target, content in zip(targets, contents, strict=True):
        write_document(target, content)
    show.print_parts(dict(zip(targets, contents, strict=True)), as_json=as_json)
