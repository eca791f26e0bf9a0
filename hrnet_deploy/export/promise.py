"""The ModelSpec of an engine to be: what is known of the model, joined with what the user chose."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from hrnet_deploy import __version__
from hrnet_deploy.errors import InputError, require
from hrnet_deploy.export.choice import ModelChoice
from hrnet_deploy.export.gates import DECODE_TOLERANCE_PX, HEATMAP_TOLERANCE
from hrnet_deploy.export.recipes import Recipe
from hrnet_deploy.export.settings import ExportSettings, Precision
from hrnet_deploy.spec import ModelSpec


@dataclass(frozen=True)
class Source:
    """The file that an engine is made from, as read; ``static_batch`` is None where N is free."""

    path: Path
    sha256: str
    architecture: str
    input_size_hw: tuple[int, int]
    heatmap_size_hw: tuple[int, int]
    static_batch: int | None
    recipe: str | None


def promised_spec(
    source: Source, facts: ModelChoice | Recipe, settings: ExportSettings
) -> ModelSpec:
    """The spec in float32, the same for checkpoints and for adopted networks.

    Raises InputError where a flip-test is asked for and the flip pairs are unknown.
    """
    keypoints = facts.keypoints
    if settings.flip_test and keypoints.flip_pairs is None:
        raise InputError(
            source.path,
            f"the flip pairs of its {keypoints.count} keypoints are unknown",
            "Pass --keypoints NAME, a --recipe with flip_pairs, or --no-flip",
        )
    shift = facts.shift_heatmap if settings.shift_heatmap is None else settings.shift_heatmap
    spec = ModelSpec(
        architecture=source.architecture,
        input_size_hw=source.input_size_hw,
        heatmap_size_hw=source.heatmap_size_hw,
        source_sha256=source.sha256,
        keypoint_set=keypoints.name,
        keypoint_names=keypoints.names,
        flip_pairs=keypoints.flip_pairs,
        sigmas=keypoints.sigmas,
        skeleton=keypoints.skeleton,
        flip_test=settings.flip_test,
        shift_heatmap=shift,
        decode=settings.decode or facts.decode,
        box_padding=facts.box_padding,
        network_color_order=facts.network_color_order,
        mean_rgb=facts.mean_rgb,
        std_rgb=facts.std_rgb,
        static_batch=source.static_batch,
        has_heatmaps=settings.heatmaps,
        recipe=source.recipe,
        versions={"hrnet_deploy": __version__, "onnx": _onnx_version()},
    )
    return with_precision(spec, "fp32")


def with_precision(spec: ModelSpec, precision: Precision) -> ModelSpec:
    """``spec`` in a precision, with the gates that parity will hold it to."""
    tolerances = {
        "heatmap": HEATMAP_TOLERANCE[precision],
        "decode_px": DECODE_TOLERANCE_PX[spec.decode],
    }
    return dataclasses.replace(spec, precision=precision, tolerances=tolerances)


def _onnx_version() -> str:
    version: str = require("onnx", extra="export", purpose="export").__version__
    return version
