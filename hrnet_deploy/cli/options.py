"""Option types and printers that several commands share."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

import click

from hrnet_deploy.errors import printable

if TYPE_CHECKING:
    from rich.table import Table

MAX_BATCH = 4096


class InputSize(click.ParamType):  # type: ignore[type-arg]
    """``HxW`` in pixels as (h, w)."""

    name = "HxW"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        from hrnet_deploy.export.choice import parse_input_size

        return parse_input_size(str(value))


class FiniteRange(click.FloatRange):
    """A range of numbers without NaN, with which every comparison of a gate would be false."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{number} is not a finite number", param, ctx)
        return number


def backend_options(command: Any) -> Any:
    """``--backend`` and ``--precision``: what runs an engine; None and "exact" by default."""
    backend = click.option(
        "--backend",
        type=click.Choice(["auto", "onnxruntime", "openvino", "tensorrt"]),
        help="What runs it; auto: the fastest there is. Default: onnxruntime, tensorrt for plans.",
    )
    precision = click.option(
        "--precision",
        type=click.Choice(["exact", "bf16", "fastest"]),
        default="exact",
        show_default=True,
        help="The file's own; bfloat16; bfloat16 where the processor computes it.",
    )
    return backend(precision(command))


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
