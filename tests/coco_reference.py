"""What pycocotools says, which the package's own matching and figures must equal."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hrnet_deploy.evaluation.metric import STATS

Entries = Sequence[Mapping[str, Any]]


def reference(
    annotations: Entries,
    detections: Entries,
    *,
    image_ids: Sequence[int],
    category_ids: Sequence[int],
    sigmas: Sequence[float],
    thresholds: Sequence[float] | None = None,
) -> Any:
    """A ``COCOeval`` after ``evaluate``; ids of persons and detections count them from 1.

    From 1 because pycocotools takes a match with id 0 for no match at all.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def index(entries: list[dict[str, Any]]) -> Any:
        """Without ``loadRes``, which fails on an empty list."""
        coco = COCO()
        coco.dataset = {
            "images": [{"id": image_id} for image_id in image_ids],
            "categories": [{"id": category_id} for category_id in category_ids],
            "annotations": [{**entry, "id": n} for n, entry in enumerate(entries, start=1)],
        }
        coco.createIndex()
        return coco

    with contextlib.redirect_stdout(io.StringIO()):
        found = [_with_extent(entry) for entry in detections]
        evaluation = COCOeval(index([dict(e) for e in annotations]), index(found), "keypoints")
        evaluation.params.kpt_oks_sigmas = np.asarray(sigmas, np.float64)
        evaluation.params.imgIds = sorted(image_ids)
        evaluation.params.catIds = list(category_ids)
        if thresholds is not None:
            evaluation.params.iouThrs = np.asarray(thresholds, np.float64)
        evaluation.evaluate()
    return evaluation


def reference_stats(annotations: Entries, detections: Entries, **how: Any) -> dict[str, Any]:
    """The ten figures, None where pycocotools says -1."""
    evaluation = reference(annotations, detections, **how)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.accumulate()
        evaluation.summarize()
    values = [None if value < 0 else float(value) for value in evaluation.stats]
    return dict(zip(STATS, values, strict=True))


def _with_extent(detection: Mapping[str, Any]) -> dict[str, Any]:
    """Area and box that the keypoints span, as pycocotools' ``loadRes`` sets them."""
    points = np.asarray(detection["keypoints"], np.float64).reshape(-1, 3)[:, :2]
    start, size = points.min(axis=0), np.ptp(points, axis=0)
    box = [*start.tolist(), *size.tolist()]
    return {**detection, "iscrowd": 0, "area": float(size[0] * size[1]), "bbox": box}
