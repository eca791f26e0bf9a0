"""``hrnet-deploy dataset check``: every problem of a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hrnet_deploy.cli.dataset.shared import counts_of, file_argument, images_option
from hrnet_deploy.cli.options import json_option, keypoints_option, print_json
from hrnet_deploy.errors import EXIT_GATE, printable

if TYPE_CHECKING:
    from hrnet_deploy.datasets.problems import Problem


@click.command("check")
@file_argument
@images_option
@keypoints_option
@click.option("--strict", is_flag=True, help="Hints count as problems.")
@json_option
def command(
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
    counts = counts_of(document.content)
    if as_json:
        facts = {"file": str(file), "tool": TOOLS[document.tool], "counts": counts}
        print_json({**facts, "problems": [p.as_json() for p in problems], "clean": not faulty})
    else:
        _print_check(file, TOOLS[document.tool], counts, problems)
    if faulty:
        raise click.exceptions.Exit(EXIT_GATE)


def _print_check(
    file: Path, tool: str, counts: dict[str, int], problems: Sequence[Problem]
) -> None:
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
