"""What the picture files of an evaluation tell before any inference."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.errors import InputError
from hrnet_deploy.evaluation.plan import EvalPlan
from hrnet_deploy.runtime.image import read_image
from hrnet_deploy.runtime.picture_header import read_header

MAX_FILES = 1000
"""So many files are looked at; what is found stands for the others."""

UPRIGHT = 1


@dataclass(frozen=True)
class FilesSeen:
    """Pictures with persons, by what is wrong with them.

    ``missing`` names all of them, ``missing_persons`` is the share (0 to 1) of all boxes in them.
    Of the ``looked_at`` others: ``damaged`` with the share of their boxes in ``damaged_persons``,
    ``turned`` maps image ids to EXIF orientations other than upright, ``other_size`` names those
    whose pixels are not the size that the annotations state.
    """

    missing: tuple[str, ...]
    missing_persons: float
    looked_at: int
    damaged: tuple[str, ...]
    damaged_persons: float
    turned: dict[int, int]
    other_size: tuple[str, ...]


def look_at_files(plan: EvalPlan, *, seed: int) -> FilesSeen:
    """Read the headers of up to ``MAX_FILES`` pictures with persons, drawn by ``seed``."""
    counts = {
        image.id: span.stop - span.start
        for image, span in zip(plan.images, plan.spans, strict=True)
        if span.start < span.stop
    }
    with_persons = [image for image in plan.images if image.id in counts]
    there = [image for image in with_persons if image.id in plan.paths]
    missing = [image for image in with_persons if image.id not in plan.paths]
    drawn = np.random.default_rng(seed).permutation(len(there))[:MAX_FILES]
    damaged, other_size = [], []
    turned: dict[int, int] = {}
    lost = seen = 0
    for image in (there[index] for index in sorted(drawn.tolist())):
        seen += counts[image.id]
        try:
            size_wh, orientation = read_header(plan.paths[image.id])
        except InputError:
            damaged.append(image.file_name)
            lost += counts[image.id]
            continue
        if orientation != UPRIGHT:
            turned[image.id] = orientation
        if image.width is not None and size_wh != (image.width, image.height):
            other_size.append(image.file_name)
    total = sum(counts.values())
    return FilesSeen(
        missing=tuple(image.file_name for image in missing),
        missing_persons=sum(counts[image.id] for image in missing) / max(1, total),
        looked_at=len(drawn),
        damaged=tuple(damaged),
        damaged_persons=lost / max(1, seen),
        turned=turned,
        other_size=tuple(other_size),
    )


def read_turned(plan: EvalPlan, image_id: int) -> NDArray[np.uint8]:
    """The picture as its EXIF orientation wants it shown."""
    path = plan.paths[image_id]
    return upright(read_image(path, max_pixels=plan.settings.max_pixels), read_header(path)[1])


def read_resized(plan: EvalPlan, image_id: int, size_wh: tuple[float, float]) -> NDArray[np.uint8]:
    """The picture at the size that the annotations state."""
    picture = read_image(plan.paths[image_id], max_pixels=plan.settings.max_pixels)
    wanted = (int(size_wh[0]), int(size_wh[1]))
    if (picture.shape[1], picture.shape[0]) == wanted:
        return picture
    resized = cv2.resize(picture, wanted, interpolation=cv2.INTER_AREA)
    return resized.astype(np.uint8, copy=False)


def upright(image_bgr: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn stored pixels (H, W, 3) by an EXIF orientation of 1 to 8 (EXIF 2.3, tag 0x0112)."""
    if orientation in (5, 6, 7, 8):
        image_bgr = image_bgr.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        image_bgr = image_bgr[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image_bgr = image_bgr[::-1]
    return np.ascontiguousarray(image_bgr)
