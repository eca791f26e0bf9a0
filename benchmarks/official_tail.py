"""What the official test code does after the last inference, its published steps written anew.

Person by person and picture by picture in Python: rescoring, OKS-NMS, a JSON file with indent, and
pycocotools from that file.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from hrnet_deploy.evaluation.oks import KEYPOINT_THRESHOLD, NMS_THRESHOLD

Person = dict[str, Any]


def persons_by_image(
    image_of: NDArray[np.int64],
    poses: NDArray[np.float32],
    box_scores: NDArray[np.float64],
    areas: NDArray[np.float64],
    center: NDArray[np.float32],
    scale: NDArray[np.float32],
) -> dict[int, list[Person]]:
    """One dictionary a person, as the official evaluation packs them."""
    grouped: dict[int, list[Person]] = defaultdict(list)
    for index, image in enumerate(image_of.tolist()):
        grouped[image].append(
            {
                "keypoints": poses[index],
                "score": box_scores[index],
                "area": areas[index],
                "center": center[index],
                "scale": scale[index],
            }
        )
    return grouped


def rescored_and_kept(
    grouped: dict[int, list[Person]], sigmas: NDArray[np.float64]
) -> dict[int, list[Person]]:
    """Scores by box and keypoints, then greedy OKS-NMS, picture by picture."""
    kept = {}
    for image, persons in grouped.items():
        for person in persons:
            total, counted = 0.0, 0
            for joint in range(len(sigmas)):
                score = person["keypoints"][joint][2]
                if score > KEYPOINT_THRESHOLD:
                    total, counted = total + score, counted + 1
            person["score"] = person["score"] * (total / counted if counted else 0)
        kept[image] = [persons[index] for index in _oks_nms(persons, sigmas)]
    return kept


def _oks_nms(persons: list[Person], sigmas: NDArray[np.float64]) -> list[int]:
    scores = np.array([person["score"] for person in persons])
    points = np.array([person["keypoints"].flatten() for person in persons])
    areas = np.array([person["area"] for person in persons])
    order, kept = scores.argsort()[::-1], []
    while order.size > 0:
        best = order[0]
        kept.append(int(best))
        similar = _oks(points[best], points[order[1:]], areas[best], areas[order[1:]], sigmas)
        order = order[np.where(similar <= NMS_THRESHOLD)[0] + 1]
    return kept


def _oks(one: Any, others: Any, area: Any, areas: Any, sigmas: Any) -> NDArray[np.float64]:
    variances = (sigmas * 2) ** 2
    x, y = one[0::3], one[1::3]
    similar = np.zeros(len(others))
    for index in range(len(others)):
        dx, dy = others[index, 0::3] - x, others[index, 1::3] - y
        mean_area = (area + areas[index]) / 2 + np.spacing(1)
        exponent = (dx**2 + dy**2) / variances / mean_area / 2
        similar[index] = np.sum(np.exp(-exponent)) / exponent.shape[0]
    return similar


def write_results(kept: dict[int, list[Person]], path: Path) -> None:
    """The results file, with indent and sorted keys."""
    results = []
    for image, persons in kept.items():
        points = np.array([person["keypoints"] for person in persons])
        flat = np.zeros((len(persons), points.shape[1] * 3))
        for joint in range(points.shape[1]):
            for part in range(3):
                flat[:, joint * 3 + part] = points[:, joint, part]
        results.extend(
            {
                "image_id": image,
                "category_id": 1,
                "keypoints": list(flat[index].tolist()),
                "score": float(person["score"]),
                "center": person["center"].tolist(),
                "scale": person["scale"].tolist(),
            }
            for index, person in enumerate(persons)
        )
    with path.open("w") as stream:
        json.dump(results, stream, sort_keys=True, indent=4)


def summary(truth: COCO, results: Path) -> list[float]:
    """COCO's ten figures of the results file."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, truth.loadRes(str(results)), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats]
