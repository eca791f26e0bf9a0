"""YOLOX: one output (1, M, 5 + classes) over the cells of strides 8, 16, 32 (and 64 for P6).

Columns are x, y, w, h, objectness and class probabilities. As exported by default, x and y are
offsets in their cell and w and h logarithms, all in strides; exported with decode_in_inference
they are pixels. Input: BGR grey levels, letterboxed with 114 (Megvii-BaseDetection/YOLOX,
``tools/export_onnx.py``, ``demo/ONNXRuntime``).
"""

from __future__ import annotations

import numpy as np

from hrnet_deploy.predict.detector.candidates import (
    Arrays,
    Candidates,
    Signature,
    cells,
    from_centers,
    grid,
)
from hrnet_deploy.predict.detector.config import DetectorConfig

STRIDES = (8, 16, 32)
STRIDES_P6 = (8, 16, 32, 64)
COCO_COLUMNS = 85
_MAX_EXPONENT = 20.0


def recognised(signature: Signature) -> DetectorConfig | None:
    """The configuration if the graph has this form, otherwise None."""
    shapes, size = list(signature.outputs.values()), signature.size_hw
    if len(shapes) != 1 or len(shapes[0]) != 3 or size[0] is None or size[1] is None:
        return None
    _, rows, columns = shapes[0]
    plain = rows == cells((size[0], size[1]), STRIDES, ceil=False)
    p6 = rows == cells((size[0], size[1]), STRIDES_P6, ceil=False) and columns == COCO_COLUMNS
    if columns is None or columns <= 5 or not (plain or p6):
        return None
    return DetectorConfig("yolox", color="bgr")


def decode(outputs: Arrays, size_hw: tuple[int, int], config: DetectorConfig) -> Candidates:
    """Persons of one picture, in pixels of the input."""
    table = next(iter(outputs.values())).reshape(-1, next(iter(outputs.values())).shape[-1])
    strides = STRIDES if len(table) == cells(size_hw, STRIDES, ceil=False) else STRIDES_P6
    places, steps = grid(size_hw, strides, ceil=False)
    xy, wh = table[:, :2], table[:, 2:4]
    scaled = places * steps[:, None]
    if np.median(np.abs(xy)) < np.median(np.abs(xy - scaled)):  # offsets, not pixels
        xy = (xy + places) * steps[:, None]
        wh = np.exp(np.minimum(wh, _MAX_EXPONENT)) * steps[:, None]
    scores = table[:, 4] * table[:, 5 + config.person_class]
    return Candidates(from_centers(np.concatenate([xy, wh], axis=1)), scores, "input")
