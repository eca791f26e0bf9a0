"""MPII: annotations with centre and scale, and PCKh as the official code counts it."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.errors import InputError, Subject, require
from hrnet_deploy.files import check_input_file, read_json
from hrnet_deploy.keypoints import MPII_16
from hrnet_deploy.values import is_number

JOINTS = MPII_16.count
HEAD_FACTOR = 0.6
"""Official ``SC_BIAS``: the head size is 0.6 times the diagonal of the head box."""

LEFT_OUT = (6, 7)
"""Pelvis and thorax do not count in the mean (official ``lib/dataset/mpii.py``)."""

THRESHOLDS = (0.5, 0.1)
OFFICIAL_FINE = 0.11
"""What the official code prints as Mean@0.1 reads bin 11 of 0, 0.01, ...: the threshold 0.11."""

GROUPS = {
    "Head": (9,),
    "Shoulder": (12, 13),
    "Elbow": (11, 14),
    "Wrist": (10, 15),
    "Hip": (2, 3),
    "Knee": (1, 4),
    "Ankle": (0, 5),
}
"""Columns of the benchmark's table, as joints of ``mpii_16``; left and right are averaged."""

FARTHEST = 1e6
"""Pixels, and units of scale: farther from the picture is a slip of the annotation."""

_FIX = "Give the MPII validation file (valid.json) with gt_valid.mat as --ground-truth"


@dataclass(frozen=True)
class MpiiPersons:
    """N annotated persons in the file's order.

    ``images`` (N) are file names; ``centers`` (N, 2) and ``scales`` (N,) as annotated: pixels
    counted from one, and person heights in units of 200 px. ``joints`` (N, 16, 2) are counted from
    one too, ``visible`` (N, 16); ``head_sizes`` (N,) in pixels with the factor 0.6, None where the
    file has no head boxes.
    """

    path: Path
    images: tuple[str, ...]
    centers: NDArray[np.float64]
    scales: NDArray[np.float64]
    joints: NDArray[np.float64]
    visible: NDArray[np.bool_]
    head_sizes: NDArray[np.float64] | None

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Pckh:
    """Percentages; None where no joint of that kind is annotated.

    ``joints`` and ``groups`` map names to PCKh@0.5; ``mean`` is over all joints but pelvis and
    thorax, weighted by how often each is annotated. ``mean_01`` takes the threshold 0.1,
    ``mean_01_official`` the 0.11 that the official code prints under that name.
    """

    joints: dict[str, float | None]
    groups: dict[str, float | None]
    mean: float | None
    mean_01: float | None
    mean_01_official: float | None
    joints_01: dict[str, float | None]

    def as_json(self) -> dict[str, Any]:
        """The figures for machines."""
        return {
            "PCKh@0.5": self.mean,
            "PCKh@0.1": self.mean_01,
            "PCKh@0.1_official_bin_0.11": self.mean_01_official,
            "groups": self.groups,
            "joints": self.joints,
            "joints@0.1": self.joints_01,
        }


def looks_like_mpii(path: Path) -> bool:
    """Whether an annotation file is MPII's: a MATLAB file, or a JSON list of persons."""
    if path.suffix.lower() == ".mat":
        return True
    try:
        with open(path, "rb") as stream:
            head = stream.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n")
    except OSError:
        return False
    return head.startswith(b"[") and (b'"joints_vis"' in head or b'"joints"' in head)


def read_mpii(path: Path, ground_truth: Path | None = None) -> MpiiPersons:
    """Read persons from the JSON file, head boxes and joints from ``gt_valid.mat`` if given.

    Of a ``.mat`` alone the ``valid.json`` beside it is taken, since it holds no centre and scale.
    In JSON a head box stands as "headbox": [x1, y1, x2, y2]. Raises InputError naming the record.
    """
    if path.suffix.lower() == ".mat":
        beside = path.with_name("valid.json")
        if not beside.is_file():
            problem = "has no centre and scale of the persons, and no valid.json lies beside it"
            raise InputError(path, problem, _FIX)
        path, ground_truth = beside, path
    entries = read_json(check_input_file(path, what="annotation file"), what="annotation file")
    if not isinstance(entries, list) or not entries:
        raise InputError(path, "is no list of MPII persons", _FIX)
    for index, entry in enumerate(entries):
        if fault := _fault(entry):
            raise InputError(path, f"person [{index}] {fault}", "Repair that entry")
    images = tuple(entry["image"] for entry in entries)
    centers = np.array([entry["center"] for entry in entries], np.float64)
    scales = np.array([entry["scale"] for entry in entries], np.float64)
    if ground_truth is not None:
        joints, visible, heads = _from_mat(ground_truth, len(entries))
        return MpiiPersons(path, images, centers, scales, joints, visible, heads)
    if not all("joints" in entry for entry in entries):
        raise InputError(path, "has persons without joints (a test set?)", _FIX)
    joints = np.array([entry["joints"] for entry in entries], np.float64)
    visible = np.array([entry["joints_vis"] for entry in entries]) > 0
    boxes = [entry.get("headbox") for entry in entries]
    head_sizes = None
    if all(box is not None for box in boxes):
        corners = np.array(boxes, np.float64).reshape(-1, 2, 2)
        head_sizes = _checked_heads(corners[:, 1] - corners[:, 0], path)
    return MpiiPersons(path, images, centers, scales, joints, visible, head_sizes)


def _checked_heads(diagonals: NDArray[np.float64], path: Subject) -> NDArray[np.float64]:
    sizes: NDArray[np.float64] = np.linalg.norm(diagonals, axis=1) * HEAD_FACTOR
    if bad := np.flatnonzero(~(sizes > 0)).tolist():
        raise InputError(path, f"person [{bad[0]}] has a head box without extent", "Repair it")
    return sizes


def _fault(entry: Any) -> str | None:
    """What is wrong with one person of the JSON file."""
    if not isinstance(entry, dict):
        return "is not an object"
    if not isinstance(entry.get("image"), str) or not entry["image"]:
        return f"has image {entry.get('image')!r}, not a file name"
    shapes = {"center": 2, "headbox": 4, "joints_vis": JOINTS}
    for key, count in shapes.items():
        value = entry.get(key)
        if value is None and key != "center":
            continue
        if not isinstance(value, list) or len(value) != count or not all(map(is_number, value)):
            return f"has {key} {value!r:.60}, not {count} numbers"
    scale: Any = entry.get("scale")
    if not is_number(scale) or not 0 < scale < FARTHEST:
        return f"has scale {scale!r}, not a number above 0"
    if max(map(abs, entry["center"])) > FARTHEST:
        return f"has its center at {entry['center']}, far outside of any picture"
    if "joints" not in entry:
        return None
    joints = entry["joints"]
    points = isinstance(joints, list) and all(
        isinstance(p, list) and len(p) == 2 and all(map(is_number, p)) for p in joints
    )
    if not points or len(joints) != JOINTS:
        return f"has joints that are no {JOINTS} points"
    return "has no joints_vis" if entry.get("joints_vis") is None else None


_MAT_KEYS = {"pos_gt_src": 3, "jnt_missing": 2, "headboxes_src": 3}


def _from_mat(
    path: Path, persons: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
    """Joints (N, 16, 2), which of them are annotated (N, 16), and head sizes (N,)."""
    content = _load_mat(path)
    for key, dimensions in _MAT_KEYS.items():
        value = content.get(key)
        if not isinstance(value, np.ndarray) or value.ndim != dimensions:
            raise InputError(path, f"has no '{key}' of {dimensions} dimensions", _FIX)
        if value.dtype.kind not in "iufb" or not np.isfinite(value).all():
            raise InputError(path, f"has a '{key}' that is no finite numbers", _FIX)
    joints, missing = content["pos_gt_src"], content["jnt_missing"]
    boxes = content["headboxes_src"]
    shapes = (joints.shape, missing.shape, boxes.shape)
    if shapes != ((JOINTS, 2, persons), (JOINTS, persons), (2, 2, persons)):
        problem = f"has shapes {', '.join(map(str, shapes))}, the annotations {persons} persons"
        raise InputError(path, problem, "Give the two files of one set")
    diagonals = (boxes[1] - boxes[0]).T.astype(np.float64)
    return (
        joints.transpose(2, 0, 1).astype(np.float64),
        missing.T == 0,
        _checked_heads(diagonals, path),
    )


def _load_mat(path: Path) -> dict[str, Any]:
    scipy_io = require("scipy.io", extra="mpii", purpose="reading and writing .mat files")
    try:
        content: dict[str, Any] = scipy_io.loadmat(check_input_file(path, what=".mat file"))
    except (
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        NotImplementedError,
        OSError,
        EOFError,
        MemoryError,
        struct.error,
        zlib.error,
        scipy_io.matlab.MatReadError,
    ) as error:
        raise InputError(path, "is no MATLAB 5 file that can be read", _FIX) from error
    return content


def pckh(
    predictions: NDArray[Any],
    truth: NDArray[Any],
    visible: NDArray[np.bool_],
    head_sizes: NDArray[Any],
) -> Pckh:
    """Percentage of joints nearer to the truth than a part of the head's size.

    ``predictions`` and ``truth`` (N, 16, 2) in pixels counted alike, ``visible`` (N, 16),
    ``head_sizes`` (N,). A joint counts as found at exactly the threshold. N may be 0.
    """
    distance = np.linalg.norm(predictions.astype(np.float64) - truth, axis=2)
    relative = distance / head_sizes[:, None]
    count = visible.sum(axis=0)

    def percent(threshold: float) -> NDArray[np.float64]:
        found = ((relative <= threshold) & visible).sum(axis=0)
        return np.where(count > 0, 100.0 * found / np.maximum(count, 1), np.nan)

    weights = count.astype(np.float64)
    weights[list(LEFT_OUT)] = 0
    coarse, fine, official = percent(0.5), percent(0.1), percent(OFFICIAL_FINE)
    return Pckh(
        joints=_named(coarse),
        groups={
            name: _or_none(float(np.mean(coarse[list(joints)]))) for name, joints in GROUPS.items()
        },
        mean=_mean(coarse, weights),
        mean_01=_mean(fine, weights),
        mean_01_official=_mean(official, weights),
        joints_01=_named(fine),
    )


def _named(values: NDArray[np.float64]) -> dict[str, float | None]:
    return {name: _or_none(float(v)) for name, v in zip(MPII_16.names, values, strict=True)}


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value


def _mean(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float | None:
    total = weights.sum()
    return float(np.nansum(values * weights) / total) if total else None
