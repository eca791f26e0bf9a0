"""Graphs that suppress overlaps themselves.

EfficientNMS: ``num_dets``, ``det_boxes`` (1, N, 4), ``det_scores``, ``det_classes`` (any names
that hold these words). mmdeploy: ``dets`` (1, N, 5) with the score last, and ``labels``. One
table: (1, N, 6) of edges, score, class, or (N, 7) of image, edges, class, score. What goes in is
told by none of them: a configuration must say it.
"""

from __future__ import annotations

import numpy as np

from hrnet_deploy.predict.detector.candidates import Arrays, Candidates, Shape, Signature
from hrnet_deploy.predict.detector.config import DetectorConfig
from hrnet_deploy.predict.detector.ssd import as_edges

_ROW, _IMAGE_ROW, _SCORED_BOX = 6, 7, 5


def has_form(signature: Signature) -> bool:
    """Whether the outputs are those of such a graph."""
    shapes: list[Shape] = list(signature.outputs.values())
    if _named(signature.outputs, "boxes") and _named(signature.outputs, "num"):
        return True
    last = [shape[-1] if shape else None for shape in shapes]
    if len(shapes) == 1:
        return (len(shapes[0]) == 3 and last[0] == _ROW) or (
            len(shapes[0]) == 2 and last[0] == _IMAGE_ROW
        )
    return len(shapes) == 2 and _SCORED_BOX in last


def decode(outputs: Arrays, size_hw: tuple[int, int], config: DetectorConfig) -> Candidates:
    """Persons of one picture."""
    boxes_name = _named(outputs, "boxes")
    if boxes_name and (num := _named(outputs, "num")):
        count = int(outputs[num].ravel()[0])
        boxes = outputs[boxes_name].reshape(-1, 4)[:count]
        scores = outputs[_named(outputs, "scores")].ravel()[:count]
        labels = outputs[_named(outputs, "classes") or _named(outputs, "labels")].ravel()[:count]
    elif len(outputs) == 2:
        first, second = sorted(outputs.values(), key=lambda a: a.shape[-1] != _SCORED_BOX)
        table, labels = first.reshape(-1, _SCORED_BOX), second.ravel()
        boxes, scores = table[:, :4], table[:, 4]
    else:
        first = next(iter(outputs.values()))
        table = first.reshape(-1, first.shape[-1])
        if table.shape[1] == _IMAGE_ROW:
            boxes, labels, scores = table[:, 1:5], table[:, 5], table[:, 6]
        else:
            boxes, scores, labels = table[:, :4], table[:, 4], table[:, 5]
    persons = np.round(labels) == config.person_class
    return as_edges(boxes[persons], scores[persons], config)


def _named(outputs: Arrays | dict[str, Shape], word: str) -> str:
    """The first name that holds ``word``; empty where none does."""
    return next((name for name in outputs if word in name.lower()), "")
