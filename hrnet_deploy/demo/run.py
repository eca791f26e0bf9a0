"""The whole way in one go: export, prove, evaluate side by side, draw, with data made here."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.demo import CHECKPOINT
from hrnet_deploy.demo.people import write_dataset
from hrnet_deploy.engines import Engine, load_engine
from hrnet_deploy.errors import EnvironmentFault, InputError, InterruptedRun, require
from hrnet_deploy.evaluation.coco import Annotations, read_annotations
from hrnet_deploy.evaluation.run import evaluate
from hrnet_deploy.export.checkpoint import read_checkpoint
from hrnet_deploy.export.run import Exported, export_checkpoint, reference_engine
from hrnet_deploy.export.settings import ExportSettings
from hrnet_deploy.files import check_output_file, write_bytes
from hrnet_deploy.predict.estimator import PoseEstimator
from hrnet_deploy.runtime.draw import draw_poses
from hrnet_deploy.runtime.image import read_image
from hrnet_deploy.talk import Say

DEMO_SEED = 2_000_000
"""Far from the seeds of the training pictures: the network has seen none of these."""

OVERLAYS = 12
OVERLAYS_NAME = "overlays.jpg"
OVERLAY_COLUMNS = 4
CELL_WH = (400, 300)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class DemoResult:
    """What the demo made: engines with their parity, COCO figures by engine, and pictures."""

    exported: list[Exported]
    figures: dict[str, dict[str, Any]]
    annotations: Path
    images: Path
    overlays: Path


def run_demo(folder: Path, *, images: int, force: bool, say: Say, progress: Progress) -> DemoResult:
    """Run everything in ``folder``, which must be new or empty unless ``force``."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())) and not force:
        raise InputError(folder, "exists", "Pass --force to use it, or -o another folder")
    for module in ("torch", "onnx", "onnxruntime"):  # said before anything is drawn
        require(module, extra="export,cpu", purpose="demo")
    was_there = folder.is_dir()
    to_clean = not was_there or not any(folder.iterdir())
    check_output_file(folder / OVERLAYS_NAME, force=force)
    try:
        return _run_in(folder, images=images, force=force, say=say, progress=progress)
    except (InterruptedRun, EnvironmentFault, OSError):
        if to_clean:  # or the same command would find the folder in its way
            _clear(folder)
            if not was_there:
                folder.rmdir()
        raise


def _clear(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _run_in(folder: Path, *, images: int, force: bool, say: Say, progress: Progress) -> DemoResult:
    say(f"drawing {images} pictures of synthetic people in {folder / 'pictures'}")
    annotations = write_dataset(folder / "pictures", images=images, seed=DEMO_SEED)
    pictures = annotations.parent / "images"
    checkpoint_path = Path(shutil.copy(CHECKPOINT, folder / CHECKPOINT.name))
    settings = ExportSettings(recipe=str(CHECKPOINT.with_suffix(".toml")), force=force)
    exported = export_checkpoint(checkpoint_path, settings, say=say)
    figures = {}
    for name, engine in _engines(checkpoint_path, exported):
        say(f"evaluating {name}")
        with engine:
            result = evaluate(engine, annotations, pictures, progress=progress)
        figures[name] = result.as_json()
    overlays = folder / OVERLAYS_NAME
    _write_overlays(exported[0].path, annotations, pictures, overlays)
    return DemoResult(exported, figures, annotations, pictures, overlays)


def _engines(checkpoint_path: Path, exported: list[Exported]) -> list[tuple[str, Engine]]:
    """PyTorch first, then every exported file."""
    checkpoint = read_checkpoint(checkpoint_path)
    engines: list[tuple[str, Engine]] = [
        (f"{checkpoint_path.name} (PyTorch)", reference_engine(checkpoint, exported[0].spec))
    ]
    return engines + [(item.path.name, load_engine(item.path)) for item in exported]


def _write_overlays(engine: Path, annotations: Path, images: Path, target: Path) -> None:
    """A sheet of the first pictures that show people, with the poses found in them."""
    with PoseEstimator(engine) as estimator:
        known = read_annotations(annotations, estimator.engine.spec)
        cells = []
        for file_name, boxes_xyxy in _persons(known)[:OVERLAYS]:
            picture = read_image(images / file_name)
            poses = estimator(picture, boxes_xyxy)
            cells.append(_cell(draw_poses(picture, poses, estimator.engine.spec.skeleton)))
    encoded, content = cv2.imencode(".jpg", _sheet(cells), [cv2.IMWRITE_JPEG_QUALITY, 92])
    if not encoded:
        raise InputError(target, "cannot be encoded as JPEG", "Report this")
    write_bytes(target, content.tobytes())


def _persons(known: Annotations) -> list[tuple[str, NDArray[np.float64]]]:
    """File names with the boxes (N, 4) xyxy of their persons, nobody's left out."""
    found = []
    for image in known.images:
        boxes = [
            entry["bbox"]
            for entry in known.annotations
            if entry["image_id"] == image.id and entry["num_keypoints"] and not entry["iscrowd"]
        ]
        if boxes:
            corners = np.array(boxes, np.float64)
            corners[:, 2:] += corners[:, :2]
            found.append((image.file_name, corners))
    return found


def _cell(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture fitted into one cell of the sheet."""
    height, width = picture.shape[:2]
    scale = min(CELL_WH[0] / width, CELL_WH[1] / height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    cell = np.zeros((CELL_WH[1], CELL_WH[0], 3), np.uint8)
    cell[: size[1], : size[0]] = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return cell


def _sheet(cells: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    empty = np.zeros((CELL_WH[1], CELL_WH[0], 3), np.uint8)
    missing = -len(cells) % OVERLAY_COLUMNS or (0 if cells else OVERLAY_COLUMNS)
    padded = cells + [empty] * missing
    rows = [
        np.hstack(padded[start : start + OVERLAY_COLUMNS])
        for start in range(0, len(padded), OVERLAY_COLUMNS)
    ]
    return np.vstack(rows)
