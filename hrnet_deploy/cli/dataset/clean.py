"""``hrnet-deploy dataset clean``: repairs, with every change listed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hrnet_deploy.cli.dataset.shared import area_factor_option, images_option, say_areas, say_left
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
from hrnet_deploy.errors import EXIT_GATE, InputError, printable

if TYPE_CHECKING:
    from hrnet_deploy.datasets.changes import Changes

F = TypeVar("F", bound=Callable[..., Any])
SHOWN_PER_RULE = 10


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


@click.command("clean")
@click.argument("file", type=FILE, required=False)
@click.option("-o", "--output", type=FILE, help="The file to write. Default: FILE.clean.json.")
@images_option
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
@area_factor_option
@click.option("--drop-broken", is_flag=True, help="Remove what cannot be repaired.")
@click.option("--drop-missing", is_flag=True, help="Remove images whose picture is not readable.")
@click.option("--dry-run", is_flag=True, help="Show the difference and write nothing.")
@force_option
@json_option
def command(
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
        _print_changes(done.changes, everything=dry_run)
    say_areas(done.changes)
    say_left(left)
    for path in done.files.values():
        say(f"wrote {path}")
    if left:
        raise click.exceptions.Exit(EXIT_GATE)


def _print_changes(changes: Changes, *, everything: bool) -> None:
    """The changes by rule; all of them in a dry run, else the first of each rule."""
    counts: dict[str, int] = {}
    for rule, place, what in changes.entries:
        counts[rule] = counts.get(rule, 0) + 1
        if everything or counts[rule] <= SHOWN_PER_RULE:
            click.echo(printable(f"{rule}: {place}: {what}"))
    for rule, count in changes.counts.items():
        if not everything and count > SHOWN_PER_RULE:
            click.echo(f"{rule}: {count - SHOWN_PER_RULE} more")
    total = ", ".join(f"{count} {rule}" for rule, count in changes.counts.items())
    click.echo(f"{len(changes)} changes: {total}" if total else "nothing to change")
