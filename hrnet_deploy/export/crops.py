"""Seeded crops to compare engines on where the user gives no pictures."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

DEFAULT_CROPS = 8
DEFAULT_SEED = 0


def seeded_crops(
    input_size_hw: tuple[int, int], count: int = DEFAULT_CROPS, seed: int = DEFAULT_SEED
) -> NDArray[np.uint8]:
    """Crops (count, h, w, 3) uint8 BGR with structure at every scale, equal on every machine.

    Noise of several resolutions, a bright and a dark body-like blob, and on every fourth crop a
    black margin such as a box past the image's border leaves.
    """
    rng = np.random.default_rng(seed)
    return np.stack([_crop(rng, input_size_hw, index) for index in range(count)])


def _crop(
    rng: np.random.Generator, input_size_hw: tuple[int, int], index: int
) -> NDArray[np.uint8]:
    height, width = input_size_hw
    picture = np.zeros((height, width, 3), np.float32)
    for cells in (3, 8, 24, 64):
        noise = rng.uniform(-1, 1, (cells, cells, 3)).astype(np.float32)
        picture += cv2.resize(noise, (width, height), interpolation=cv2.INTER_LINEAR)
    picture = 127 + 60 * picture
    for _ in range(6):
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        axes = (int(rng.integers(4, width // 3)), int(rng.integers(4, height // 3)))
        colour = tuple(float(value) for value in rng.uniform(0, 255, 3))
        cv2.ellipse(picture, centre, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1)
    if index % 4 == 3:
        picture[:, : width // 4] = 0
    return np.clip(picture, 0, 255).astype(np.uint8)
