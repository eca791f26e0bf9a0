"""Other sets than COCO: their own sigmas, areas and parts, on real samples where they are there."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pycocotools")

from hrnet_deploy.errors import InputError
from hrnet_deploy.evaluation.coco import read_annotations
from hrnet_deploy.evaluation.detections import Detections
from hrnet_deploy.evaluation.metric import STATS, coco_stats
from hrnet_deploy.evaluation.protocols import PARTS, further_stats
from hrnet_deploy.evaluation.run import evaluate
from hrnet_deploy.keypoints import keypoint_set
from hrnet_deploy.spec import ModelSpec
from tests.tiny import tiny_spec


def spec_for(name: str) -> ModelSpec:
    points = keypoint_set(name)
    spec: ModelSpec = tiny_spec(
        keypoint_set=name, keypoint_names=points.names, sigmas=points.sigmas
    )
    return spec


def reference(truth: list[dict[str, Any]], found: list[dict[str, Any]], sigmas: Any) -> Any:
    """Plain pycocotools by its own way in (``loadRes``), with other sigmas."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    coco = COCO()
    images = sorted({entry["image_id"] for entry in truth})
    coco.dataset = {
        "images": [{"id": image} for image in images],
        "annotations": truth,
        "categories": [{"id": 1}],
    }
    coco.createIndex()
    evaluation = COCOeval(coco, coco.loadRes(found), "keypoints")
    evaluation.params.kpt_oks_sigmas = np.array(sigmas)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return [None if value < 0 else value for value in evaluation.stats.tolist()]


def plain(found: list[dict[str, Any]], keys: tuple[str, ...]) -> list[dict[str, Any]]:
    return [
        {
            "image_id": entry["image_id"],
            "category_id": 1,
            "score": entry["score"],
            "keypoints": [value for key in keys for value in entry[key]],
        }
        for entry in found
    ]


def test_crowdpose_predictions_that_nobody_here_made(shared: Path) -> None:
    """Against pycocotools with CrowdPose's sigmas and 0.53 of the box as area (xtcocotools)."""
    folder = shared / "data/xtcocoapi-examples"
    spec = spec_for("crowdpose_14")
    known = read_annotations(folder / "example_crowdpose_val.json", spec)
    assert any("state no area" in note for note in known.notes)
    found = plain(json.loads((folder / "example_crowdpose_preds.json").read_text()), ("keypoints",))
    ids = [image.id for image in known.images]
    detections = Detections.from_coco(found, spec.joints)
    ours = coco_stats(
        known.annotations, detections, image_ids=ids, category_ids=[1], sigmas=spec.sigmas or ()
    )
    content = json.loads((folder / "example_crowdpose_val.json").read_text())
    truth = [
        {**entry, "area": 0.53 * entry["bbox"][2] * entry["bbox"][3]}
        for entry in content["annotations"]
    ]
    expected = reference(truth, found, spec.sigmas)
    assert list(ours.values()) == pytest.approx(expected)
    assert ours["AP"] is not None
    assert ours["AP"] > 0.5
    groups = further_stats(known, detections, ids, spec)
    assert list(groups) == ["easy", "medium", "hard"]
    members = {"easy": [115625], "medium": [114203, 104173], "hard": [107292]}
    for name, own in members.items():
        expected = reference(
            [entry for entry in truth if entry["image_id"] in own],
            [entry for entry in found if entry["image_id"] in own],
            spec.sigmas,
        )
        assert groups[name]["AP"] == pytest.approx(expected[0])


def test_wholebody_predictions_that_nobody_here_made(shared: Path) -> None:
    """All 133 keypoints, and every part, against pycocotools with the sigmas of each."""
    folder = shared / "data/xtcocoapi-examples"
    spec = spec_for("coco_wholebody_133")
    known = read_annotations(folder / "example_wholebody_val.json", spec)
    keys = ("keypoints", "foot_kpts", "face_kpts", "lefthand_kpts", "righthand_kpts")
    raw = json.loads((folder / "example_wholebody_preds.json").read_text())
    found = plain(raw, keys)
    ids = [image.id for image in known.images]
    content = json.loads((folder / "example_wholebody_val.json").read_text())

    def truth(*parts: str) -> list[dict[str, Any]]:
        entries = []
        for entry in content["annotations"]:
            points = [value for part in parts for value in entry[part]]
            count = sum(value > 0 for value in points[2::3])
            entries.append({**entry, "keypoints": points, "num_keypoints": count})
        return entries

    assert spec.sigmas is not None
    detections = Detections.from_coco(found, spec.joints)
    ours = coco_stats(
        known.annotations, detections, image_ids=ids, category_ids=[1], sigmas=spec.sigmas
    )
    whole = reference(truth(*keys), found, spec.sigmas)
    assert list(ours.values()) == pytest.approx(whole)
    figures = further_stats(known, detections, ids, spec)
    assert list(figures) == ["body", "foot", "face", "lefthand", "righthand"]
    for key, (name, joints) in zip(keys, PARTS.items(), strict=True):
        expected = reference(truth(key), plain(raw, (key,)), spec.sigmas[joints])
        assert list(figures[name].values()) == pytest.approx(expected), name
        assert list(figures[name]) == list(STATS)


@pytest.mark.parametrize(
    ("folder", "name", "points", "persons"),
    [
        ("crowdpose", "test_crowdpose.json", "crowdpose_14", 5),
        ("aic", "test_aic.json", "aic_14", 9),
        ("coco", "test_coco_wholebody.json", "coco_wholebody_133", 14),
        ("ap10k", "test_ap10k.json", "ap10k_17", 2),
        ("ochuman", "test_ochuman.json", "coco_17", 5),
    ],
)
def test_samples_of_other_sets(
    shared: Path,
    small: ModuleType,
    tmp_path: Path,
    folder: str,
    name: str,
    points: str,
    persons: int,
) -> None:
    """Real annotations and pictures through a random HRNet of that many joints: AP is near zero."""
    from hrnet_deploy.engines import load_engine
    from hrnet_deploy.export.model import build_hrnet

    pytest.importorskip("onnxruntime")
    known = keypoint_set(points)
    spec = small.small_spec(
        keypoint_set=points,
        keypoint_names=known.names,
        flip_pairs=known.flip_pairs,
        sigmas=known.sigmas,
        skeleton=known.skeleton,
    )
    joints = known.count
    model = build_hrnet(spec, small.architecture(joints), small.weights(joints), source=points)
    (tmp_path / "small.onnx").write_bytes(model.SerializeToString())
    place = shared / "data/mmpose-tests" / folder
    with load_engine(tmp_path / "small.onnx", threads=1) as engine:
        result = evaluate(engine, place / name, place)
    assert 0 < result.counts["persons"] <= persons
    assert result.stats["AP"] is not None
    json.dumps(result.as_json(), allow_nan=False)
    assert bool(result.as_json().get("further")) == (points in ("crowdpose_14", WHOLE))


WHOLE = "coco_wholebody_133"


def wholebody_file(folder: Path, **changes: Any) -> Path:
    entry: dict[str, Any] = {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "bbox": [0, 0, 10, 10],
        "area": 50,
        "num_keypoints": 0,
        "keypoints": [0] * 51,
        "foot_kpts": [0] * 18,
        "face_kpts": [1.0] * 204,
        "lefthand_kpts": [0] * 63,
        "righthand_kpts": [0] * 63,
    }
    entry.update(changes)
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 20, "height": 20}],
        "annotations": [{k: v for k, v in entry.items() if v is not None}],
        "categories": [{"id": 1, "name": "person", "keypoints": [f"k{i}" for i in range(17)]}],
    }
    path = folder / "wholebody.json"
    path.write_text(json.dumps(content))
    return path


def test_a_person_of_whom_only_the_face_is_labelled_counts(tmp_path: Path) -> None:
    known = read_annotations(wholebody_file(tmp_path), spec_for(WHOLE))
    assert known.annotations[0]["num_keypoints"] == 68
    assert len(known.annotations[0]["keypoints"]) == 3 * 133


def test_a_missing_or_short_part_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="annotation 1 has no list 'face_kpts'"):
        read_annotations(wholebody_file(tmp_path, face_kpts=None), spec_for(WHOLE))
    with pytest.raises(InputError, match="annotation 1 has 132 keypoints"):
        read_annotations(wholebody_file(tmp_path, foot_kpts=[0] * 15), spec_for(WHOLE))
