"""Persons cut out of pictures, and run through an engine in full batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.engines import Engine, EngineOutput
from hrnet_deploy.errors import InputError
from hrnet_deploy.runtime.flip import run_batches
from hrnet_deploy.runtime.geometry import UNIT_PX, CropGeometry

FIXED_POINT_REACH = 2**20
"""``cv2.warpAffine`` counts in 1/1024 px in 32 bits; half of their range is kept as a margin."""


def run_persons(
    engine: Engine,
    images_bgr: Sequence[NDArray[np.uint8] | None],
    geometries: Sequence[CropGeometry],
    *,
    batch_size: int,
    heatmaps: bool = False,
) -> list[EngineOutput]:
    """The engine's output for the persons of each picture, one entry a picture.

    ``geometries`` say where the persons of each picture are; persons of several pictures share
    batches of ``batch_size`` crops. A picture without persons may be None.
    """
    counts = [len(geometry) for geometry in geometries]
    batches = crop_batches(images_bgr, geometries, engine.spec.input_size_hw, batch_size)
    size = min(batch_size, sum(counts))
    return _split(run_batches(engine, batches, sum(counts), size, heatmaps=heatmaps), counts)


def _split(whole: EngineOutput, counts: Sequence[int]) -> list[EngineOutput]:
    """The output of all persons in a row, cut after ``counts`` persons each."""
    parts, start = [], 0
    for count in counts:
        own = slice(start, start := start + count)
        maps = None if whole.heatmaps_nkhw is None else whole.heatmaps_nkhw[own]
        second = None if whole.second_pass is None else whole.second_pass[own]
        parts.append(EngineOutput(whole.keypoints_heatmap[own], whole.scores[own], maps, second))
    return parts


def crop_batches(
    images_bgr: Sequence[NDArray[np.uint8] | None],
    geometries: Sequence[CropGeometry],
    input_size_hw: tuple[int, int],
    batch_size: int,
) -> Iterator[NDArray[np.uint8]]:
    """Full batches of crops (n, h, w, 3) over all pictures, all in the same buffer."""
    total = sum(len(geometry) for geometry in geometries)
    size = min(batch_size, total)
    buffer = np.empty((size, *input_size_hw, 3), np.uint8)
    filled = 0
    for image, geometry in zip(images_bgr, geometries, strict=True):
        done = 0
        while image is not None and done < len(geometry):
            count = min(size - filled, len(geometry) - done)
            crop_into(image, geometry[done : done + count], buffer[filled : filled + count])
            done, filled = done + count, filled + count
            if filled == size:
                yield buffer
                filled = 0
    if filled:
        yield buffer[:filled]


def crop_into(
    image_bgr: NDArray[np.uint8], geometry: CropGeometry, crops_nhwc: NDArray[np.uint8]
) -> None:
    """Cut the crops of ``geometry`` into ``crops_nhwc`` (N, h, w, 3) uint8, C-contiguous.

    Bilinear, black outside of the picture, grey levels as in the official evaluation.
    """
    if not crops_nhwc.flags.c_contiguous:  # OpenCV would write into a copy of its own
        raise InputError("crops_nhwc", "is not contiguous", "Give a batch in memory order")
    height, width = image_bgr.shape[:2]
    outside = out_of_reach(geometry, (width, height))
    for affine, crop, empty in zip(geometry.image_to_input, crops_nhwc, outside, strict=True):
        if empty:
            crop[...] = 0
        else:
            cv2.warpAffine(
                image_bgr, affine, geometry.input_size_wh, dst=crop, flags=cv2.INTER_LINEAR
            )


def out_of_reach(geometry: CropGeometry, image_size_wh: tuple[int, int]) -> NDArray[np.bool_]:
    """Crops (N,) wholly outside of the picture and so far away that OpenCV would miscount.

    Nearer ones are left to OpenCV, which fills them with black, and boxes without extent too,
    whose crops have the colour of the first pixel: both as in the official evaluation.
    """
    half = np.abs(geometry.scale) * np.float32(UNIT_PX / 2)
    if (np.abs(geometry.center) + half).max(initial=0) < FIXED_POINT_REACH:
        return np.zeros(len(geometry), np.bool_)
    low, high = geometry.center - half, geometry.center + half
    away: NDArray[np.bool_] = np.any((high < 0) | (low > np.asarray(image_size_wh)), axis=1)
    extended: NDArray[np.bool_] = np.any(geometry.scale != 0, axis=1)
    return away & extended
