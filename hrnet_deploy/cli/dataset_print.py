"""What the ``dataset`` commands print."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hrnet_deploy.cli.options import print_json, print_table, say
from hrnet_deploy.errors import printable

if TYPE_CHECKING:
    from hrnet_deploy.datasets.changes import Changes
    from hrnet_deploy.datasets.problems import Problem

SHOWN_PER_RULE = 10


def print_check(file: Path, tool: str, counts: dict[str, int], problems: Sequence[Problem]) -> None:
    """One block a problem: count, code and sentence, first places, remedy."""
    click.echo(
        printable(str(file))
        + f": {tool}, {counts['images']} images, {counts['annotations']} annotations"
    )
    for problem in problems:
        mark = "hint" if problem.hint else "problem"
        click.echo(f"{mark:>8} {problem.count:>7} x {problem.code}: {problem.what}")
        more = "; ..." if problem.count > len(problem.places) else ""
        click.echo(f"{'first:':>19} {printable('; '.join(problem.places))}{more}")
        click.echo(f"{'remedy:':>19} {problem.remedy}")
    faults = sum(not problem.hint for problem in problems)
    hints = len(problems) - faults
    click.echo(f"kinds of problems: {faults}, of hints: {hints}" if problems else "clean")


def print_changes(changes: Changes, *, everything: bool) -> None:
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


def print_conversion(file: Path, facts: dict[str, Any]) -> None:
    """What the export was and what came out of it."""
    counts = facts["counts"]
    click.echo(
        printable(str(file))
        + f": {facts['source']}, {counts['images']} images, {counts['annotations']} annotations"
    )
    for rule, count in facts["repairs"].items():
        click.echo(f"{count:>8} x {rule}")


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


def print_statistics(facts: dict[str, Any]) -> None:
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
