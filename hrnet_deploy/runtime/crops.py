"""Persons cut out of pictures, in full batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.errors import InputError
from hrnet_deploy.runtime.geometry import UNIT_PX, CropGeometry

FIXED_POINT_REACH = 2**20
"""``cv2.warpAffine`` counts in 1/1024 px in 32 bits; half of their range is kept as a margin."""


def batches_of(counts: Sequence[int], size: int) -> Iterator[list[tuple[int, slice]]]:
    """Persons of several pictures, ``counts`` of each, in full batches of ``size``.

    A batch names the pictures that it has persons of, each with which of them.
    """
    batch: list[tuple[int, slice]] = []
    room = size
    for index, count in enumerate(counts):
        first = 0
        while first < count:
            last = min(count, first + room)
            batch.append((index, slice(first, last)))
            room -= last - first
            first = last
            if not room:
                yield batch
                batch, room = [], size
    if batch:
        yield batch


def crop_batches(
    images_bgr: Sequence[NDArray[np.uint8] | None],
    geometries: Sequence[CropGeometry],
    input_size_hw: tuple[int, int],
    batch_size: int,
) -> Iterator[NDArray[np.uint8]]:
    """Full batches of crops (n, h, w, 3) over all pictures, all in the same buffer.

    A picture without persons may be None.
    """
    counts = [len(geometry) for geometry in geometries]
    size = min(batch_size, sum(counts))
    buffer = np.empty((size, *input_size_hw, 3), np.uint8)
    for batch in batches_of(counts, size):
        filled = 0
        for index, persons in batch:
            image, geometry = images_bgr[index], geometries[index][persons]
            if image is None:
                raise InputError(f"images_bgr[{index}]", "is None, but has persons", "Read it")
            crop_into(image, geometry, buffer[filled : filled + len(geometry)])
            filled += len(geometry)
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
