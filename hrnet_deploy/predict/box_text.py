"""Boxes out of text: CSV with a header line, MOTChallenge rows, and YOLO files."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from hrnet_deploy.errors import InputError, Subject
from hrnet_deploy.files import check_input_file
from hrnet_deploy.predict.box_rows import (
    BoxRow,
    Layout,
    checked_edges,
    checked_score,
    whole_number,
)
from hrnet_deploy.predict.frames import Boxes

NAME_COLUMNS = ("image", "file", "file_name", "filename", "path", "source", "video")
NUMBER_COLUMNS = ("frame", "frame_id", "image_id")
SCORE_COLUMNS = ("box_score", "score", "confidence", "conf")
ID_COLUMNS = ("id", "track_id")
CORNERS = (
    ("x1", "y1", "x2", "y2"),
    ("left", "top", "right", "bottom"),
    ("xmin", "ymin", "xmax", "ymax"),
)
SIZES = (("x", "y", "width", "height"), ("x", "y", "w", "h"), ("left", "top", "width", "height"))

MOT_COLUMNS = 6
"""frame, id, left, top, width, height; then confidence, class and visibility (MOTChallenge)."""
MOT_FIRST_FRAME = 1
_PEDESTRIAN = 1
"""MOTChallenge's class of walking people; ground truth marks what does not count with conf 0."""

YOLO_PERSON = 0
"""Number of "person" among COCO's classes counted from 0, as in YOLO files."""
MAX_TEXT_BYTES = 1 << 30

_CSV_FIX = "Give a header line with image (or frame) and x1,y1,x2,y2 or x,y,width,height"
_MOT_FIX = "Give rows of frame,id,left,top,width,height,confidence"
_YOLO_FIX = "Give rows of class cx cy width height [confidence], as fractions of the picture"


def read_text(path: Subject, what: str) -> str:
    """All of a text file, UTF-8 with or without a byte-order mark."""
    file = check_input_file(path, what=what)
    if (size := file.stat().st_size) > MAX_TEXT_BYTES:
        raise InputError(path, f"is {size / 1e9:.1f} GB", "Split it; at most 1.1 GB are read")
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            path, f"is not UTF-8 text at byte {error.start}", "Save it as UTF-8"
        ) from (error)


def read_csv(path: Subject) -> list[BoxRow]:
    """Boxes of a CSV file, whose header line says what the columns are."""
    lines = read_text(path, "boxes file").splitlines()
    header_line = lines[0] if lines else ""
    delimiter = max(",;\t", key=header_line.count)
    header = [name.strip().lower() for name in next(csv.reader([header_line], delimiter=delimiter))]
    columns, layout = _box_columns(header, path)
    name, number = _first(header, NAME_COLUMNS), _first(header, NUMBER_COLUMNS)
    score, id_ = _first(header, SCORE_COLUMNS), _first(header, ID_COLUMNS)
    if name is not None and number is not None and header[number] == "image_id":
        number = None  # a number of the file's own says less than the name
    if name is None and number is None:
        raise InputError(path, f"has no column image or frame ({', '.join(header)})", _CSV_FIX)
    rows = []
    try:
        for index, cells in enumerate(csv.reader(lines[1:], delimiter=delimiter)):
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                problem = f"line {index + 2} has {len(cells)} cells, the header {len(header)}"
                raise InputError(path, problem, _CSV_FIX)
            frame = cells[number].strip() if number is not None else ""
            track = cells[id_].strip() if id_ is not None else ""
            box = [cells[c] for c in columns]
            rows.append(
                BoxRow(
                    cells[name] if name is not None else None,
                    whole_number(frame, "frame", index=index, path=path) if frame else None,
                    checked_edges(box, layout, index=index, path=path),
                    1.0
                    if score is None or not cells[score].strip()
                    else checked_score(cells[score], index=index, path=path),
                    whole_number(track, "id", index=index, path=path) if track else None,
                )
            )
    except csv.Error as error:
        raise InputError(path, f"is not valid CSV ({error})", _CSV_FIX) from error
    return rows


def _first(header: list[str], names: tuple[str, ...]) -> int | None:
    return next((header.index(name) for name in names if name in header), None)


def _box_columns(header: list[str], path: Subject) -> tuple[list[int], Layout]:
    layouts: tuple[tuple[tuple[tuple[str, ...], ...], Layout], ...]
    layouts = ((CORNERS, "xyxy"), (SIZES, "xywh"))
    for choices, layout in layouts:
        for names in choices:
            if all(name in header for name in names):
                return [header.index(name) for name in names], layout
    raise InputError(path, f"has no columns of boxes ({', '.join(header[:12])})", _CSV_FIX)


def read_mot(path: Subject) -> list[BoxRow]:
    """Boxes of a MOTChallenge file (``det.txt``, ``gt.txt`` or a tracker's result).

    Frames count from 1 there and from 0 in the result. Rows of ground truth that do not count
    (confidence 0) or are of another class than pedestrian are left out.
    """
    rows = []
    for index, line in enumerate(read_text(path, "boxes file").splitlines()):
        cells = [cell.strip() for cell in line.split(",")]
        if cells == [""]:
            continue
        if len(cells) < MOT_COLUMNS:
            raise InputError(path, f"line {index + 1} has {len(cells)} columns", _MOT_FIX)
        frame = whole_number(cells[0], "frame", index=index, path=path)
        track = whole_number(cells[1], "id", index=index, path=path)
        score = checked_score(cells[6], index=index, path=path) if len(cells) > 6 else 1.0
        # With nine columns the eighth is a class; with ten it is a world coordinate (-1).
        if len(cells) == 9 and (score == 0 or float(cells[7] or 1) != _PEDESTRIAN):
            continue
        xyxy = checked_edges(cells[2:6], "xywh", index=index, path=path)
        number = frame - MOT_FIRST_FRAME
        rows.append(BoxRow(None, number, xyxy, score, track if track >= 0 else None))
    return rows


def read_yolo(path: Path, size_wh: tuple[int, int]) -> Boxes:
    """Persons (class 0) of one YOLO file, whose numbers are fractions of the picture's size."""
    width, height = size_wh
    edges, scores = [], []
    for index, line in enumerate(read_text(path, "boxes file").splitlines()):
        cells = line.split()
        if not cells:
            continue
        if len(cells) not in (5, 6):
            raise InputError(path, f"line {index + 1} has {len(cells)} columns", _YOLO_FIX)
        if whole_number(cells[0], "class", index=index, path=path) != YOLO_PERSON:
            continue
        cx, cy, w, h, score = (checked_score(c, index=index, path=path) for c in [*cells, 1][1:6])
        if max(abs(cx), abs(cy), w, h) > 2:
            problem = f"line {index + 1} holds pixels rather than fractions"
            raise InputError(path, problem, _YOLO_FIX)
        box = [(cx - w / 2) * width, (cy - h / 2) * height, w * width, h * height]
        edges.append(checked_edges(box, "xywh", index=index, path=path))
        scores.append(score)
    return Boxes(np.array(edges, np.float64).reshape(-1, 4), np.array(scores, np.float64))
