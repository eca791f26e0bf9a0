"""PCKh worked by hand, the official geometry, and the files of the benchmark."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from hrnet_deploy.errors import InputError
from hrnet_deploy.evaluation.mpii import looks_like_mpii, pckh, read_mpii
from hrnet_deploy.evaluation.mpii_run import evaluate_mpii, official_geometry, write_predictions
from hrnet_deploy.keypoints import keypoint_set
from hrnet_deploy.spec import ModelSpec
from tests.colour_engine import ColourEngine
from tests.tiny import tiny_spec

HEADBOX = [100, 100, 130, 140]
"""Its diagonal is 50 px, so the head size is 30 px: 15 px are found at 0.5, 3 px at 0.1."""


def person(**changes: Any) -> dict[str, Any]:
    entry = {
        "image": "a.png",
        "center": [80.0, 60.0],
        "scale": 0.5,
        "joints": [[10.0 * k + 1, 5.0] for k in range(16)],
        "joints_vis": [1] * 16,
        "headbox": HEADBOX,
    }
    return {**entry, **changes}


def written(folder: Path, *entries: dict[str, Any]) -> Path:
    path = folder / "valid.json"
    path.write_text(json.dumps(list(entries)))
    return path


def test_pckh_worked_by_hand(tmp_path: Path) -> None:
    """Two persons, head sizes 30 and 60 px (head boxes of 30 x 40 and 60 x 80 px).

    Person A sees all joints. Its ankles (0, 5) are 15 px off: 0.5 of the head, found at exactly
    the threshold. Its knees (1, 4) are 16 px off: not found. The right hip (2) is 3.15 px off:
    0.105, missed at 0.1, found in the official 0.11 bin. Pelvis and thorax (6, 7) are 100 px off
    and do not count in the mean. The rest is exact.

    Person B sees only the left knee (4), 29 px off: 0.483, found, and the head top (9), 31 px
    off: 0.517, not found.

    At 0.5: right knee 0 of 1, left knee 1 of 2: 0 and 50 %, together 25 %. Head top 1 of 2: 50 %.
    All counted joints: A 14 - 2 = 12 of 14, B 1 of 2: 13 of 16 = 81.25 %.
    At 0.1: A loses ankles, knees and hip: 9 of 14, B 0 of 2: 9 of 16 = 56.25 %.
    At 0.11 the hip comes back: 10 of 16 = 62.5 %.
    """
    second = person(joints_vis=[int(k in (4, 9)) for k in range(16)], headbox=[0, 0, 60, 80])
    persons = read_mpii(written(tmp_path, person(), second))
    assert persons.head_sizes is not None
    assert persons.head_sizes.tolist() == [30, 60]
    off = np.zeros((2, 16, 2))
    off[0, [0, 5], 0] = 15
    off[0, [1, 4], 1] = 16
    off[0, 2, 0] = -3.15
    off[0, [6, 7], 0] = 100
    off[1, 4, 1] = 29
    off[1, 9, 0] = 31
    off[1, 0, 0] = 1000  # not annotated: does not matter
    result = pckh(persons.joints + off, persons.joints, persons.visible, persons.head_sizes)
    assert result.mean == pytest.approx(81.25)
    assert result.mean_01 == pytest.approx(56.25)
    assert result.mean_01_official == pytest.approx(62.5)
    assert result.groups == {
        "Head": 50.0,
        "Shoulder": 100.0,
        "Elbow": 100.0,
        "Wrist": 100.0,
        "Hip": 100.0,
        "Knee": 25.0,
        "Ankle": 100.0,
    }
    assert result.joints["right_knee"] == 0
    assert result.joints["left_knee"] == 50
    assert result.joints["pelvis"] == 0
    assert result.joints_01["right_ankle"] == 0
    json.dumps(result.as_json(), allow_nan=False)


def test_joints_that_nobody_shows_are_undefined() -> None:
    points = np.zeros((1, 16, 2))
    visible = np.zeros((1, 16), bool)
    nothing = pckh(points, points, visible, np.ones(1))
    assert nothing.mean is None
    assert set(nothing.joints.values()) == {None}
    visible[0, 9] = True
    one = pckh(points, points, visible, np.ones(1))
    assert (one.mean, one.groups["Head"], one.groups["Knee"]) == (100, 100, None)


def test_centre_and_scale_as_officially(tmp_path: Path) -> None:
    """c[1] += 15 s, s *= 1.25, c -= 1; an unannotated person keeps its scale."""
    entries = [person(center=[594, 257], scale=3.0), person(center=[-1, -1], scale=2.0)]
    geometry = official_geometry(read_mpii(written(tmp_path, *entries)), (256, 256))
    assert geometry.center.tolist() == [[593, 301], [-2, -2]]
    assert geometry.scale.tolist() == [[3.75, 3.75], [2, 2]]


def mpii_spec() -> ModelSpec:
    points = keypoint_set("mpii_16")
    spec: ModelSpec = tiny_spec(
        input_size_hw=(64, 64),
        heatmap_size_hw=(16, 16),
        keypoint_set=points.name,
        keypoint_names=points.names,
        sigmas=points.sigmas,
    )
    return spec


def test_from_pixels_to_pckh(tmp_path: Path) -> None:
    """A bright block per colour; the engine finds the 4 px cell, the +1 counts from one."""
    picture = np.zeros((120, 160, 3), np.uint8)
    # A scale of 0.512 * 1.25 * 200 = 128 px: 2 picture px are one of the crop, 8 one cell.
    picture[40:48, 64:72, 0] = 250
    picture[72:80, 96:104, 1] = 250
    picture[56:64, 48:56, 2] = 250
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    places = [(67, 44), (99, 76), (51, 60)]
    joints = [[places[k % 3][0] + 1.0, places[k % 3][1] + 1.0] for k in range(16)]
    path = written(tmp_path, person(joints=joints, scale=0.512), person(joints=joints, scale=0.512))
    result = evaluate_mpii(ColourEngine(mpii_spec()), read_mpii(path), tmp_path)
    assert result.figures is not None
    distance = np.linalg.norm(result.predictions - np.array(joints), axis=2)
    assert distance.max() < 8, "less than a cell"
    assert result.figures.mean == 100
    assert result.persons == 2
    assert (result.predictions[0] == result.predictions[1]).all()


def test_predictions_as_the_benchmark_takes_them(tmp_path: Path) -> None:
    scipy_io = pytest.importorskip("scipy.io")
    predictions = np.arange(64, dtype=np.float32).reshape(2, 16, 2)
    write_predictions(tmp_path / "pred.mat", predictions)
    assert (scipy_io.loadmat(tmp_path / "pred.mat")["preds"] == predictions).all()
    first = (tmp_path / "pred.mat").read_bytes()
    assert b"Created" not in first[:116]


def mat(path: Path, **changes: Any) -> Path:
    scipy_io = pytest.importorskip("scipy.io")
    joints = np.array([[10.0 * k + 1, 5.0] for k in range(16)])
    content: dict[str, Any] = {
        "dataset_joints": np.array([["head"]], object),
        "pos_gt_src": np.stack([joints, joints], axis=2),
        "jnt_missing": np.zeros((16, 2)),
        "headboxes_src": np.array([[[0.0, 0], [0, 0]], [[30, 60], [40, 80]]]),
    }
    scipy_io.savemat(path, {**content, **changes})
    return path


def test_ground_truth_from_the_mat_file(tmp_path: Path) -> None:
    truth = mat(tmp_path / "gt_valid.mat")
    path = written(tmp_path, person(headbox=None), person(headbox=None))
    with_truth = read_mpii(path, truth)
    assert with_truth.head_sizes is not None
    assert with_truth.head_sizes.tolist() == [30, 60]
    assert with_truth.joints[1, 3].tolist() == [31, 5]
    alone = read_mpii(truth)
    assert (alone.path, alone.images) == (path, ("a.png", "a.png"))
    assert read_mpii(path).head_sizes is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"jnt_missing": np.zeros((16, 3))}, r"shapes .* the annotations 2 persons"),
        ({"headboxes_src": np.zeros(3)}, "no 'headboxes_src' of 3 dimensions"),
        ({"headboxes_src": np.zeros((2, 2, 2))}, r"person \[0\] has a head box without extent"),
        ({"pos_gt_src": np.full((16, 2, 2), np.nan)}, "'pos_gt_src' that is no finite numbers"),
    ],
)
def test_a_broken_mat_file(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = written(tmp_path, person(), person())
    with pytest.raises(InputError, match=message):
        read_mpii(path, mat(tmp_path / "gt.mat", **changes))


@pytest.mark.parametrize("content", [b"", b"no mat file", b"MATLAB 5.0 MAT-file" + bytes(200)])
def test_what_is_no_mat_file(tmp_path: Path, content: bytes) -> None:
    pytest.importorskip("scipy.io")
    bad = tmp_path / "bad.mat"
    bad.write_bytes(content)
    with pytest.raises(InputError, match=r"bad\.mat: "):
        read_mpii(written(tmp_path, person()), bad)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (3, r"person \[1\] is not an object"),
        (person(image=""), r"person \[1\] has image '', not a file name"),
        (person(center=[1]), r"person \[1\] has center \[1\], not 2 numbers"),
        (person(center=None), r"person \[1\] has center None"),
        (person(scale="3"), r"person \[1\] has scale '3', not a number above 0"),
        (person(scale=0), r"person \[1\] has scale 0, not a number above 0"),
        (person(center=[1e300, 0]), r"person \[1\] has its center at .*, far outside"),
        (person(joints=[[1, 2]] * 15), r"person \[1\] has joints that are no 16 points"),
        (person(joints=[[1, 2, 3]] * 16), r"person \[1\] has joints that are no 16 points"),
        (person(joints_vis=None), r"person \[1\] has no joints_vis"),
        (person(joints_vis=[1] * 3), r"person \[1\] has joints_vis .* not 16 numbers"),
        (person(headbox=[1, 1]), r"person \[1\] has headbox \[1, 1\], not 4 numbers"),
        (person(headbox=[1, 1, 1, 1]), r"person \[1\] has a head box without extent"),
    ],
)
def test_a_broken_person(tmp_path: Path, entry: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_mpii(written(tmp_path, person(), entry))


def test_wrong_engines_and_pictures(tmp_path: Path) -> None:
    persons = read_mpii(written(tmp_path, person()))
    with pytest.raises(InputError, match=r"gives 3 keypoints \(colours\), MPII has 16"):
        evaluate_mpii(ColourEngine(tiny_spec()), persons, tmp_path)
    with pytest.raises(InputError, match=r"1 of 1 images are missing: a\.png"):
        evaluate_mpii(ColourEngine(mpii_spec()), persons, tmp_path)
    escaping = read_mpii(written(tmp_path, person(image="../a.png")))
    with pytest.raises(InputError, match=r"\.\./a\.png"):
        evaluate_mpii(ColourEngine(mpii_spec()), escaping, tmp_path)


def test_recognised_by_content(tmp_path: Path) -> None:
    assert looks_like_mpii(written(tmp_path, person()))
    assert looks_like_mpii(tmp_path / "gt_valid.mat")
    other = tmp_path / "coco.json"
    other.write_text('{"images": [], "joints": 1}')
    assert not looks_like_mpii(other)
    other.write_text('[{"image_id": 1, "bbox": []}]')
    assert not looks_like_mpii(other)
    assert not looks_like_mpii(tmp_path / "absent.json")


def test_the_sample_of_real_pictures(shared: Path) -> None:
    """No head boxes there, and the engine finds colours: five persons get predictions."""
    folder = shared / "data/mmpose-tests/mpii"
    persons = read_mpii(folder / "test_mpii.json")
    result = evaluate_mpii(ColourEngine(mpii_spec()), persons, folder)
    assert result.predictions.shape == (5, 16, 2)
    assert result.figures is None
    assert result.notes == [
        "the annotations have no head boxes: PCKh is undefined, predictions only"
    ]
