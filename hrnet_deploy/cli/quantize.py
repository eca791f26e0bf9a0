"""``hrnet-deploy quantize``: a checkpoint to an 8-bit engine that keeps its AP."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hrnet_deploy.cli.options import (
    FILE,
    FiniteRange,
    boxes_option,
    flip_option,
    force_option,
    input_size_option,
    json_option,
    keypoints_option,
    print_json,
    print_table,
    recipe_option,
    say,
    static_batch_option,
    threads_option,
)
from hrnet_deploy.errors import command_line
from hrnet_deploy.files import check_input_file

if TYPE_CHECKING:
    from rich.table import Table

    from hrnet_deploy.export.quantization import EightBit
    from hrnet_deploy.export.quantize import Quantized
    from hrnet_deploy.export.settings import Precision

BLOCKS_SHOWN = 10
FIGURES = ("AP", "AP50", "AP75", "APm", "APl", "AR")


@click.command("quantize")
@click.argument("checkpoint", type=FILE)
@click.option("-o", "--output", type=FILE, help="The .onnx file. Default: w32.int8.onnx.")
@click.option(
    "--precision",
    type=click.Choice(["int8", "fp8"]),
    default="int8",
    show_default=True,
    help="The 8 bits; fp8 (E4M3) is for TensorRT 10 and later on Ada, Hopper and later.",
)
@click.option(
    "--float",
    "float_precision",
    type=click.Choice(["fp32", "fp16"]),
    help="What stays float; fp16 is for TensorRT 10 and later. Default: fp32, with fp8 fp16.",
)
@click.option("--images", type=FILE, required=True, help="The folder of the pictures.")
@click.option("--annotations", type=FILE, required=True, help="COCO keypoints file (.json).")
@boxes_option
@click.option(
    "--max-ap-drop",
    type=FiniteRange(0, 100),
    default=0.3,
    show_default=True,
    help="Points of AP that may be lost.",
)
@click.option(
    "--calibration",
    type=click.IntRange(1, 100_000),
    default=256,
    show_default=True,
    help="Persons that give the ranges.",
)
@click.option(
    "--sample",
    type=click.IntRange(1, 100_000),
    default=16,
    show_default=True,
    help="Persons that rank the blocks.",
)
@click.option("--limit", type=click.IntRange(1), help="AP on the first images of the file only.")
@input_size_option
@keypoints_option
@recipe_option
@flip_option
@static_batch_option
@click.option("--allow-unknown", is_flag=True, help="Accept a file unlike the published one.")
@click.option(
    "--backend",
    type=click.Choice(["auto", "onnxruntime", "openvino"]),
    default="auto",
    show_default=True,
    help="What measures AP; auto: the fastest there is.",
)
@threads_option
@force_option
@json_option
def command(
    checkpoint: Path,
    output: Path | None,
    precision: EightBit,
    float_precision: Precision | None,
    images: Path,
    annotations: Path,
    boxes: Path | None,
    max_ap_drop: float,
    calibration: int,
    sample: int,
    limit: int | None,
    input_size: tuple[int, int] | None,
    keypoints: str | None,
    recipe: str | None,
    flip: bool,
    batch: int | None,
    allow_unknown: bool,
    backend: str,
    threads: int | None,
    force: bool,
    as_json: bool,
) -> None:
    """Turn CHECKPOINT into an 8-bit ONNX file that keeps its AP.

    The ranges come from the persons in the pictures. Every block is quantised alone to see what
    it loses; the worst stay float until AP drops by no more than allowed. Where that cannot
    be had the exit code is 1 and nothing is written.
    """
    check_input_file(checkpoint, what="checkpoint")
    check_input_file(annotations, what="annotation file")
    from hrnet_deploy.cli.progress import progress_bar
    from hrnet_deploy.export.mixture import QuantizeSettings
    from hrnet_deploy.export.quantize import quantization_facts, quantize_checkpoint
    from hrnet_deploy.export.settings import ExportSettings

    settings = QuantizeSettings(
        images=images,
        annotations=annotations,
        boxes=boxes,
        precision=precision,
        float_precision=float_precision,
        max_ap_drop=max_ap_drop,
        calibration=calibration,
        sample=sample,
        limit=limit,
        backend=backend,
        threads=threads,
        export=ExportSettings(
            output=output,
            input_size_hw=input_size,
            keypoints=keypoints,
            recipe=recipe,
            flip_test=flip,
            static_batch=batch,
            allow_unknown=allow_unknown,
            force=force,
        ),
    )
    result = quantize_checkpoint(
        checkpoint, settings, say=say, bar=lambda unit: progress_bar(unit=unit)
    )
    if as_json:
        facts = quantization_facts(result)
        written = {"path": str(result.path), "spec": dataclasses.asdict(result.spec)}
        print_json({**written, **facts, "parity": dataclasses.asdict(result.parity)})
        return
    print_table(_figures_table(result))
    print_table(_blocks_table(result))
    say(f"next: {_next_step(result)}")


def _next_step(result: Quantized) -> str:
    """The command that the file was made for: on a processor, or with TensorRT."""
    if result.spec.float_precision == "fp32" and result.spec.precision == "int8":
        return command_line("benchmark", result.path, "--backend", "openvino")
    return command_line("build", result.path)


def _figures_table(result: Quantized) -> Table:
    """AP before and after, and how far the poses are from PyTorch's."""
    from rich.table import Table

    table = Table(title=result.path.name)
    for column in ("", "fp32", result.spec.precision, "change"):
        table.add_column(column, justify="right" if column else "left")
    for name in FIGURES:
        before, after = result.before[name], result.after[name]
        if before is None or after is None:
            table.add_row(name, "n/a", "n/a", "")
        else:
            cells = (f"{100 * value:.2f}" for value in (before, after, after - before))
            table.add_row(name, *cells)
    layers = result.layers
    floats = f"convolutions in {result.spec.float_precision}"
    table.add_row(floats, str(layers), f"{result.float_layers} of {layers}", "")
    px = result.parity.keypoint_px
    table.add_row("keypoint error p50, px", "", f"{px.p50:.3g}", "")
    table.add_row("keypoint error p95, px", "", f"{px.p95:.3g}", "")
    if result.parity.oks_mean is not None:
        table.add_row("OKS to PyTorch, mean", "", f"{result.parity.oks_mean:.4f}", "")
    budget = result.spec.tolerances["ap_drop"]
    table.caption = f"allowed: {budget:g} points of AP; {result.persons} persons, {result.engine}"
    return table


def _blocks_table(result: Quantized) -> Table:
    """The blocks that lose most when they alone are quantised."""
    from rich.table import Table

    spec = result.spec
    table = Table(title=f"most sensitive {BLOCKS_SHOWN} of {len(result.losses)} blocks")
    for column in ("block", "mean px", "p95 px", "heatmap error", "written as"):
        table.add_column(column, justify="left" if column == "block" else "right")
    for loss in result.losses[:BLOCKS_SHOWN]:
        kept = spec.float_precision if loss.block in result.float_blocks else spec.precision
        figures = (f"{value:.3g}" for value in (loss.mean_px, loss.p95_px, loss.heatmap_mean))
        table.add_row(loss.block, *figures, kept)
    return table
