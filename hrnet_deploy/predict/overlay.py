"""Poses on the picture: skeletons with track numbers and scores, and heatmaps."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.predict.frames import Predicted
from hrnet_deploy.runtime.draw import OUTLINE_BGR, SCORE_THRESHOLD, Colour, draw_poses
from hrnet_deploy.runtime.geometry import CropGeometry
from hrnet_deploy.spec import ModelSpec

FONT = cv2.FONT_HERSHEY_SIMPLEX
LETTER_PX = 22
"""Height of this font's capitals at scale 1."""
TEXT_PER_PICTURE = 1 / 45
MIN_LETTER_PX = 9
WHITE_BGR = (255, 255, 255)
HEAT = 0.65
"""Weight of the heatmap's colour where it is at its highest."""


def drawn(
    predicted: Predicted,
    spec: ModelSpec,
    *,
    threshold: float = SCORE_THRESHOLD,
    boxes: bool = False,
    labels: bool = True,
) -> NDArray[np.uint8]:
    """A copy of the frame with every person's skeleton.

    ``boxes`` adds the boxes; ``labels`` the track number where there is one, otherwise, with
    ``boxes``, the score. Raises ValueError for a frame without pixels.
    """
    image = _pixels(predicted)
    canvas = draw_poses(image, predicted.poses, spec.skeleton, threshold=threshold, boxes=boxes)
    if labels:
        for person in range(len(predicted.poses)):
            if text := _label(predicted, person, boxes):
                _write(canvas, text, predicted.poses.boxes_xyxy[person], _colour(predicted, person))
    return canvas


def heated(predicted: Predicted, spec: ModelSpec) -> NDArray[np.uint8]:
    """The frame with the highest of all keypoints' heatmaps laid over it, as colour.

    Raises ValueError for a frame without pixels or without heatmaps.
    """
    image = _pixels(predicted)
    maps = predicted.heatmaps_nkhw
    if maps is None:
        raise ValueError("this result was made without heatmaps")
    height, width = image.shape[:2]
    heat = np.zeros((height, width), np.float32)
    geometry = CropGeometry.from_boxes_xyxy(
        predicted.boxes.xyxy, spec.input_size_wh, padding=spec.box_padding
    )
    for affine, person in zip(geometry.heatmap_to_image(spec.heatmap_size_wh), maps, strict=True):
        highest = np.ascontiguousarray(np.clip(person, 0, 1).max(axis=0))
        placed = cv2.warpAffine(highest, affine, (width, height), flags=cv2.INTER_LINEAR)
        np.maximum(heat, placed, out=heat)
    colours = cv2.applyColorMap(np.round(heat * 255).astype(np.uint8), cv2.COLORMAP_TURBO)
    weight = heat[..., None] * HEAT
    mixed: NDArray[np.uint8] = np.round(image * (1 - weight) + colours * weight).astype(np.uint8)
    return mixed


def beside(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Two pictures of one height in one."""
    return np.concatenate([left, right], axis=1)


def _pixels(predicted: Predicted) -> NDArray[np.uint8]:
    if predicted.frame.image_bgr is None:
        raise ValueError("this frame has no pixels")
    return predicted.frame.image_bgr


def _label(predicted: Predicted, person: int, boxes: bool) -> str:
    if predicted.ids is not None:
        return str(predicted.ids[person])
    return f"{predicted.poses.instance_scores[person]:.2f}" if boxes else ""


def _colour(predicted: Predicted, person: int) -> Colour:
    """A colour that stays with a track: golden-ratio steps around the hue circle."""
    if predicted.ids is None:
        return (70, 70, 70)
    hue = int(int(predicted.ids[person]) * 0.618034 * 180) % 180
    pixel = cv2.cvtColor(np.array([[[hue, 170, 150]]], np.uint8), cv2.COLOR_HSV2BGR)[0, 0]
    return int(pixel[0]), int(pixel[1]), int(pixel[2])


def _write(
    canvas: NDArray[np.uint8], text: str, box_xyxy: NDArray[np.float64], colour: Colour
) -> None:
    """A plate above the box's left corner, kept inside of the picture."""
    height, width = canvas.shape[:2]
    letter = max(MIN_LETTER_PX, round(min(width, height) * TEXT_PER_PICTURE))
    scale, thickness = letter / LETTER_PX, max(1, round(letter / 10))
    (text_width, text_height), _ = cv2.getTextSize(text, FONT, scale, thickness)
    pad = max(2, letter // 4)
    plate_wh = (text_width + 2 * pad, text_height + 2 * pad)
    left = int(np.clip(box_xyxy[0], 0, max(0, width - plate_wh[0])))
    top = int(np.clip(box_xyxy[1] - plate_wh[1], 0, max(0, height - plate_wh[1])))
    corner = (left + plate_wh[0], top + plate_wh[1])
    cv2.rectangle(canvas, (left, top), corner, colour, -1)
    cv2.rectangle(canvas, (left, top), corner, OUTLINE_BGR, 1)
    origin = (left + pad, top + pad + text_height)
    cv2.putText(canvas, text, origin, FONT, scale, WHITE_BGR, thickness, cv2.LINE_AA)
