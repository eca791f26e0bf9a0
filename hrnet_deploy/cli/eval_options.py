"""Options of ``eval`` beyond one COCO evaluation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from hrnet_deploy.cli.options import FILE, FiniteRange

Command = TypeVar("Command", bound=Callable[..., Any])


_OPTIONS = (
    click.option(
        "--explain", is_flag=True, help="Say why AP is not the expected one, from a sample."
    ),
    click.option(
        "--expected-ap",
        type=FiniteRange(0, 1),
        help="Default: the published one.",
    ),
    click.option(
        "--measured-ap",
        type=FiniteRange(0, 1),
        help="Default: of an earlier result.",
    ),
    click.option(
        "--sample",
        type=click.IntRange(1, 100_000),
        default=200,
        show_default=True,
        help="Persons that --explain looks at.",
    ),
    click.option(
        "--seconds",
        type=FiniteRange(1),
        default=120.0,
        show_default=True,
        help="After so long --explain starts no new run.",
    ),
    click.option(
        "--seed",
        type=click.IntRange(0),
        default=0,
        show_default=True,
        help="Of sample and intervals.",
    ),
    click.option(
        "--ladder",
        type=FILE,
        help="A checkpoint (.pth): evaluate every form of it, and the differences.",
    ),
    click.option(
        "--dataset",
        type=click.Choice(["coco", "mpii"]),
        help="Whose protocol is followed. Default: told from the annotations.",
    ),
    click.option(
        "--ground-truth",
        type=FILE,
        help="MPII's gt_valid.mat, where the annotations have no head boxes.",
    ),
)


def further_options(command: Command) -> Command:
    """Add the options of this module to the command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@dataclasses.dataclass(frozen=True)
class Further:
    """Their values."""

    explain: bool
    expected_ap: float | None
    measured_ap: float | None
    sample: int
    seconds: float
    seed: int
    ladder: Path | None
    dataset: str | None
    ground_truth: Path | None
