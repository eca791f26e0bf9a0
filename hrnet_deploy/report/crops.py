"""Pictures of single persons, small enough to stand in a page."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.errors import DeployError
from hrnet_deploy.runtime.image import read_image

MARGIN = 0.35
"""Shown around a person's box, as a share of the box's longer side."""

MAX_SIDE = 320
JPEG_QUALITY = 80
MIN_SIDE = 24.0


@dataclass(frozen=True)
class PersonCrop:
    """A JPEG as a data URI, and the place ``xywh`` (pixels of the picture) that it shows."""

    uri: str
    xywh: tuple[int, int, int, int]

    @property
    def size_bytes(self) -> int:
        """What it adds to a page."""
        return len(self.uri)


def crop_person(path: Path, box_xywh: NDArray[np.float64]) -> PersonCrop | None:
    """The person's surroundings; None where the picture cannot be read or is somewhere else."""
    try:
        image_bgr = read_image(path)
    except DeployError:
        return None
    left, top, width, height = _view(box_xywh, (image_bgr.shape[1], image_bgr.shape[0]))
    if width < 1 or height < 1:
        return None
    view = image_bgr[top : top + height, left : left + width]
    scale = min(1.0, MAX_SIDE / max(width, height))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(view, size, interpolation=cv2.INTER_AREA)
    done, content = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not done:
        return None
    text = base64.b64encode(content.tobytes()).decode("ascii")
    return PersonCrop(f"data:image/jpeg;base64,{text}", (left, top, width, height))


def _view(box_xywh: NDArray[np.float64], size_wh: tuple[int, int]) -> tuple[int, int, int, int]:
    """The box with its margin, within the picture, in whole pixels."""
    x, y, width, height = box_xywh.tolist()
    side = max(width, height, MIN_SIDE)
    start = np.array([x, y]) - MARGIN * side
    end = np.array([x + width, y + height]) + MARGIN * side
    low = np.clip(np.floor(start), 0, size_wh).astype(int)
    high = np.clip(np.ceil(end), 0, size_wh).astype(int)
    return int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1])
