"""Persons in a picture by somebody else's detector."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.closing import Closing
from hrnet_deploy.errors import Subject
from hrnet_deploy.files import sha256_file
from hrnet_deploy.predict.detector.candidates import Candidates
from hrnet_deploy.predict.detector.load import load_session
from hrnet_deploy.predict.detector.network import DetectorNetwork, configuration
from hrnet_deploy.predict.frames import Boxes, Finder, Frame, no_boxes
from hrnet_deploy.runtime.checks import MIN_SIDE, checked_image

WITHOUT_NMS = ("detr", "hf-detr", "end-to-end")
"""Families that give each person once."""


class PersonDetector(Finder, Closing):
    """``PersonDetector("yolox_s.onnx")(frame)``: the persons in a frame, best first.

    Takes an ``.onnx``, or a ``.plan`` that ``build --detector`` made. ``config`` is a TOML file
    for what the graph does not say; ``score_threshold`` goes before its own. ``backend`` is
    "onnxruntime" (None) or "openvino", "tensorrt" for a plan. Raises InputError for a graph of an
    unknown form.
    """

    def __init__(
        self,
        path: Subject,
        config: Subject | None = None,
        *,
        score_threshold: float | None = None,
        device: str | None = None,
        threads: int | None = None,
        backend: str | None = None,
    ) -> None:
        self.path = Path(path)
        self._session = load_session(self.path, backend=backend, device=device, threads=threads)
        self.config = configuration(self.path, self._session.signature, config)
        if score_threshold is not None:
            self.config = dataclasses.replace(self.config, score_threshold=score_threshold)
        self._network = DetectorNetwork(self._session, self.config)
        self.at_once = self._network.at_once

    @classmethod
    def from_pretrained(
        cls,
        detector: Subject,
        config: Subject | None = None,
        *,
        download: bool = False,
        score_threshold: float | None = None,
        device: str | None = None,
        threads: int | None = None,
        backend: str | None = None,
    ) -> PersonDetector:
        """A detector of an .onnx file, or of a name in the zoo (``hrnet-deploy zoo list``).

        A name that is not downloaded yet is an InputError with the command that does it;
        ``download=True`` is the word to do it now.
        """
        from hrnet_deploy.zoo.pretrained import detector_file

        return cls(
            detector_file(detector, download=download),
            config,
            score_threshold=score_threshold,
            device=device,
            threads=threads,
            backend=backend,
        )

    def many(self, frames: Sequence[Frame]) -> list[Boxes]:
        """Boxes of several frames in pixels of each, clipped to it; batches change nothing."""
        images = [frame.image_bgr for frame in frames if frame.image_bgr is not None]
        found = iter(self.detect_many(images))
        return [no_boxes() if frame.image_bgr is None else next(found) for frame in frames]

    def detect(self, image_bgr: NDArray[np.uint8]) -> Boxes:
        """The persons in one picture (H, W, 3) uint8 BGR."""
        return self.detect_many([image_bgr])[0]

    def detect_many(self, images_bgr: Sequence[NDArray[np.uint8]]) -> list[Boxes]:
        """The same for several."""
        images = [checked_image(image) for image in images_bgr]
        return [self._chosen(found) for found in self._network.candidates(images)]

    def facts(self) -> dict[str, Any]:
        """The file, what runs it where, and how: all that the boxes depend on."""
        return {
            "sha256": sha256_file(self.path),
            "device": self._session.device,
            "versions": self._session.versions,
            "config": dataclasses.asdict(self.config),
        }

    def close(self) -> None:
        """Let go of the graph."""
        self._session.close()

    def _chosen(self, found: Candidates) -> Boxes:
        """Threshold, then suppression of overlaps, best first."""
        xyxy, scores = found.xyxy, found.scores
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
