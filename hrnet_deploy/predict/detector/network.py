"""From pictures to boxes before threshold and suppression, whatever the family and backend."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.errors import InputError, Subject
from hrnet_deploy.predict.detector import detr, end_to_end, nanodet, ssd, yolox
from hrnet_deploy.predict.detector.candidates import Candidates, Signature, of_picture
from hrnet_deploy.predict.detector.config import DetectorConfig, read_config
from hrnet_deploy.predict.detector.session import DetectorSession, Inputs
from hrnet_deploy.spec import KEYPOINTS_NAME, SCORES_NAME

DECODERS = {
    "yolox": yolox.decode,
    "nanodet": nanodet.decode,
    "detr": detr.decode,
    "hf-detr": detr.decode,
    "ssd": ssd.decode,
    "end-to-end": end_to_end.decode,
}
FREE_BATCH = 8
"""Pictures in a batch where the graph takes any number; more are no faster, only larger."""
BATCH_NDIM = 4


class DetectorNetwork:
    """A loaded graph with what it expects and gives: pictures in, candidates out.

    ``at_once`` is how many pictures a batch takes. Raises InputError where the description wants
    a batch that the graph does not take.
    """

    def __init__(self, session: DetectorSession, config: DetectorConfig) -> None:
        self._session, self._config = session, config
        least, most = session.batches
        self.at_once = config.batch or max(least, min(FREE_BATCH, most or FREE_BATCH))
        if self.at_once < least or (most is not None and self.at_once > most):
            takes = f"{least}" if least == most else f"{least} to {most or 'any number'}"
            problem = f"has batch = {config.batch}, the graph takes {takes}"
            raise InputError("--detector-config", problem, "Leave batch out")

    def candidates(self, images_bgr: Sequence[NDArray[np.uint8]]) -> list[Candidates]:
        """Boxes of each picture (H, W, 3) uint8 BGR, in its pixels, clipped to it.

        Pictures that the graph takes at one size share batches, which change nothing.
        """
        found: list[Candidates] = []
        for size_hw, group in groupby(images_bgr, key=self._size_hw):
            alike = list(group)
            for start in range(0, len(alike), self.at_once):
                found += self._of_batch(alike[start : start + self.at_once], size_hw)
        return found

    def _of_batch(
        self, images_bgr: Sequence[NDArray[np.uint8]], size_hw: tuple[int, int]
    ) -> list[Candidates]:
        ways = [prepared(image, size_hw, self._config) for image in images_bgr]
        inputs = self._inputs(images_bgr, [tensor for tensor, _, _ in ways])
        outputs = self._session.run(inputs)
        count = len(next(iter(inputs.values()))) if self._has_batch else 1
        decode = DECODERS[self._config.family]
        boxes = []
        for index, (image, way) in enumerate(zip(images_bgr, ways, strict=True)):
            found = decode(of_picture(outputs, index, count), size_hw, self._config)
            edges = _in_image(found, size_hw, *way[1:])
            limit = np.array([image.shape[1], image.shape[0]] * 2, np.float64)
            boxes.append(Candidates(np.clip(edges, 0, limit), found.scores, "image"))
        return boxes

    @property
    def _has_batch(self) -> bool:
        signature = self._session.signature
        return len(signature.inputs[signature.image][1]) == BATCH_NDIM

    def _inputs(
        self, images_bgr: Sequence[NDArray[np.uint8]], tensors: list[NDArray[np.float32]]
    ) -> Inputs:
        """What goes in, filled up with black where the graph takes no fewer."""
        signature = self._session.signature
        least, _ = self._session.batches
        sizes = [[image.shape[1], image.shape[0]] for image in images_bgr]
        for _ in range(least - len(tensors)):
            tensors.append(np.zeros_like(tensors[0]))
            sizes.append(sizes[0])
        batch = np.stack(tensors)
        batch = batch if signature.channels_last else batch.transpose(0, 3, 1, 2)
        inputs: Inputs = {signature.image: batch if self._has_batch else batch[0]}
        if detr.SIZE_INPUT in signature.inputs:
            inputs[detr.SIZE_INPUT] = np.array(sizes)
        return inputs

    def _size_hw(self, image_bgr: NDArray[np.uint8]) -> tuple[int, int]:
        height, width = image_bgr.shape[:2]
        own = self._session.signature.size_hw
        stated = self._config.size_hw or (None, None)
        # A graph of any size (TensorFlow's) takes the picture as it is.
        return own[0] or stated[0] or height, own[1] or stated[1] or width


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


def configuration(path: Path, signature: Signature, config: Subject | None) -> DetectorConfig:
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
    if {KEYPOINTS_NAME, SCORES_NAME} <= set(signature.outputs):
        problem = "is a pose engine of ours, no person detector"
        fix = "Give a detector, such as yolox_s; see: hrnet-deploy zoo list"
        raise InputError(path, problem, fix)
    outputs = ", ".join(f"{n} {_text(s)}" for n, s in list(signature.outputs.items())[:6])
    if end_to_end.has_form(signature):
        fix = 'family = "end-to-end", resize, color, mean, std, person_class'
        problem = f"suppresses overlaps itself ({outputs}), but does not say what goes in"
        raise InputError(path, problem, f"Say it with --detector-config FILE.toml: {fix}")
    problem = f"has outputs of an unknown form: {outputs}"
    raise InputError(path, problem, "Say what they are with --detector-config (docs/predict.md)")


def _text(shape: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("?" if side is None else str(side) for side in shape) + ")"
