"""Persons in a picture by somebody else's detector."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.errors import InputError, Subject
from hrnet_deploy.predict.detector import detr, end_to_end, nanodet, ssd, yolox
from hrnet_deploy.predict.detector.candidates import Candidates, Signature
from hrnet_deploy.predict.detector.config import DetectorConfig, read_config
from hrnet_deploy.predict.detector.session import DetectorSession
from hrnet_deploy.predict.frames import Boxes, Frame, no_boxes
from hrnet_deploy.runtime.checks import MIN_SIDE

DECODERS = {
    "yolox": yolox.decode,
    "nanodet": nanodet.decode,
    "detr": detr.decode,
    "hf-detr": detr.decode,
    "ssd": ssd.decode,
    "end-to-end": end_to_end.decode,
}
WITHOUT_NMS = ("detr", "hf-detr", "end-to-end")
"""Families that give each person once."""


class PersonDetector:
    """``PersonDetector("yolox_s.onnx")(frame)``: the persons in a frame, best first.

    ``config`` is a TOML file for what the graph does not say; ``score_threshold`` goes before its
    own. Raises InputError for a graph of an unknown form.
    """

    def __init__(
        self,
        path: Subject,
        config: Subject | None = None,
        *,
        score_threshold: float | None = None,
        device: str | None = None,
        threads: int | None = None,
    ) -> None:
        self.path = Path(path)
        self._session = DetectorSession(self.path, device=device, threads=threads)
        self.config = _configuration(self.path, self._session.signature, config)
        if score_threshold is not None:
            self.config = dataclasses.replace(self.config, score_threshold=score_threshold)

    def __call__(self, frame: Frame) -> Boxes:
        """Boxes in pixels of the frame, clipped to it."""
        return no_boxes() if frame.image_bgr is None else self.detect(frame.image_bgr)

    def detect(self, image_bgr: NDArray[np.uint8]) -> Boxes:
        """The same for a picture (H, W, 3) uint8 BGR."""
        height, width = image_bgr.shape[:2]
        size_hw = self._size_hw(height, width)
        tensor, scale_xy, shift_xy = prepared(image_bgr, size_hw, self.config)
        signature = self._session.signature
        tensor = tensor if signature.channels_last else tensor.transpose(2, 0, 1)
        if len(signature.inputs[signature.image][1]) == 4:
            tensor = tensor[None]
        inputs: dict[str, NDArray[np.generic]] = {signature.image: tensor}
        if detr.SIZE_INPUT in signature.inputs:
            inputs[detr.SIZE_INPUT] = np.array([[width, height]])
        found = DECODERS[self.config.family](self._session.run(inputs), size_hw, self.config)
        edges = _in_image(found, size_hw, scale_xy, shift_xy)
        edges = np.clip(edges, 0, np.array([width, height] * 2, np.float64))
        return self._chosen(edges, found.scores)

    def _size_hw(self, height: int, width: int) -> tuple[int, int]:
        own = self._session.signature.size_hw
        stated = self.config.size_hw or (None, None)
        # A graph of any size (TensorFlow's) takes the picture as it is.
        return own[0] or stated[0] or height, own[1] or stated[1] or width

    def _chosen(self, xyxy: NDArray[np.float64], scores: NDArray[np.float64]) -> Boxes:
        """Threshold, then suppression of overlaps, best first."""
        good = np.isfinite(xyxy).all(axis=1) & (scores >= self.config.score_threshold)
        good &= ((xyxy[:, 2:] - xyxy[:, :2]) >= MIN_SIDE).all(axis=1)
        xyxy, scores = xyxy[good], scores[good]
        if self.config.family in WITHOUT_NMS or not len(scores):
            order = np.argsort(-scores, kind="stable")
            return Boxes(xyxy[order], scores[order])
        xywh = np.concatenate([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], axis=1)
        kept = cv2.dnn.NMSBoxesBatched(
            xywh.tolist(),
            scores.tolist(),
            [0] * len(scores),
            self.config.score_threshold,
            self.config.nms_threshold,
        )
        chosen = np.asarray(kept, np.intp).ravel()
        chosen = chosen[np.argsort(-scores[chosen], kind="stable")]
        return Boxes(xyxy[chosen], scores[chosen])


def prepared(
    image_bgr: NDArray[np.uint8], size_hw: tuple[int, int], config: DetectorConfig
) -> tuple[NDArray[np.float32], tuple[float, float], tuple[float, float]]:
    """The network's input (h, w, 3) float32, and scale and shift from picture to input pixels."""
    height, width = image_bgr.shape[:2]
    scale_x, scale_y = size_hw[1] / width, size_hw[0] / height
    if config.resize != "stretch":
        scale_x = scale_y = min(scale_x, scale_y)
    inner = max(1, int(width * scale_x)), max(1, int(height * scale_y))
    if config.resize == "stretch":
        inner = size_hw[1], size_hw[0]
    small = image_bgr if inner == (width, height) else cv2.resize(image_bgr, inner)
    left = top = 0
    if config.resize == "letterbox-center":
        left, top = (size_hw[1] - inner[0]) // 2, (size_hw[0] - inner[1]) // 2
    canvas = np.full((*size_hw, 3), config.pad, np.float32)
    canvas[top : top + inner[1], left : left + inner[0]] = small
    if config.color == "rgb":
        canvas = canvas[:, :, ::-1]
    mean, std = np.asarray(config.mean, np.float32), np.asarray(config.std, np.float32)
    tensor: NDArray[np.float32] = ((canvas - mean) / std).astype(np.float32, copy=False)
    return tensor, (scale_x, scale_y), (float(left), float(top))


def _in_image(
    found: Candidates,
    size_hw: tuple[int, int],
    scale_xy: tuple[float, float],
    shift_xy: tuple[float, float],
) -> NDArray[np.float64]:
    """Edges (M, 4) in pixels of the picture."""
    if found.frame == "image":
        return found.xyxy
    edges = found.xyxy
    if found.frame == "unit":
        edges = edges * np.array([size_hw[1], size_hw[0]] * 2)
    moved = edges - np.array([*shift_xy, *shift_xy])
    in_image: NDArray[np.float64] = moved / np.array([*scale_xy, *scale_xy])
    return in_image


def _configuration(path: Path, signature: Signature, config: Subject | None) -> DetectorConfig:
    """What the graph says, and the file where there is one."""
    known = (
        detr.recognised(signature)
        or ssd.recognised(signature)
        or yolox.recognised(signature)
        or nanodet.recognised(signature)
    )
    if config is not None:
        return read_config(config, known)
    if known is not None:
        return known
    outputs = ", ".join(f"{n} {_text(s)}" for n, s in list(signature.outputs.items())[:6])
    if end_to_end.has_form(signature):
        fix = 'family = "end-to-end", resize, color, mean, std, person_class'
        problem = f"suppresses overlaps itself ({outputs}), but does not say what goes in"
        raise InputError(path, problem, f"Say it with --detector-config FILE.toml: {fix}")
    problem = f"has outputs of an unknown form: {outputs}"
    raise InputError(path, problem, "Say what they are with --detector-config (docs/predict.md)")


def _text(shape: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("?" if side is None else str(side) for side in shape) + ")"
