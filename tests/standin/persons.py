"""Persons in frames for the tests of the stand-in, and their crops as the CPU cuts them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.engines import EngineOutput
from hrnet_deploy.runtime.crops import crop_into
from hrnet_deploy.runtime.geometry import CropGeometry

Crops = NDArray[np.uint8]


def assert_same(output: EngineOutput, expected: EngineOutput) -> None:
    np.testing.assert_array_equal(output.keypoints_heatmap, expected.keypoints_heatmap)
    np.testing.assert_array_equal(output.scores, expected.scores)


def frames_and_crops(seed: int, count: int) -> tuple[list[Crops], CropGeometry, NDArray[np.intp]]:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 200, (4, 2))
    frames = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    boxes = np.concatenate([rng.uniform(-50, 150, (count, 2)), rng.uniform(1, 90, (count, 2))], 1)
    geometry = CropGeometry.from_boxes_xywh(boxes, (48, 64))
    return frames, geometry, rng.integers(0, len(frames), count)


def cut_on_host(frames: list[Crops], geometry: CropGeometry, of_crop: NDArray[np.intp]) -> Crops:
    """Crops (N, 64, 48, 3); those of a negative frame number are black."""
    crops = np.zeros((len(geometry), 64, 48, 3), np.uint8)
    for index, frame in enumerate(of_crop):
        if frame >= 0:
            crop_into(frames[frame], geometry[index], crops[index : index + 1])
    return crops
