"""Evaluate an engine on MPII and write its predictions as the benchmark takes them."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.engines import Engine
from hrnet_deploy.errors import InputError, require
from hrnet_deploy.evaluation.mpii import JOINTS, MpiiPersons, Pckh, pckh
from hrnet_deploy.files import contained, sha256_file, write_bytes
from hrnet_deploy.runtime.flip_choice import flip_facts, second_passes
from hrnet_deploy.runtime.geometry import UNPADDED_CENTER_X, CropGeometry
from hrnet_deploy.runtime.image import MAX_PIXELS, read_image
from hrnet_deploy.runtime.jobs import ImageJob
from hrnet_deploy.runtime.stream import poses_of_images
from hrnet_deploy.spec import BOX_PADDING
from hrnet_deploy.values import first_few

CENTER_DOWN = 15
"""Pixels per unit of scale that centres move down, so that feet are not cut (official mpii.py)."""

MAT_HEADER = b"MATLAB 5.0 MAT-file, predictions of hrnet-deploy"
MAT_HEADER_BYTES = 116
"""The description at the start of a MATLAB 5 file; scipy would write the date there."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class MpiiResult:
    """PCKh (None without head boxes) and the predictions (N, 16, 2), pixels counted from one."""

    figures: Pckh | None
    predictions: NDArray[np.float32]
    scores: NDArray[np.float32]
    persons: int
    notes: list[str]
    second_passes: int = 0

    def as_json(self, engine: Engine, persons: MpiiPersons) -> dict[str, Any]:
        """The content of the result file."""
        flip = flip_facts(engine)
        if flip is not None:
            flip |= second_passes(self.second_passes, self.persons)
        return {
            "kind": "hrnet-deploy MPII evaluation",
            "schema": 1,
            **({} if self.figures is None else self.figures.as_json()),
            "persons": self.persons,
            **({} if flip is None else {"flip": flip}),
            "notes": self.notes,
            "engine": {
                "sha256": engine.info.sha256,
                "backend": engine.info.backend,
                "precision": engine.info.precision,
                "flip_test": engine.spec.flip_test,
            },
            "annotations_sha256": sha256_file(persons.path),
        }


def evaluate_mpii(
    engine: Engine,
    persons: MpiiPersons,
    images: Path,
    *,
    batch_size: int = 32,
    max_pixels: float = MAX_PIXELS,
    progress: Progress = lambda done, total: None,
) -> MpiiResult:
    """Poses of all persons, and PCKh where the head sizes are known.

    Raises InputError for an engine of other keypoints and for a picture that is not there or
    cannot be read.
    """
    spec = engine.spec
    if spec.joints != JOINTS:
        problem = f"gives {spec.joints} keypoints ({spec.keypoint_set}), MPII has {JOINTS}"
        raise InputError(engine.info.path, problem, "Use an engine that was trained on MPII")
    geometry = official_geometry(persons, spec.input_size_wh)
    rows_of: dict[str, list[int]] = {}
    for row, name in enumerate(persons.images):
        rows_of.setdefault(name, []).append(row)
    paths = _paths(images, persons, list(rows_of))
    jobs = [
        ImageJob(name, paths[name], geometry[np.array(rows, np.intp)])
        for name, rows in rows_of.items()
    ]
    read = functools.partial(read_image, max_pixels=max_pixels)
    predictions = np.zeros((len(persons), JOINTS, 2), np.float32)
    scores = np.zeros((len(persons), JOINTS), np.float32)
    done = second_passes = 0
    for result in poses_of_images(engine, jobs, batch_size=batch_size, read=read):
        if result.error is not None:
            raise result.error
        rows = rows_of[str(result.job.key)]
        predictions[rows] = result.keypoints_px + 1  # MPII counts pixels from one
        scores[rows] = result.scores
        second_passes += result.second_passes
        done += len(rows)
        progress(done, len(persons))
    return _judged(persons, predictions, scores, second_passes)


def _judged(
    persons: MpiiPersons,
    predictions: NDArray[np.float32],
    scores: NDArray[np.float32],
    second_passes: int,
) -> MpiiResult:
    """The result of poses (N, 16, 2) in MPII's pixels with scores (N, 16)."""
    notes, figures = [], None
    if persons.head_sizes is None:
        notes.append("the annotations have no head boxes: PCKh is undefined, predictions only")
    else:
        figures = pckh(predictions, persons.joints, persons.visible, persons.head_sizes)
    return MpiiResult(figures, predictions, scores, len(persons), notes, second_passes)


def official_geometry(persons: MpiiPersons, input_size_wh: tuple[int, int]) -> CropGeometry:
    """Crops from annotated centre and scale: down by 15 per scale, 1.25 larger, counted from 0."""
    scales = np.repeat(persons.scales[:, None], 2, axis=1)
    centers = persons.centers.copy()
    known = centers[:, 0] != UNPADDED_CENTER_X
    centers[known, 1] += CENTER_DOWN * scales[known, 1]
    scales[known] *= BOX_PADDING
    return CropGeometry((centers - 1).astype(np.float32), scales.astype(np.float32), input_size_wh)


def _paths(folder: Path, persons: MpiiPersons, names: list[str]) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(folder, "is no folder", "Give the folder of the images")
    paths = {name: contained(folder, name, source=persons.path) for name in names}
    missing = [name for name, path in paths.items() if not path.is_file()]
    if missing:
        problem = f"{len(missing)} of {len(names)} images are missing: {first_few(missing)}"
        raise InputError(folder, problem, "Give the folder that belongs to the annotations")
    return paths


def write_predictions(path: Path, predictions: NDArray[np.float32]) -> None:
    """Write ``preds`` (N, 16, 2) as the official code does, without the date of the day."""
    scipy_io = require("scipy.io", extra="mpii", purpose="reading and writing .mat files")
    buffer = io.BytesIO()
    scipy_io.savemat(buffer, {"preds": predictions.astype(np.float64)})
    content = MAT_HEADER.ljust(MAT_HEADER_BYTES) + buffer.getvalue()[MAT_HEADER_BYTES:]
    write_bytes(path, content)
