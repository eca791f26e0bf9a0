"""Pictures, annotations and boxes for the three-keypoint engine of ``tests.tiny``.

A person is a blue, a green and a red spot in a grey box; the engine finds the brightest place of
each colour, so that real pictures give real poses and an AP well above zero.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

NAMES = ("blue", "green", "red")
SIGMAS = (0.1, 0.1, 0.1)
SIZE_WH = (160, 120)
PERSON_WH = (36, 48)


@dataclass(frozen=True)
class World:
    """The files of a small data set; ``content`` is the annotation file's."""

    folder: Path
    annotations: Path
    images: Path
    boxes: Path
    content: dict[str, Any]

    def rewrite(self, **sections: Any) -> Path:
        """Write the annotations again with other sections."""
        self.annotations.write_text(json.dumps({**self.content, **sections}))
        return self.annotations


def make_world(folder: Path, *, images: int = 6, seed: int = 0, jpeg: bool = False) -> World:
    """Write a data set: picture i holds i % 4 persons, ids are neither ordered nor file names."""
    rng = np.random.default_rng(seed)
    pictures = folder / "images"
    pictures.mkdir(parents=True)
    entries, annotations, boxes = [], [], []
    for index in range(images):
        image_id = 1000 - 7 * index
        file_name = f"picture {index}.{'jpg' if jpeg else 'png'}"
        picture = rng.integers(0, 40, (SIZE_WH[1], SIZE_WH[0], 3), dtype=np.uint8)
        for person in range(index % 4):
            left, top = 4 + 50 * person, int(rng.integers(2, 60))
            entry, box = _person(picture, (left, top), rng)
            annotations.append({**entry, "id": 10 * image_id + person, "image_id": image_id})
            boxes.append({**box, "image_id": image_id})
        cv2.imwrite(str(pictures / file_name), picture)
        entries.append(
            {"id": image_id, "file_name": file_name, "width": SIZE_WH[0], "height": SIZE_WH[1]}
        )
    content = {
        "images": entries,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person", "keypoints": list(NAMES), "skeleton": []}],
    }
    world = World(folder, folder / "kp.json", pictures, folder / "boxes.json", content)
    world.annotations.write_text(json.dumps(content))
    world.boxes.write_text(json.dumps(boxes))
    return world


def _person(
    picture: np.ndarray, corner: tuple[int, int], rng: np.random.Generator
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Paint one person; its annotation, and the box that a detector would give."""
    (left, top), (width, height) = corner, PERSON_WH
    keypoints: list[float] = []
    for channel in range(3):
        x = left + int(rng.integers(6, width - 6))
        y = top + 8 + 14 * channel + int(rng.integers(0, 6))
        picture[y - 2 : y + 3, x - 2 : x + 3, channel] = 200 + int(rng.integers(0, 50))
        keypoints += [x, y, 2]
    box = [left, top, width, height]
    entry = {
        "category_id": 1,
        "bbox": box,
        "area": float(width * height),
        "iscrowd": 0,
        "keypoints": keypoints,
        "num_keypoints": 3,
    }
    noisy = [float(value + rng.uniform(-1, 1)) for value in box]
    return entry, {"category_id": 1, "bbox": noisy, "score": float(rng.uniform(0.5, 1))}
