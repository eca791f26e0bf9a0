"""A made-up keypoint set of val2017's shape with detector boxes and poses, from a seed.

5000 pictures, 11,004 annotated persons in 2693 of them, of whom 6352 have keypoints, 104,125
detector boxes: the counts of COCO val2017 and of the boxes published with the official HRNet code.
Where the persons stand and how good the poses are is made up: the accuracy means nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.files import write_json
from hrnet_deploy.keypoints import keypoint_set

PICTURES, WITH_PERSONS, PERSONS, LABELLED, CROWDS = 5000, 2693, 11_004, 6352, 227
DETECTIONS = 104_125
SIZE_WH = (640, 480)
KEYPOINTS = keypoint_set("coco_17")
JOINTS = len(KEYPOINTS.names)
SPREAD = (0.02, 0.05, 0.15, 0.4)
"""How far a pose is off, in shares of its box: of a person's four best boxes in turn."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SyntheticSet:
    """Files of the set, and a pose (n, K, 3) float32 for each box by image id, in boxes' order."""

    annotations: Path
    boxes: Path
    images: Path
    poses: dict[int, NDArray[np.float32]]


def write_synthetic_set(folder: Path, *, share: float = 1.0, seed: int = 0) -> SyntheticSet:
    """Write the set into ``folder``; ``share`` below 1 makes all counts smaller."""
    rng = np.random.default_rng(seed)
    pictures, persons, count = (max(4, round(share * n)) for n in (PICTURES, PERSONS, DETECTIONS))
    ids = np.sort(rng.choice(600_000, pictures, replace=False)) + 1
    holders = rng.choice(ids, max(1, pictures * WITH_PERSONS // PICTURES), replace=False)
    extra = rng.choice(holders, persons - len(holders), p=_uneven(rng, len(holders)))
    owners = np.concatenate([holders, extra])
    people = _boxes(rng, persons)
    truth = _poses_in(people, rng.uniform(0.05, 0.95, (persons, JOINTS, 2)))
    annotations = _annotations(rng, owners, people, truth)
    image_of, boxes, scores, found = _detections(rng, ids, owners, people, truth, count)

    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    entries = [{"id": i, "file_name": f"{i:012d}.jpg"} for i in ids.tolist()]
    for entry in entries:
        entry.update(width=SIZE_WH[0], height=SIZE_WH[1])
        (images / entry["file_name"]).touch()
    category = {"id": 1, "name": "person", "keypoints": list(KEYPOINTS.names), "skeleton": []}
    content = {"images": entries, "annotations": annotations, "categories": [category]}
    written = SyntheticSet(folder / "persons.json", folder / "boxes.json", images, {})
    write_json(written.annotations, content)
    write_json(
        written.boxes,
        [
            {"image_id": image, "category_id": 1, "bbox": box, "score": score}
            for image, box, score in zip(
                image_of.tolist(), boxes.round(2).tolist(), scores.round(4).tolist(), strict=True
            )
        ],
    )
    edges = np.searchsorted(image_of, ids), np.searchsorted(image_of, ids, side="right")
    for image, start, end in zip(ids.tolist(), *edges, strict=True):
        if start < end:
            written.poses[image] = found[start:end]
    return written


def _uneven(rng: np.random.Generator, count: int) -> Floats:
    """Few pictures hold many persons: weights with a long tail."""
    weights = rng.exponential(size=count) ** 1.5
    return weights / weights.sum()


def _boxes(rng: np.random.Generator, count: int) -> Floats:
    """Boxes (count, 4) left, top, width, height of people's proportions."""
    height = rng.uniform(0.05, 0.9, count) * SIZE_WH[1]
    width = height * rng.uniform(0.3, 0.6, count)
    left, top = rng.uniform(0, SIZE_WH[0] - width), rng.uniform(0, SIZE_WH[1] - height)
    return np.stack([left, top, width, height], axis=1)


def _poses_in(boxes: Floats, places: Floats) -> Floats:
    """Keypoints (N, K, 2) in pixels at ``places`` (N, K, 2) in 0 to 1 of the boxes."""
    return boxes[:, None, :2] + places * boxes[:, None, 2:]


def _annotations(
    rng: np.random.Generator, owners: NDArray[np.int64], boxes: Floats, truth: Floats
) -> list[dict[str, Any]]:
    """As in COCO: some persons are crowds, many have no keypoint, others a part of them."""
    persons = len(owners)
    order = rng.permutation(persons)
    labelled, crowd = (
        np.isin(np.arange(persons), order[a : b * persons // PERSONS])
        for a, b in ((0, LABELLED), (LABELLED * persons // PERSONS, LABELLED + CROWDS))
    )
    seen = rng.choice((0, 1, 2), (persons, JOINTS), p=(0.35, 0.1, 0.55))
    seen[:, 0] = np.maximum(seen[:, 0], 1)
    seen *= labelled[:, None]
    points = np.concatenate([truth.round(), seen[..., None]], axis=2) * (seen > 0)[..., None]
    areas = boxes[:, 2] * boxes[:, 3] * rng.uniform(0.4, 0.7, persons)
    return [
        {
            "id": number + 1,
            "image_id": int(owners[number]),
            "category_id": 1,
            "iscrowd": int(crowd[number]),
            "bbox": boxes[number].round(2).tolist(),
            "area": round(float(areas[number]), 4),
            "keypoints": points[number].astype(int).ravel().tolist(),
            "num_keypoints": int((seen[number] > 0).sum()),
        }
        for number in range(persons)
    ]


def _detections(
    rng: np.random.Generator,
    ids: NDArray[np.int64],
    owners: NDArray[np.int64],
    people: Floats,
    truth: Floats,
    count: int,
) -> tuple[NDArray[np.int64], Floats, Floats, NDArray[np.float32]]:
    """Picture, box, score and pose of each detection, by picture: up to four a person, the rest
    in the background.
    """
    person = np.tile(np.arange(len(owners)), len(SPREAD))[:count]
    spread = np.repeat(SPREAD, len(owners))[:count, None, None]
    size = people[person][:, None, 2:]
    close = truth[person] + rng.normal(size=(len(person), JOINTS, 2)) * spread * size / 2
    jitter = 1 + rng.normal(size=(len(person), 4)) * spread[:, 0] / 4
    empty = _boxes(rng, count - len(person))
    anywhere = _poses_in(empty, rng.uniform(0, 1, (len(empty), JOINTS, 2)))
    image_of = np.concatenate([owners[person], rng.choice(ids, len(empty))])
    boxes = np.concatenate([people[person] * jitter, empty])
    good = np.concatenate([1 - spread[:, 0, 0], np.full(len(empty), 0.4)])
    scores = np.clip(good * rng.beta(4, 2, count), 0.001, 0.999)
    kept = rng.uniform(0, 1, (count, JOINTS)) * good[:, None]
    poses = np.concatenate([np.concatenate([close, anywhere]), kept[..., None]], axis=2)
    order = np.argsort(image_of, kind="stable")
    return image_of[order], boxes[order], scores[order], poses[order].astype(np.float32)
