"""A network partly in 8 bit: its graphs, and the search for how much of it may be."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.engines import load_engine
from hrnet_deploy.errors import GateError, InputError
from hrnet_deploy.evaluation.metric import Stats
from hrnet_deploy.evaluation.run import evaluate
from hrnet_deploy.evaluation.settings import EvalSettings
from hrnet_deploy.export.calibration import calibrate, convolution_inputs
from hrnet_deploy.export.checkpoint import Checkpoint, read_checkpoint
from hrnet_deploy.export.gates import DECODE_TOLERANCE_PX, POSE_OKS_MEAN, POSE_P95_CELLS
from hrnet_deploy.export.model import build_hrnet, float_dtype
from hrnet_deploy.export.quantization import EightBit, Quantization, may_be_quantized
from hrnet_deploy.export.run import checkpoint_spec
from hrnet_deploy.export.sensitivity import blocks_of
from hrnet_deploy.export.settings import ExportSettings, Precision
from hrnet_deploy.files import StagedFile
from hrnet_deploy.spec import ModelSpec
from hrnet_deploy.talk import Say

if TYPE_CHECKING:
    import onnx

FEW_PERSONS = 1000

USUAL_FLOAT: dict[EightBit, Precision] = {"int8": "fp32", "fp8": "fp16"}
"""Processors compute halves in float32 anyway; FP8 is for GPUs only."""

POINTS = 100.0
"""AP in points, as papers print it, per AP in 0 to 1."""

Progress = Callable[[int, int], None]
ProgressBar = Callable[[str], AbstractContextManager[Progress]]
"""Opens a progress display for steps of the unit that is named."""


@dataclass(frozen=True)
class QuantizeSettings:
    """Data, budget and effort; ``export`` is what the graph itself shall be.

    ``precision`` is that of the quantised convolutions, ``float_precision`` that of the others,
    None for the usual one. ``max_ap_drop`` is in points (0.3 is 0.003 of AP). ``calibration``
    crops give the ranges, ``sample`` crops rank the blocks; AP is measured on the first ``limit``
    pictures by ``backend``.
    """

    images: Path
    annotations: Path
    boxes: Path | None = None
    precision: EightBit = "int8"
    float_precision: Precision | None = None
    max_ap_drop: float = 0.3
    calibration: int = 256
    sample: int = 16
    limit: int | None = None
    backend: str | None = "auto"
    threads: int | None = None
    export: ExportSettings = field(default_factory=ExportSettings)

    @property
    def measured_by(self) -> str | None:
        """The backend that measures AP before and after: fp8 is for ONNX Runtime alone."""
        return "onnxruntime" if self.precision == "fp8" else self.backend

    @property
    def unquantized(self) -> Precision:
        """The precision of what stays float."""
        return self.float_precision or USUAL_FLOAT[self.precision]


class Network:
    """One checkpoint as graphs with any of its convolutions in 8 bit."""

    def __init__(self, path: Path, settings: QuantizeSettings, say: Say) -> None:
        self.checkpoint: Checkpoint = read_checkpoint(path)
        self.spec = checkpoint_spec(self.checkpoint, settings.export, say=say)
        self.quantized_spec = _quantized_spec(self.spec, settings)
        self._weights = self.checkpoint.arrays
        self._limits: dict[str, float] = {}
        self._settings = settings
        # Decoding may have a convolution as well (DARK), which is none of the network's.
        convolutions = [
            name
            for name in convolution_inputs(self.build(frozenset()))
            if f"{name}.weight" in self._weights
        ]
        self.layers = len(convolutions)
        self.blocks = blocks_of(
            name
            for name in convolutions
            if may_be_quantized(name, self._weights[f"{name}.weight"], settings.precision)
        )
        if not self.blocks:
            problem = f"has no convolution that can be quantised to {settings.precision}"
            raise InputError(path, problem, "Give --precision int8, or export it in fp16")

    def calibrate(self, crops_nhwc: NDArray[np.uint8], progress: Progress) -> None:
        """Measure the range of everything that a convolution reads."""
        model = self.without_flip(frozenset())
        self._limits = calibrate(
            model,
            crops_nhwc,
            source=self.checkpoint.path,
            kind=self._settings.precision,
            threads=self._settings.threads,
            progress=progress,
        )

    def quantised_without(self, blocks: list[str]) -> frozenset[str]:
        """All convolutions that may be quantised but those of ``blocks``."""
        return frozenset(
            layer
            for block, layers in self.blocks.items()
            if block not in blocks
            for layer in layers
        )

    def build(self, quantised: frozenset[str]) -> onnx.ModelProto:
        """The graph with ``quantised`` in 8 bit, the float32 one where there are none."""
        return self._build(self.quantized_spec if quantised else self.spec, quantised)

    def without_flip(self, quantised: frozenset[str]) -> onnx.ModelProto:
        """The same without flip-test and with a free batch, to measure with.

        What is not quantised is float32, so that only the 8 bit are seen.
        """
        spec = self.quantized_spec if quantised else self.spec
        plain = dataclasses.replace(
            spec,
            float_precision="fp32",
            flip_test=False,
            shift_heatmap=False,
            has_heatmaps=True,
            static_batch=None,
        )
        return self._build(plain, quantised)

    def _build(self, spec: ModelSpec, quantised: frozenset[str]) -> onnx.ModelProto:
        quantization = None
        if quantised:
            kind = self._settings.precision
            quantization = Quantization(self._limits, quantised, kind, float_dtype(spec))
        return build_hrnet(
            spec,
            self.checkpoint.architecture,
            self._weights,
            source=self.checkpoint.path,
            quantization=quantization,
        )


class Search:
    """Bisects on the number of blocks that stay float, the worst of ``order`` first."""

    def __init__(
        self,
        network: Network,
        settings: QuantizeSettings,
        target: Path,
        order: list[str],
        say: Say,
        bar: ProgressBar,
    ) -> None:
        self.order = order
        self.figures: dict[int, Stats] = {}
        self._network, self._settings, self._target = network, settings, target
        self._say, self._bar = say, bar
        self.engine, self.persons = "", 0

    def run(self) -> int:
        """The smallest number found that holds the budget; GateError where only all would."""
        self._say("measuring AP in float32")
        self.before = self._evaluate(frozenset())
        if self.before["AP"] is None:
            problem = "has no labelled person: AP is undefined"
            raise InputError(self._settings.annotations, problem, "Give other annotations")
        if self.persons < FEW_PERSONS:
            self._say(
                f"AP is of {self.persons} persons only: a part of its changes is chance;"
                f" {FEW_PERSONS} or more make a budget of tenths of a point meaningful"
            )
        count = fewest_kept(len(self.order), self._holds)
        if count is None:
            raise self._refused()
        return count

    def _holds(self, count: int) -> bool:
        quantised = self._network.quantised_without(self.order[:count])
        self.figures[count] = self._evaluate(quantised)
        drop = ap_drop(self.before, self.figures[count])
        kept = self._settings.unquantized
        self._say(f"{count} blocks in {kept}: {drop:.2f} points of AP lost")
        return drop <= self._settings.max_ap_drop

    def _evaluate(self, quantised: frozenset[str]) -> Stats:
        settings = self._settings
        content = self._network.build(quantised).SerializeToString()
        with StagedFile(self._target) as staged:
            staged.path.write_bytes(content)
            with (
                load_engine(
                    staged.path, backend=settings.measured_by, threads=settings.threads
                ) as engine,
                self._bar("persons") as progress,
            ):
                self.engine = engine.info.backend
                result = evaluate(
                    engine,
                    settings.annotations,
                    settings.images,
                    boxes=settings.boxes,
                    settings=EvalSettings(
                        limit=settings.limit, allow_missing=None, keep_going=None
                    ),
                    progress=progress,
                )
        self.persons = result.counts["persons"]
        return result.stats

    def _refused(self) -> GateError:
        best = min(ap_drop(self.before, stats) for stats in self.figures.values())
        return GateError(
            self._target,
            f"the best of {len(self.figures)} mixtures loses {best:.2f} points of AP,"
            f" {self._settings.max_ap_drop:g} are allowed",
            "Nothing was written; allow more with --max-ap-drop, or calibrate on more pictures",
        )


def fewest_kept(blocks: int, holds: Callable[[int], bool]) -> int | None:
    """The smallest number below ``blocks`` for which the budget holds, by bisection.

    ``holds`` is asked about none first: most networks need no more. It need not be monotonous;
    the answer always held when it was asked. None where nothing below ``blocks`` did.
    """
    low, high = -1, blocks
    trial = 0
    while low + 1 < high:
        if holds(trial):
            high = trial
        else:
            low = trial
        trial = (low + high) // 2
    return None if high == blocks else high


def _quantized_spec(spec: ModelSpec, settings: QuantizeSettings) -> ModelSpec:
    tolerances = {
        "ap_drop": settings.max_ap_drop,
        "keypoint_p95_cells": POSE_P95_CELLS,
        "oks_mean": POSE_OKS_MEAN,
        "decode_px": DECODE_TOLERANCE_PX[spec.decode],
    }
    return dataclasses.replace(
        spec,
        precision=settings.precision,
        float_precision=settings.unquantized,
        tolerances=tolerances,
    )


def points(stats: Stats) -> float:
    """AP in points; an undefined one counts as 0."""
    return POINTS * (stats["AP"] or 0.0)


def ap_drop(before: Stats, after: Stats) -> float:
    """Points of AP that were lost."""
    return points(before) - points(after)
