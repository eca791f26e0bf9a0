"""Arguments of the Python interface: pictures and boxes, refused in one line that says why."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrnet_deploy.errors import InputError, Subject
from hrnet_deploy.runtime.image import check_sides

MAX_COORDINATE = 1e12
"""Boxes further out than this many pixels would lose their size to float32."""

MIN_SIDE = 1.0
"""Smaller boxes are a mistake (fractions instead of pixels) rather than a person."""


def checked_path(engine: object) -> Subject:
    """``engine`` if it is a path."""
    if not isinstance(engine, (str, os.PathLike)):
        problem = f"expected a path or a loaded engine, got {type(engine).__name__}"
        raise InputError("engine", problem, "Give the path of a .onnx or .plan file")
    return engine


def checked_image(image_bgr: Any) -> NDArray[np.uint8]:
    """``image_bgr`` if it is (H, W, 3) uint8, in memory order; InputError with what it is."""
    expected = "expected (H, W, 3) uint8 BGR"
    if not isinstance(image_bgr, np.ndarray):
        fix = "Read it with hrnet_deploy.runtime.image.read_image or cv2.imread"
        raise InputError("image_bgr", f"{expected}, got {type(image_bgr).__name__}", fix)
    got = f"{image_bgr.shape} {image_bgr.dtype}"
    if image_bgr.dtype != np.uint8 or image_bgr.ndim != 3 or image_bgr.shape[2] != 3:
        raise InputError("image_bgr", f"{expected}, got {got}", _image_hint(image_bgr))
    if image_bgr.size == 0:
        raise InputError("image_bgr", f"is empty, got {got}", "Give a picture with pixels")
    check_sides((image_bgr.shape[1], image_bgr.shape[0]), "image_bgr")
    return np.ascontiguousarray(image_bgr)


def _image_hint(image: NDArray[Any]) -> str:
    """The likely mistake behind a wrong shape or type."""
    if image.ndim == 2:
        return "Repeat the grey channel: cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)"
    if image.ndim == 3 and image.shape[2] == 4:
        return "Drop the alpha channel: image[:, :, :3]"
    if image.ndim == 3 and image.shape[0] == 3 and image.shape[2] != 3:
        return "Put the channels last: image.transpose(1, 2, 0)"
    if image.dtype != np.uint8:
        return "Give grey levels from 0 to 255 as uint8"
    return "Give one picture as OpenCV decodes it"


def checked_boxes(boxes_xyxy: ArrayLike) -> NDArray[np.float64]:
    """Boxes as (N, 4) float64; InputError names the first one that is no box.

    An empty list gives (0, 4). Sides below one pixel and exchanged edges are refused.
    """
    hint = "Give one row x1, y1, x2, y2 per person"
    try:
        boxes = np.asarray(boxes_xyxy)
        if boxes.dtype.kind not in "iuf" and boxes.size:
            raise TypeError
        boxes = boxes.astype(np.float64)
    except (TypeError, ValueError) as error:
        problem = "expected an (N, 4) array of numbers"
        raise InputError("boxes_xyxy", f"{problem}, got {_kind(boxes_xyxy)}", hint) from error
    if boxes.shape in ((0,), (0, 4)):
        return np.zeros((0, 4))
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        fix = "Put a single box into a list: [box]" if boxes.shape == (4,) else hint
        raise InputError("boxes_xyxy", f"expected (N, 4), got {boxes.shape}", fix)
    _check_coordinates(boxes)
    return boxes


def _check_coordinates(boxes_xyxy: NDArray[np.float64]) -> None:
    names = ("x1", "y1", "x2", "y2")
    fine = np.abs(boxes_xyxy) <= MAX_COORDINATE  # false for NaN too
    if not fine.all():
        row, column = (int(i) for i in np.argwhere(~fine)[0])
        value = boxes_xyxy[row, column]
        problem = f"box {row} has {names[column]} = {value}"
        raise InputError("boxes_xyxy", problem, "Give finite pixel coordinates")
    for low, high in ((0, 2), (1, 3)):
        size = boxes_xyxy[:, high] - boxes_xyxy[:, low]
        for row in np.flatnonzero(size < MIN_SIDE)[:1]:
            if size[row] <= 0:
                order = "boxes are x1,y1,x2,y2 (got xywh?)"
                problem = f"box {row} has {names[high]} <= {names[low]}; {order}"
                fix = "Give each box as its left, top, right and bottom edge"
            else:
                side = "wide" if low == 0 else "high"
                problem = f"box {row} is only {size[row]:.3g} px {side}"
                fix = "Give x1,y1,x2,y2 in pixels, at least 1 px apart (got fractions of 1?)"
            raise InputError("boxes_xyxy", problem, fix)


def _kind(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.shape} {value.dtype}"
    return type(value).__name__
