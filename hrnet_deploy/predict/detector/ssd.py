"""SSD: TensorFlow's detection outputs, Caffe's ``detection_out``, or decoded boxes with scores.

TensorFlow: ``detection_boxes`` (1, N, 4) as top, left, bottom, right in fractions,
``detection_classes`` counted from 1, ``detection_scores``; input uint8 RGB, channels last, of any
size. Caffe: one output (1, 1, N, 7) of image, label, score and edges in fractions. Otherwise, and
only where a configuration says "ssd": scores (1, M, classes) and boxes (1, M, 4) as it says.
"""

from __future__ import annotations

import numpy as np

from hrnet_deploy.predict.detector.candidates import (
    Arrays,
    Candidates,
    Signature,
    from_centers,
)
from hrnet_deploy.predict.detector.config import DetectorConfig

CAFFE_COLUMNS = 7
TENSORFLOW = {"detection_boxes", "detection_classes", "detection_scores"}


def recognised(signature: Signature) -> DetectorConfig | None:
    """The configuration if the graph has TensorFlow's form, otherwise None.

    Caffe's says nothing about its input and needs a configuration.
    """
    if set(map(_plain, signature.outputs)) >= TENSORFLOW and signature.channels_last:
        return DetectorConfig("ssd", resize="stretch", boxes="yxyx", units="unit", person_class=1)
    return None


def decode(outputs: Arrays, size_hw: tuple[int, int], config: DetectorConfig) -> Candidates:
    """Persons of one picture."""
    plain = {_plain(name): array for name, array in outputs.items()}
    if set(plain) >= TENSORFLOW:
        persons = plain["detection_classes"].ravel() == config.person_class
        boxes, scores = plain["detection_boxes"].reshape(-1, 4), plain["detection_scores"].ravel()
        return as_edges(boxes[persons], scores[persons], config)
    first = next(iter(outputs.values()))
    if len(outputs) == 1 and first.shape[-1] == CAFFE_COLUMNS:
        table = first.reshape(-1, CAFFE_COLUMNS)
        table = table[(table[:, 0] >= 0) & (table[:, 1] == config.person_class)]
        return Candidates(table[:, 3:], table[:, 2], "unit")
    by_columns = sorted(outputs.values(), key=lambda array: array.shape[-1] != 4)
    boxes, scores = by_columns[0].reshape(-1, 4), by_columns[1]
    return as_edges(boxes, scores.reshape(len(boxes), -1)[:, config.person_class], config)


def as_edges(boxes: np.ndarray, scores: np.ndarray, config: DetectorConfig) -> Candidates:
    """Boxes (M, 4) in the order and units of ``config``."""
    if config.boxes == "yxyx":
        boxes = boxes[:, [1, 0, 3, 2]]
    elif config.boxes == "cxcywh":
        boxes = from_centers(boxes)
    return Candidates(boxes, scores, "unit" if config.units == "unit" else "input")


def _plain(name: str) -> str:
    """``detection_boxes`` for ``detection_boxes:0``."""
    return name.split(":")[0]
