"""What an export is asked for, checked before PyTorch is imported."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hrnet_deploy.errors import InputError, Subject
from hrnet_deploy.files import check_input_file, check_output_file

Precision = Literal["fp32", "fp16"]
Decode = Literal["quarter", "dark", "none"]


@dataclass(frozen=True)
class ExportSettings:
    """What the user chose; None leaves the choice to the recipe, the checkpoint or the default."""

    output: Path | None = None
    precisions: tuple[Precision, ...] = ("fp32", "fp16")
    input_size_hw: tuple[int, int] | None = None
    keypoints: str | None = None
    recipe: str | None = None
    flip_test: bool = True
    shift_heatmap: bool | None = None
    decode: Decode | None = None
    static_batch: int | None = None
    heatmaps: bool = True
    allow_unknown: bool = False
    keep_rejected: bool = False
    force: bool = False


def check_outputs(source: Path, settings: ExportSettings) -> dict[Precision, Path]:
    """Where each precision goes, checked before any work is done.

    ``w32.onnx`` and ``w32.fp16.onnx`` beside the checkpoint; ``-o x.onnx`` gives ``x.onnx`` and
    ``x.fp16.onnx``, or exactly ``x.onnx`` where one precision is asked for.
    """
    check_input_file(source, what="checkpoint")
    base = settings.output or source.with_suffix(".onnx")
    if base.suffix.lower() != ".onnx":
        raise InputError(base, "is not an .onnx name", "Give an output that ends in .onnx")
    half = base.with_suffix(".fp16.onnx")
    targets = {"fp32": base, "fp16": half}
    if settings.output and len(settings.precisions) == 1:
        targets = dict.fromkeys(settings.precisions, base)
    chosen = {precision: targets[precision] for precision in settings.precisions}
    for target in chosen.values():
        check_engine_output(target, source, force=settings.force)
    return chosen


def check_engine_output(target: Path, source: Path, *, force: bool) -> Path:
    """``target``, if it and its card can be written."""
    check_output_file(target, force=force, inputs=(source,))
    check_output_file(card_path(target), force=force)
    return target


def card_path(artefact: Subject) -> Path:
    """The card beside an artefact: ``w32.onnx.json``."""
    return Path(f"{os.fspath(artefact)}.json")
