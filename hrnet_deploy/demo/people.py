"""Synthetic scenes with cartoon people, written as a COCO keypoint data set.

The pictures are drawn from a seed with numpy and OpenCV alone, so that every command of the
package can be tried, and the network beside this file be trained, without any download.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.demo import skeleton as sk
from hrnet_deploy.demo.render import (
    HEAD,
    LEFT_ARM,
    LEFT_LEG,
    PARTS_PER_PERSON,
    PROP,
    RIGHT_ARM,
    RIGHT_LEG,
    TORSO,
    Canvas,
    Figure,
    ImageArray,
    random_look,
)
from hrnet_deploy.demo.scenery import draw_crowd, paint_background, place_prop, take_photo
from hrnet_deploy.demo.skeleton import FloatArray, random_pose
from hrnet_deploy.errors import EnvironmentFault
from hrnet_deploy.files import write_bytes
from hrnet_deploy.keypoints import COCO_17

CATEGORY: dict[str, Any] = {
    "id": 1,
    "name": "person",
    "supercategory": "person",
    "keypoints": list(COCO_17.names),
    "skeleton": [[first + 1, second + 1] for first, second in COCO_17.skeleton],
}

JPEG_QUALITY = 92
MIN_AREA = 400
"""Persons of fewer visible pixels are annotated without keypoints."""

MIN_VISIBLE = 4
"""Persons with fewer visible keypoints are annotated without keypoints."""

_PARTS: tuple[tuple[int, ...], ...] = (
    *((HEAD,),) * 5,
    *((TORSO, LEFT_ARM, HEAD), (TORSO, RIGHT_ARM, HEAD)),
    *((LEFT_ARM,), (RIGHT_ARM,)) * 2,
    *((TORSO, LEFT_LEG), (TORSO, RIGHT_LEG)),
    *((LEFT_LEG,), (RIGHT_LEG,)) * 2,
)
"""Parts of the own body on which a joint counts as visible, in keypoint order."""


@dataclass(frozen=True)
class Person:
    """One annotated person of a scene.

    ``keypoints_px`` (17, 3) float: x, y and the COCO flag (0 not labelled, 1 hidden, 2 seen);
    ``mask`` (H, W) bool: its visible pixels; ``box_xywh`` their bounding box in pixels.
    ``crowd`` marks a group that is annotated as a whole and has no keypoints.
    """

    keypoints_px: FloatArray
    mask: NDArray[np.bool_]
    box_xywh: tuple[int, int, int, int]
    crowd: bool = False

    @property
    def num_keypoints(self) -> int:
        """How many keypoints carry a label."""
        return int(np.count_nonzero(self.keypoints_px[:, 2]))


@dataclass(frozen=True)
class Scene:
    """A picture ``image_bgr`` (H, W, 3) uint8 and the persons in it, farthest first."""

    image_bgr: ImageArray
    persons: tuple[Person, ...]


def make_scene(rng: np.random.Generator, *, people: int | None = None) -> Scene:
    """Draw one scene with 0 to 4 persons (``people`` fixes their number)."""
    height = int(rng.integers(15, 24)) * 16
    width = int(np.clip(round(height * rng.uniform(1.0, 1.5) / 16), 20, 30)) * 16
    image = np.zeros((height, width, 3), np.uint8)
    canvas = Canvas(image, np.zeros((height, width), np.uint8))
    horizon = paint_background(canvas, rng)
    if people is None:
        people = int(rng.choice(5, p=[0.08, 0.34, 0.3, 0.18, 0.1]))
    crowd = draw_crowd(canvas, rng, horizon) if rng.random() < 0.06 else None
    figures = _place_figures(rng, people, width, height)
    for index, figure in enumerate(figures):
        figure.draw(canvas, index)
        if rng.random() < 0.12:
            place_prop(canvas, rng, figure)
    persons = [
        person
        for index, figure in enumerate(figures)
        if (person := _annotate(canvas.labels, figure, index)) is not None
    ]
    if crowd is not None and (mask := crowd & (canvas.labels == 0)).any():
        persons.append(Person(np.zeros((17, 3)), mask, _mask_box(mask), crowd=True))
    return Scene(take_photo(image, rng), tuple(persons))


def _place_figures(rng: np.random.Generator, people: int, width: int, height: int) -> list[Figure]:
    """Spread figures over the picture with some overlap; far ones are smaller and come first."""
    units = np.sort(rng.uniform(0.32, 0.95, size=people)) * height
    figures: list[Figure] = []
    taken: list[tuple[float, float]] = []
    for unit in units:
        truncated = rng.random() < 0.18
        for _ in range(12):
            margin = 0.0 if truncated else 0.3 * unit
            x = rng.uniform(min(margin, 0.45 * width), width - min(margin, 0.45 * width))
            if all(abs(x - other) > 0.21 * (unit + size) for other, size in taken):
                break
        else:
            continue
        taken.append((x, unit))
        floor = height - rng.uniform(0.04, 0.3) * (height - 0.8 * unit)
        if truncated and rng.random() < 0.5:
            floor = height + rng.uniform(0.05, 0.4) * unit
        pose = random_pose(rng)
        lowest = float(pose.joints_xyd[:, 1].max()) + 0.06
        pelvis = np.array([x, floor - lowest * unit])
        figures.append(Figure(pose, random_look(rng), pelvis, float(unit)))
    return figures


def _annotate(labels: ImageArray, figure: Figure, index: int) -> Person | None:
    """What is seen of a figure once the scene is complete; None when nothing is."""
    own = (labels > index * PARTS_PER_PERSON) & (labels < (index + 1) * PARTS_PER_PERSON)
    mask = own & (labels != PROP)
    if not mask.any():
        return None
    flags = _visibility(labels, figure, index)
    keypoints = np.concatenate([figure.joints_px, flags[:, None]], axis=1)
    if mask.sum() < MIN_AREA or np.count_nonzero(flags == 2) < MIN_VISIBLE:
        keypoints[:, 2] = 0
    keypoints[keypoints[:, 2] == 0] = 0
    return Person(keypoints, mask, _mask_box(mask))


def _visibility(labels: ImageArray, figure: Figure, index: int) -> FloatArray:
    """COCO flags (17,): hidden joints are labelled where a joint next to them is seen."""
    height, width = labels.shape
    flags = np.zeros(17)
    inside = np.zeros(17, bool)
    for joint, (x, y) in enumerate(figure.joints_px):
        column, row = int(np.floor(x + 0.5)), int(np.floor(y + 0.5))
        inside[joint] = 0 <= column < width and 0 <= row < height
        if not inside[joint]:
            continue
        on_far_side = joint <= sk.RIGHT_EAR and (
            figure.pose.joints_xyd[joint, 2]
            < (-0.5 if joint in (sk.LEFT_EAR, sk.RIGHT_EAR) else 0.1) * sk.HEAD_RADII[0]
        )
        part = int(labels[row, column]) - index * PARTS_PER_PERSON
        if part in _PARTS[joint] and not on_far_side:
            flags[joint] = 2
    seen = flags == 2
    for first, second in COCO_17.skeleton:
        for joint, neighbour in ((first, second), (second, first)):
            if joint > sk.RIGHT_EAR and inside[joint] and not seen[joint] and seen[neighbour]:
                flags[joint] = 1
    return flags


def _mask_box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return int(x), int(y), int(width), int(height)


def scene_rng(seed: int, index: int) -> np.random.Generator:
    """The generator of picture ``index``: it does not depend on how many pictures are made."""
    return np.random.default_rng([seed, index])


def write_dataset(folder: Path | str, images: int = 200, seed: int = 0) -> Path:
    """Write ``images`` pictures to ``folder``/images and return ``folder``/annotations.json.

    The same seed gives the same pictures and annotations; some pictures show nobody, and now
    and then a far group is annotated as a crowd. With ``images`` 0 the lists are empty.
    """
    folder = Path(folder)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    records: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(images):
        scene = make_scene(scene_rng(seed, index))
        height, width = scene.image_bgr.shape[:2]
        # Ids start at one and are not consecutive, like those of real data sets.
        image_id = 7 * index + 1
        name = f"people_{image_id:06d}.jpg"
        _write_jpeg(folder / "images" / name, scene.image_bgr)
        records.append({"id": image_id, "file_name": name, "width": width, "height": height})
        for person in scene.persons:
            annotations.append(annotation(person, len(annotations) + 1, image_id))
    path = folder / "annotations.json"
    content = {
        "info": {"description": "synthetic people", "seed": seed, "version": "1"},
        "licenses": [],
        "images": records,
        "annotations": annotations,
        "categories": [CATEGORY],
    }
    write_bytes(path, json.dumps(content, allow_nan=False).encode())
    return path


def _write_jpeg(path: Path, image_bgr: ImageArray) -> None:
    ok, data = cv2.imencode(".jpg", image_bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not ok:
        problem = "cannot be encoded as JPEG by this OpenCV"
        raise EnvironmentFault(path, problem, "Install opencv-python-headless")
    write_bytes(path, data.tobytes())


def annotation(person: Person, annotation_id: int, image_id: int) -> dict[str, Any]:
    """The person as an entry of a COCO annotation file; coordinates to a hundredth of a pixel."""
    flat = [round(float(v), 2) for v in person.keypoints_px.reshape(-1)]
    flat[2::3] = [int(flag) for flag in person.keypoints_px[:, 2]]
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": int(person.crowd),
        "bbox": list(person.box_xywh),
        "area": int(person.mask.sum()),
        "num_keypoints": person.num_keypoints,
        "keypoints": flat,
        "segmentation": _run_lengths(person.mask) if person.crowd else _outlines(person.mask),
    }


def _run_lengths(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """COCO's uncompressed run lengths: column by column, starting with background."""
    flat = np.concatenate([[False], mask.T.reshape(-1)])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(np.concatenate([[0], edges, [mask.size]]))
    return {"size": list(mask.shape), "counts": [int(count) for count in counts]}


def _outlines(mask: NDArray[np.bool_]) -> list[list[int]]:
    """Polygons around the visible pieces of a person, pieces of a few pixels left out."""
    contours, _ = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    polygons = [[int(v) for v in c.reshape(-1)] for c in contours if len(c) >= 3]
    return sorted(polygons, key=len, reverse=True)
