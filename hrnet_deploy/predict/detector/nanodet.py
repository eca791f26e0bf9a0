"""NanoDet-Plus: one output (1, M, classes + 4 * 8) over the cells of strides 8, 16, 32, 64.

The classes are probabilities; then come, for left, top, right and bottom, eight logits of a
distribution over 0 to 7 strides from the cell's corner. Input: BGR, mean and deviation of
ImageNet in grey levels, stretched (RangiLyu/nanodet, ``nanodet_plus_head.py``, ``config/``).
"""

from __future__ import annotations

import numpy as np

from hrnet_deploy.predict.detector.candidates import (
    Arrays,
    Candidates,
    Signature,
    cells,
    grid,
)
from hrnet_deploy.predict.detector.config import DetectorConfig

STRIDES = (8, 16, 32, 64)
BINS = 8
"""``reg_max`` 7, and zero."""
MEAN_BGR = (103.53, 116.28, 123.675)
STD_BGR = (57.375, 57.12, 58.395)


def recognised(signature: Signature) -> DetectorConfig | None:
    """The configuration if the graph has this form, otherwise None."""
    shapes, size = list(signature.outputs.values()), signature.size_hw
    if len(shapes) != 1 or len(shapes[0]) != 3 or size[0] is None or size[1] is None:
        return None
    _, rows, columns = shapes[0]
    fits = rows == cells((size[0], size[1]), STRIDES, ceil=True)
    if not fits or columns is None or columns <= 4 * BINS:
        return None
    return DetectorConfig("nanodet", resize="stretch", color="bgr", mean=MEAN_BGR, std=STD_BGR)


def decode(outputs: Arrays, size_hw: tuple[int, int], config: DetectorConfig) -> Candidates:
    """Persons of one picture, in pixels of the input."""
    first = next(iter(outputs.values()))
    table = first.reshape(-1, first.shape[-1])
    classes = table.shape[1] - 4 * BINS
    places, steps = grid(size_hw, STRIDES, ceil=True)
    logits = table[:, classes:].reshape(-1, 4, BINS)
    weights = np.exp(logits - logits.max(axis=2, keepdims=True))
    mean = (weights * np.arange(BINS)).sum(axis=2) / weights.sum(axis=2)
    distances, corner = mean * steps[:, None], places * steps[:, None]
    xyxy = np.concatenate([corner - distances[:, :2], corner + distances[:, 2:]], axis=1)
    limit = np.array([size_hw[1], size_hw[0]] * 2)
    return Candidates(np.clip(xyxy, 0, limit), table[:, config.person_class], "input")
