"""COCO keypoint AP and AR, computed by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hrnet_deploy.errors import require

STATS = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")
"""The ten figures of COCO's keypoint summary, in its order."""

Stats = dict[str, float | None]


def coco_stats(
    annotations: Sequence[Mapping[str, Any]],
    detections: Sequence[Mapping[str, Any]],
    *,
    image_ids: Sequence[int],
    category_ids: Sequence[int],
    sigmas: Sequence[float],
) -> Stats:
    """The figures of ``STATS`` in 0 to 1 over ``image_ids``, None where COCO prints -1.

    ``annotations`` and ``detections`` are entries of COCO files and stay as they are. Without
    detections everything that is defined is 0; without labelled persons nothing is defined.
    """
    evaluation = matched(
        annotations,
        detections,
        image_ids=image_ids,
        category_ids=category_ids,
        sigmas=sigmas,
    )
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.accumulate()
        evaluation.summarize()
    values = [float(value) for value in evaluation.stats]
    return {name: None if value < 0 else value for name, value in zip(STATS, values, strict=True)}


def matched(
    annotations: Sequence[Mapping[str, Any]],
    detections: Sequence[Mapping[str, Any]],
    *,
    image_ids: Sequence[int],
    category_ids: Sequence[int],
    sigmas: Sequence[float],
    thresholds: Sequence[float] | None = None,
) -> Any:
    """A ``pycocotools.cocoeval.COCOeval`` that has matched detections with persons image by image.

    Takes what ``coco_stats`` takes. Its ids count ``annotations`` and ``detections`` from 1.
    ``thresholds`` are OKS values, None for COCO's ten from 0.5 to 0.95.
    """
    coco = require("pycocotools.coco", extra="eval", purpose="evaluation")
    cocoeval = require("pycocotools.cocoeval", extra="eval", purpose="evaluation")
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = cocoeval.COCOeval(
            _index(coco, _numbered(annotations), image_ids, category_ids),
            _index(coco, _numbered(map(_with_extent, detections)), image_ids, category_ids),
            "keypoints",
        )
        evaluation.params.kpt_oks_sigmas = np.asarray(sigmas, np.float64)
        evaluation.params.imgIds = sorted(image_ids)
        evaluation.params.catIds = list(category_ids)
        if thresholds is not None:
            evaluation.params.iouThrs = np.asarray(thresholds, np.float64)
        evaluation.evaluate()
    return evaluation


def _numbered(entries: Any) -> list[dict[str, Any]]:
    """Copies with ids from 1: pycocotools takes a match with id 0 for no match at all."""
    return [{**entry, "id": number} for number, entry in enumerate(entries, start=1)]


def _with_extent(detection: Mapping[str, Any]) -> dict[str, Any]:
    """Area and box that the keypoints span, as pycocotools' ``loadRes`` sets them."""
    points = np.asarray(detection["keypoints"], np.float64).reshape(-1, 3)[:, :2]
    start, size = points.min(axis=0), np.ptp(points, axis=0)
    return {
        **detection,
        "iscrowd": 0,
        "area": float(size[0] * size[1]),
        "bbox": [*start.tolist(), *size.tolist()],
    }


def _index(
    coco: Any,
    entries: list[dict[str, Any]],
    image_ids: Sequence[int],
    category_ids: Sequence[int],
) -> Any:
    """A COCO object without ``loadRes``, which fails on an empty list."""
    index = coco.COCO()
    index.dataset = {
        "images": [{"id": image_id} for image_id in image_ids],
        "categories": [{"id": category_id} for category_id in category_ids],
        "annotations": entries,
    }
    index.createIndex()
    return index
