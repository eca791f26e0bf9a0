"""Poses as records: what JSON Lines, CSV, Parquet and COCO results have in common."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.predict.frames import Frame, Predicted
from hrnet_deploy.spec import ModelSpec

PIXEL_DIGITS = 3
SCORE_DIGITS = 5
"""Digits after the point: a thousandth of a pixel is far below what any network can tell."""

Cell = str | int | float | None


def record(predicted: Predicted, spec: ModelSpec) -> dict[str, Any]:
    """One line of JSON Lines: a picture or frame with its persons, or why it has none."""
    frame = predicted.frame
    line: dict[str, Any] = {"image" if frame.number is None else "video": frame.source}
    if frame.number is not None:
        line |= {"frame": frame.number, "time_s": _rounded(frame.time_s or 0.0, PIXEL_DIGITS)}
    if predicted.error is not None:
        return {**line, "error": f"{predicted.error.problem}"}
    if frame.size_wh is not None:
        line["width"], line["height"] = frame.size_wh
    if frame.orientation != 1:
        line["exif"] = {"orientation": frame.orientation, "applied": frame.turned}
    line["keypoint_set"] = spec.keypoint_set
    line["persons"] = [_person(predicted, index) for index in range(len(predicted.poses))]
    return line


def json_line(predicted: Predicted, spec: ModelSpec) -> str:
    """The same as text with its newline; ASCII, so that any name of a file survives."""
    return json.dumps(record(predicted, spec), allow_nan=False, separators=(", ", ": ")) + "\n"


def _person(predicted: Predicted, index: int) -> dict[str, Any]:
    poses = predicted.poses
    person: dict[str, Any] = {}
    if predicted.ids is not None:
        person["id"] = int(predicted.ids[index])
    return person | {
        "box_xyxy": _list(poses.boxes_xyxy[index], PIXEL_DIGITS),
        "box_score": _rounded(predicted.boxes.scores[index], SCORE_DIGITS),
        "score": _rounded(poses.instance_scores[index], SCORE_DIGITS),
        "keypoints": _keypoints(predicted, index),
    }


def _keypoints(predicted: Predicted, index: int) -> list[list[float]]:
    """K rows of x, y and score."""
    points = _list(predicted.poses.keypoints_px[index], PIXEL_DIGITS)
    scores = _list(predicted.poses.scores[index], SCORE_DIGITS)
    return [[*point, score] for point, score in zip(points, scores, strict=True)]


def columns(spec: ModelSpec) -> list[str]:
    """Columns of the table that CSV and Parquet hold: one row for each person."""
    fixed = ["source", "frame", "time_s", "person", "id", "x1", "y1", "x2", "y2"]
    fixed += ["box_score", "score"]
    return fixed + [
        f"{name}_{part}" for name in spec.keypoint_names for part in ("x", "y", "score")
    ]


def rows(predicted: Predicted) -> list[list[Cell]]:
    """Rows of that table for one frame; None where a cell has no value."""
    frame, poses = predicted.frame, predicted.poses
    time_s = None if frame.time_s is None else _rounded(frame.time_s, PIXEL_DIGITS)
    table = []
    for index in range(len(poses)):
        row: list[Cell] = [frame.source, frame.number, time_s, index]
        row.append(None if predicted.ids is None else int(predicted.ids[index]))
        row += _list(poses.boxes_xyxy[index], PIXEL_DIGITS)
        row.append(_rounded(predicted.boxes.scores[index], SCORE_DIGITS))
        row.append(_rounded(poses.instance_scores[index], SCORE_DIGITS))
        row += [value for point in _keypoints(predicted, index) for value in point]
        table.append(row)
    return table


def csv_text(table: Sequence[Sequence[Cell]]) -> str:
    """Rows as CSV text."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(table)
    return text.getvalue()


def coco_results(predicted: Predicted, image_id: int) -> list[dict[str, Any]]:
    """COCO results: one entry for each person, with the name of its file beside the id."""
    entries = []
    for index in range(len(predicted.poses)):
        x1, y1, x2, y2 = (float(v) for v in predicted.poses.boxes_xyxy[index])
        box = np.array([x1, y1, x2 - x1, y2 - y1])
        entry: dict[str, Any] = {
            "image_id": image_id,
            "category_id": 1,
            "keypoints": [v for point in _keypoints(predicted, index) for v in point],
            "score": _rounded(predicted.poses.instance_scores[index], SCORE_DIGITS),
            "bbox": _list(box, PIXEL_DIGITS),
            "file_name": predicted.frame.source,
        }
        if predicted.ids is not None:
            entry["track_id"] = int(predicted.ids[index])
        entries.append(entry)
    return entries


def image_id_of(frame: Frame, running: int) -> int:
    """The frame's number, a picture's name where it is a number, else a running number from 1."""
    if frame.number is not None:
        return frame.number
    stem = PurePath(frame.source).stem
    return int(stem) if stem.isdecimal() and stem.isascii() else running


def _rounded(value: float | np.floating[Any], digits: int) -> float:
    return round(float(value), digits)


def _list(values: NDArray[Any], digits: int) -> list[Any]:
    """Nested lists, rounded from the shortest decimal that the array's type distinguishes."""
    rounded: list[Any] = np.round(values.astype(np.float64), digits).tolist()
    return rounded
