"""Option types and printers that several commands share."""

from __future__ import annotations

import dataclasses
import functools
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hrnet_deploy.errors import one_line

if TYPE_CHECKING:
    from rich.table import Table

MAX_BATCH = 4096
MAX_THREADS = 1024
MAX_PIXELS = 200e6
"""As ``runtime.image.MAX_PIXELS``, which would load OpenCV for a ``--help``."""

FILE = click.Path(path_type=Path)


class InputSize(click.ParamType):  # type: ignore[type-arg]
    """``HxW`` in pixels as (h, w)."""

    name = "HxW"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        from hrnet_deploy.export.choice import parse_input_size

        return parse_input_size(str(value))


class FiniteRange(click.FloatRange):
    """A range of numbers without infinity, and without NaN, which no range holds back."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{number} is not a finite number", param, ctx)
        return number


boxes_option = click.option(
    "--boxes", type=FILE, help="COCO detections. Default: ground-truth boxes."
)
batch_option = click.option(
    "--batch", type=click.IntRange(1, 1024), default=32, show_default=True, help="Crops at a time."
)
device_option = click.option(
    "--device",
    "--devices",
    help="cpu or cuda[:N]; several share the work: 0,1. Default: cpu for .onnx, cuda for .plan.",
)
threads_option = click.option(
    "--threads", type=click.IntRange(1, MAX_THREADS), help="CPU threads. Default: all cores."
)
max_pixels_option = click.option(
    "--max-pixels",
    type=FiniteRange(1),
    default=MAX_PIXELS,
    show_default=True,
    help="Refuse larger pictures.",
)
input_size_option = click.option(
    "--input-size", type=InputSize(), help="Height and width of a crop, as 256x192."
)
keypoints_option = click.option(
    "--keypoints", metavar="NAME", help="The keypoint set, such as coco_17."
)
recipe_option = click.option(
    "--recipe", metavar="FILE|NAME", help="A recipe (.toml), or one of export/."
)
flip_option = click.option(
    "--flip/--no-flip", default=True, help="Flip-test inside the graph. Default: on."
)
static_batch_option = click.option(
    "--batch", type=click.IntRange(1, MAX_BATCH), help="A static batch. Default: dynamic."
)
force_option = click.option("--force", is_flag=True, help="Replace existing output.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print the facts as JSON.")


_ENGINE_OPTIONS = (
    device_option,
    threads_option,
    click.option(
        "--backend",
        type=click.Choice(["auto", "onnxruntime", "openvino", "tensorrt"]),
        help="What runs it; auto: the fastest there is. Default: onnxruntime, tensorrt for plans.",
    ),
    click.option(
        "--precision",
        type=click.Choice(["exact", "bf16", "fastest"]),
        default="exact",
        show_default=True,
        help="The file's own; bfloat16; bfloat16 where the processor computes it.",
    ),
)
_FLIP_OPTIONS = (
    click.option(
        "--flip",
        type=click.Choice(["exact", "adaptive", "off"]),
        help="adaptive: mirror only persons in doubt. Default: what the engine contains.",
    ),
    click.option(
        "--flip-threshold",
        type=FiniteRange(0, 1),
        help="The doubt from which on. Default: as calibrate-flip found.",
    ),
)


def with_engine_options(*, flip: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options of how an engine is run, with ``flip`` those of its flip-test.

    The command gets them all as one ``EngineOptions``, named ``engine_options``.
    """
    options = _ENGINE_OPTIONS + _FLIP_OPTIONS if flip else _ENGINE_OPTIONS

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def gathered(**given: Any) -> Any:
            from hrnet_deploy.runtime.engine_options import EngineOptions

            names = {field.name for field in dataclasses.fields(EngineOptions)} & given.keys()
            chosen = EngineOptions(**{name: given.pop(name) for name in names})
            return command(**given, engine_options=chosen)

        for option in reversed(options):
            gathered = option(gathered)
        return gathered

    return decorate


def say(line: str) -> None:
    """Tell the user on stderr; a "." at the end stays, since it may be a command's folder."""
    click.echo(one_line(line), err=True)


def print_table(table: Table) -> None:
    """A rich table on stdout; full width where stdout is not a terminal."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else 100
    Console(width=width, highlight=False).print(table)


def print_json(value: Any) -> None:
    """Deterministic JSON on stdout."""
    from hrnet_deploy.files import json_text

    click.echo(json_text(value), nl=False)
