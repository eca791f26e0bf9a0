"""Option types and printers that several commands share."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from hrnet_deploy.errors import printable

if TYPE_CHECKING:
    from rich.table import Table

MAX_BATCH = 4096
MAX_INPUT_SIDE = 2048
INPUT_SIDE_MULTIPLE = 32
"""The lowest-resolution branch of a four-stage HRNet is the input divided by 32."""


class InputSize(click.ParamType):  # type: ignore[type-arg]
    """``HxW`` in pixels, both multiples of 32, as (h, w)."""

    name = "HxW"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        sides = str(value).lower().split("x")
        if len(sides) != 2 or not all(side.isdecimal() for side in sides):
            self.fail(f"'{printable(str(value))}' is not HxW, such as 256x192", param, ctx)
        height, width = (int(side) for side in sides)
        for side in (height, width):
            if side % INPUT_SIDE_MULTIPLE or not 0 < side <= MAX_INPUT_SIDE:
                self.fail(
                    f"{value}: both sides must be multiples of {INPUT_SIDE_MULTIPLE} from "
                    f"{INPUT_SIDE_MULTIPLE} to {MAX_INPUT_SIDE}",
                    param,
                    ctx,
                )
        return height, width


def say(line: str) -> None:
    """Talk to the user on stderr."""
    click.echo(printable(line), err=True)


def print_table(table: Table) -> None:
    """A rich table on stdout; full width where stdout is not a terminal."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else 100
    Console(width=width, highlight=False).print(table)


def print_json(value: Any) -> None:
    """Deterministic JSON on stdout."""
    from hrnet_deploy.files import json_text

    click.echo(json_text(value), nl=False)
