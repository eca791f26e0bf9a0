"""What the convolutions of a network read, over pictures: histograms, and a limit for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.errors import Subject, require
from hrnet_deploy.export.cpu_session import CpuSession
from hrnet_deploy.export.quantization import LARGEST, EightBit
from hrnet_deploy.spec import INPUT_NAME

if TYPE_CHECKING:
    import onnx

BINS = 2048
CANDIDATES = 128
"""Limits that are tried, evenly spaced up to the largest magnitude seen."""

BATCH = 4
"""Crops at a time: all activations of a batch are in memory at once (W32: 0.1 GB a crop)."""

DIGITS = 3
"""Significant digits of a limit, so that the last bits of a sum do not change the file."""

Progress = Callable[[int, int], None]
FloatArray = NDArray[np.floating]


class Histogram:
    """Magnitudes in ``BINS`` equal bins from zero; the range doubles whenever it is left."""

    def __init__(self) -> None:
        self.width = 0.0
        self.counts = np.zeros(BINS, np.int64)

    def add(self, values: NDArray[np.float32]) -> None:
        """Count ``values`` of any shape."""
        magnitudes = np.abs(values).ravel()
        largest = float(magnitudes.max(initial=0.0))
        if largest == 0:
            self.counts[0] += magnitudes.size
            return
        if self.width == 0:
            # A power of two, so that the bins do not depend on the order of the batches.
            self.width = 2.0 ** np.ceil(np.log2(largest))
        while self.width < largest:
            self.counts = np.concatenate(
                [self.counts.reshape(-1, 2).sum(axis=1), np.zeros(BINS // 2, np.int64)]
            )
            self.width *= 2
        index = np.minimum((magnitudes * (BINS / self.width)).astype(np.int64), BINS - 1)
        self.counts += np.bincount(index, minlength=BINS)

    def limit(self, kind: EightBit = "int8") -> float:
        """The limit with the least squared error of rounding and clipping; 1 where all is zero.

        Zeros are exact whatever the limit, so that the first bin counts for nothing. The steps of
        fp8 grow with the value: clipping gains nothing there, and the largest bin is the limit.
        """
        counts = self.counts.copy()
        counts[0] = 0
        occupied = np.flatnonzero(counts)
        if not len(occupied):
            return 1.0
        centres = (np.arange(BINS) + 0.5) * (self.width / BINS)
        highest = (occupied[-1] + 1) * (self.width / BINS)
        if kind == "fp8":
            return _rounded(highest)
        limits = highest * np.arange(CANDIDATES // 4, CANDIDATES + 1) / CANDIDATES
        errors = [_squared_error(centres, counts, limit) for limit in limits]
        return _rounded(limits[int(np.argmin(errors))])


def _rounded(limit: float) -> float:
    return float(f"{limit:.{DIGITS}g}")


def _squared_error(centres: FloatArray, counts: NDArray[np.int64], limit: float) -> float:
    """Expected squared error: within the range that of rounding, beyond it that of clipping."""
    step = limit / LARGEST["int8"]
    beyond = np.maximum(centres - limit, 0)
    error = np.where(beyond > 0, beyond**2, step**2 / 12)
    return float((counts * error).sum())


def calibrate(
    model: onnx.ModelProto,
    crops_nhwc: NDArray[np.uint8],
    *,
    source: Subject = "calibration",
    kind: EightBit = "int8",
    threads: int | None = None,
    progress: Progress = lambda done, total: None,
) -> dict[str, float]:
    """The limit of everything that a convolution of the float32 ``model`` reads, by value name.

    ``crops_nhwc`` (N, h, w, 3) uint8 BGR are run ``BATCH`` at a time; N must be above 0.
    ``source`` is named in errors: EnvironmentFault where ONNX Runtime fails or lacks memory.
    """
    names = sorted(set(convolution_inputs(model).values()))
    session = CpuSession(
        _with_outputs(model, names), source, purpose="quantisation", threads=threads
    )
    histograms = {name: Histogram() for name in names}
    for start in range(0, len(crops_nhwc), BATCH):
        values = session.run({INPUT_NAME: crops_nhwc[start : start + BATCH]}, names)
        for name, value in zip(names, values, strict=True):
            histograms[name].add(value)
        progress(min(start + BATCH, len(crops_nhwc)), len(crops_nhwc))
    return {name: histogram.limit(kind) for name, histogram in histograms.items()}


def convolution_inputs(model: onnx.ModelProto) -> dict[str, str]:
    """For each convolution of ``model``, in order, the name of the value that it reads."""
    return {node.name: node.input[0] for node in model.graph.node if node.op_type == "Conv"}


def _with_outputs(model: onnx.ModelProto, names: list[str]) -> bytes:
    """``model`` with further float32 outputs; the original is left as it is."""
    onnx = require("onnx", extra="export", purpose="quantisation")
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for name in names:
        value = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        copy.graph.output.append(value)
    content: bytes = copy.SerializeToString()
    return content
