"""Records that tell the crop kernel where each crop lies; the layout is that of ``crop.cu``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FRAME = np.dtype(
    [("pixels", np.uint64), ("row_bytes", np.int64), ("width", np.int32), ("height", np.int32)]
)
CROP = np.dtype([("to_frame", np.float64, (6,)), ("frame", np.int32), ("unused", np.int32)])

NO_FRAME = -1
"""A crop of no frame is black."""

BLOCK = (32, 8, 1)
"""Threads of a block: a warp writes 32 neighbouring pixels."""

MAX_CROPS_PER_LAUNCH = 65535
"""CUDA's limit on the third axis of a grid."""


def frame_record(address: int, row_bytes: int, size_wh: tuple[int, int]) -> NDArray[np.void]:
    """One frame (1,): device address of its first pixel, bytes from row to row, size in pixels."""
    return np.array([(address, row_bytes, *size_wh)], FRAME)


def crop_records(
    image_to_input: NDArray[np.float64], frame_of_crop: NDArray[np.integer]
) -> NDArray[np.void]:
    """Records (N,) of crops with affines (N, 2, 3) from picture to crop pixels.

    ``frame_of_crop`` (N,) is the index of each crop's frame, ``NO_FRAME`` for a black crop.
    """
    records = np.zeros(len(image_to_input), CROP)
    records["to_frame"] = inverted(image_to_input).reshape(-1, 6)
    records["frame"] = frame_of_crop
    return records


def inverted(affines: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse affines (N, 2, 3), step by step in the order of cv2.warpAffine's own inversion.

    A singular matrix gives zeros, as there.
    """
    a, b, x = affines[:, 0, 0], affines[:, 0, 1], affines[:, 0, 2]
    c, d, y = affines[:, 1, 0], affines[:, 1, 1], affines[:, 1, 2]
    determinant = a * d - b * c
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        factor = np.where(determinant != 0, 1.0 / determinant, 0.0)
        a, d = d * factor, a * factor
        b, c = b * -factor, c * -factor
        move_x = -a * x - b * y
        move_y = -c * x - d * y
    return np.stack([a, b, move_x, c, d, move_y], axis=1).reshape(-1, 2, 3)


def grid(crops: int, size_wh: tuple[int, int]) -> tuple[int, int, int]:
    """Blocks for ``crops`` crops of ``size_wh`` pixels."""
    width, height = size_wh
    return -(-width // BLOCK[0]), -(-height // BLOCK[1]), crops
