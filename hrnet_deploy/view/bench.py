"""What the page shows: engines, dropped pictures, persons, and poses with their times."""

from __future__ import annotations

import base64
import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.engines import Engine
from hrnet_deploy.errors import InputError
from hrnet_deploy.predict.detector.detector import PersonDetector
from hrnet_deploy.predict.estimator import PoseEstimator
from hrnet_deploy.predict.orientation import exif_orientation, turned
from hrnet_deploy.runtime.checks import checked_boxes
from hrnet_deploy.runtime.crops import crop_into
from hrnet_deploy.runtime.draw import SCORE_THRESHOLD
from hrnet_deploy.runtime.flip import FlipEngine
from hrnet_deploy.runtime.geometry import CropGeometry
from hrnet_deploy.runtime.image import MAX_PIXELS, decode_image
from hrnet_deploy.runtime.pose import instance_scores

MAX_PERSONS = 64
KEPT_PICTURES = 4
HEATMAP_SIDE_PX = 1024
"""Heatmaps are laid over a picture at most this large; they are 64 pixels wide themselves."""
HEAT_ALPHA = 0.75
ALL_KEYPOINTS = -1
_AGAIN = "Drop it again"


@dataclass(frozen=True)
class Picture:
    """A picture as it is meant to be seen (EXIF orientation applied)."""

    name: str
    image_bgr: NDArray[np.uint8]
    decode_ms: float


class Bench:
    """Engines, perhaps a detector, and the last few pictures; one call of them at a time.

    A ``picture`` is known by an id that cannot be guessed, and forgotten after a few others.
    """

    def __init__(
        self,
        engines: list[tuple[Path, Engine]],
        max_pixels: float = MAX_PIXELS,
        detector: PersonDetector | None = None,
    ) -> None:
        self._engines = engines
        self._flipping = [_flipping(engine) for _, engine in engines]
        self._detector = detector
        self._max_pixels = max_pixels
        self._pictures: OrderedDict[str, Picture] = OrderedDict()
        self._lock = threading.Lock()

    def facts(self) -> dict[str, Any]:
        """What the page must know: each engine by its place, and the detector's name or None."""
        engines = [self._facts(index) for index in range(len(self._engines))]
        detector = None if self._detector is None else self._detector.path.name
        return {"engines": engines, "detector": detector}

    def add(self, content: bytes, name: str) -> dict[str, Any]:
        """Decode a picture with the checks that files get; InputError names what is wrong."""
        begun = time.perf_counter()
        image_bgr = decode_image(content, name=name, max_pixels=self._max_pixels)
        image_bgr = turned(image_bgr, exif_orientation(content))
        spent = _ms(begun)
        key = secrets.token_hex(16)
        with self._lock:
            self._pictures[key] = Picture(name, image_bgr, spent)
            while len(self._pictures) > KEPT_PICTURES:
                self._pictures.popitem(last=False)
        height, width = image_bgr.shape[:2]
        return {"picture": key, "width": width, "height": height, "decode_ms": spent}

    def people(self, key: str) -> dict[str, Any]:
        """The persons that the detector finds, best first: boxes (N, 4) in picture pixels."""
        if self._detector is None:
            raise InputError("detector", "was not given", "Start view with --detector FILE.onnx")
        with self._lock:
            picture, begun = self._picture(key), time.perf_counter()
            found = self._detector.detect(picture.image_bgr)
            spent = _ms(begun)
        boxes = np.round(found.xyxy[:MAX_PERSONS], 1).tolist()
        return {"boxes": boxes, "found": len(found), "detector_ms": spent}

    def poses(
        self,
        key: str,
        index: int,
        boxes_xyxy: list[list[float]],
        heatmap: int | None = None,
        *,
        flip: bool | None = None,
    ) -> dict[str, Any]:
        """Poses of the boxes (N, 4) in picture pixels, with times in milliseconds.

        ``heatmap`` is the keypoint whose heatmap to lay over the picture, -1 for all of them;
        ``flip`` whether to make a flip-test, None as the engine's graph does.
        """
        boxes = _few(checked_boxes(boxes_xyxy))
        with self._lock:
            picture, engine = self._picture(key), self._engine(index, flip)
            spec = engine.spec
            if heatmap is not None and not ALL_KEYPOINTS <= heatmap < spec.joints:
                problem = f"keypoint {heatmap} is not one of {spec.joints}"
                raise InputError("heatmap", problem, "Choose one of the list")
            begun = time.perf_counter()
            geometry = CropGeometry.from_boxes_xyxy(
                boxes, spec.input_size_wh, padding=spec.box_padding
            )
            crops = np.empty((len(boxes), *spec.input_size_hw, 3), np.uint8)
            crop_into(picture.image_bgr, geometry, crops)
            crop_ms, begun = _ms(begun), time.perf_counter()
            output = engine.run(crops, heatmaps=heatmap is not None)
            engine_ms = _ms(begun)
        keypoints_px = geometry.to_image(output.keypoints_heatmap, spec.heatmap_size_wh)
        facts: dict[str, Any] = {
            "keypoints": np.round(keypoints_px.astype(np.float64), 2).tolist(),
            "scores": np.round(output.scores.astype(np.float64), 4).tolist(),
            "instances": np.round(instance_scores(output.scores).astype(np.float64), 4).tolist(),
            "times_ms": {"decode": picture.decode_ms, "crops": crop_ms, "engine": engine_ms},
        }
        if heatmap is not None and output.heatmaps_nkhw is not None:
            maps = output.heatmaps_nkhw
            chosen = maps.max(axis=1) if heatmap == ALL_KEYPOINTS else maps[:, heatmap]
            affines = geometry.heatmap_to_image(spec.heatmap_size_wh)
            facts["heatmap"] = heat_png(picture.image_bgr.shape[:2], affines, chosen)
        return facts

    def drawing(
        self,
        key: str,
        index: int,
        boxes_xyxy: list[list[float]],
        *,
        flip: bool | None = None,
        threshold: float = SCORE_THRESHOLD,
        with_boxes: bool = False,
    ) -> bytes:
        """The picture in its own size with the poses drawn as ``predict --draw`` does, as PNG."""
        boxes = _few(checked_boxes(boxes_xyxy))
        with self._lock:
            picture, engine = self._picture(key), self._engine(index, flip)
            poses = PoseEstimator(engine)(picture.image_bgr, boxes)
        return _png(poses.draw(picture.image_bgr, threshold=threshold, boxes=with_boxes))

    def _facts(self, index: int) -> dict[str, Any]:
        path, engine = self._engines[index]
        spec = engine.spec
        return {
            "name": path.name,
            "flip_test": spec.flip_test,
            "flip_choice": self._flipping[index] is not None,
            "architecture": spec.architecture,
            "input": f"{spec.input_size_hw[0]}x{spec.input_size_hw[1]}",
            "precision": engine.info.precision,
            "backend": engine.info.backend,
            "device": engine.info.device,
            "heatmaps": spec.has_heatmaps,
            "keypoint_set": spec.keypoint_set,
            "names": list(spec.keypoint_names),
            "skeleton": [list(pair) for pair in spec.skeleton],
        }

    def _picture(self, key: str) -> Picture:
        if key not in self._pictures:
            raise InputError("picture", "is not known any more", _AGAIN)
        self._pictures.move_to_end(key)
        return self._pictures[key]

    def _engine(self, index: int, flip: bool | None) -> Engine:
        """The engine at ``index``, with a flip-test around it where one is asked for."""
        if not 0 <= index < len(self._engines):
            raise InputError("engine", f"{index} is not one of {len(self._engines)}", "Reload")
        engine, flipping = self._engines[index][1], self._flipping[index]
        if flip is None or flip == engine.spec.flip_test:
            return engine
        if flipping is None:
            problem = "has the flip-test in its graph" if not flip else "cannot make a flip-test"
            raise InputError(engine.info.path, problem, "Export it with --no-flip for both")
        return flipping


def _flipping(engine: Engine) -> FlipEngine | None:
    """A flip-test of everybody around an engine; None where that is not possible."""
    try:
        return FlipEngine(engine, 0.0)
    except InputError:
        return None


def _few(boxes_xyxy: NDArray[np.float64]) -> NDArray[np.float64]:
    if len(boxes_xyxy) > MAX_PERSONS:
        raise InputError("boxes", f"are {len(boxes_xyxy)}", f"Draw at most {MAX_PERSONS}")
    return boxes_xyxy


def heat_png(
    size_hw: tuple[int, int],
    affines: NDArray[np.float64],
    heatmaps_nhw: NDArray[np.float32],
) -> str:
    """Heatmaps (N, h, w) moved into the picture by ``affines`` (N, 2, 3), as a data URL.

    A PNG of the picture's shape, at most 1024 pixels on a side, transparent where cold.
    """
    scale = min(1.0, HEATMAP_SIDE_PX / max(size_hw))
    height, width = (max(1, round(side * scale)) for side in size_hw)
    heat = np.zeros((height, width), np.float32)
    for affine, person in zip(affines, heatmaps_nhw, strict=True):
        clipped = np.ascontiguousarray(np.clip(person, 0, 1))
        placed = cv2.warpAffine(clipped, affine * scale, (width, height), flags=cv2.INTER_LINEAR)
        np.maximum(heat, placed, out=heat)
    colours = cv2.applyColorMap(np.round(heat * 255).astype(np.uint8), cv2.COLORMAP_TURBO)
    alpha = np.round(np.sqrt(heat) * (255 * HEAT_ALPHA)).astype(np.uint8)
    png = _png(np.dstack([colours, alpha]))
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _png(image: NDArray[np.uint8]) -> bytes:
    done, png = cv2.imencode(".png", image)
    if not done:
        raise InputError("picture", "cannot be written as PNG", "Choose another picture")
    return png.tobytes()


def _ms(begun: float) -> float:
    return round((time.perf_counter() - begun) * 1000, 2)
