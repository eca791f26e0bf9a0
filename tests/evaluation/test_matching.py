"""Matches and figures against pycocotools, to the last bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("pycocotools")

from hrnet_deploy.evaluation.coco import read_annotations
from hrnet_deploy.evaluation.detections import Detections
from hrnet_deploy.evaluation.matching import MAX_DETECTIONS, CategoryMatches, Matching, matched
from hrnet_deploy.evaluation.metric import figures, matches_of
from hrnet_deploy.evaluation.truth import AREA_RANGES
from hrnet_deploy.keypoints import keypoint_set
from tests.coco_reference import reference, reference_stats
from tests.tiny import tiny_spec

Entries = list[dict[str, Any]]
COARSE = st.integers(0, 3)
"""Few values, so that similarities, scores and areas are often equal."""


def check(truth: Entries, found: Entries, thresholds: Any = None, **how: Any) -> Matching:
    """Compare everything that the package makes of a matching; give it back."""
    detections = Detections.from_coco(found, len(how["sigmas"]))
    chosen = {} if thresholds is None else {"thresholds": thresholds}
    ours = matched(truth, detections, **how, **chosen)
    theirs = reference(truth, found, **how, thresholds=thresholds)
    assert ours.image_ids == tuple(theirs.params.imgIds)
    assert ours.thresholds == tuple(theirs.params.iouThrs)
    entries = iter(theirs.evalImgs)
    for category, category_id in zip(ours.categories, theirs.params.catIds, strict=True):
        for area in range(len(AREA_RANGES)):
            for number in range(len(ours.image_ids)):
                compare_picture(category, area, number, next(entries))
        for number, image_id in enumerate(ours.image_ids):
            similar = np.asarray(theirs.ious[image_id, category_id])
            persons = category.person_image == number
            best = similar.max(axis=0) if similar.size else np.zeros(persons.sum())
            assert category.best[persons].tolist() == best.tolist()
    if thresholds is None:
        assert figures(matches_of(ours)) == reference_stats(truth, found, **how)
    return ours


def compare_picture(category: CategoryMatches, area: int, number: int, entry: Any) -> None:
    """One entry of ``COCOeval.evalImgs``: who is matched with whom, who is ignored."""
    rows = np.flatnonzero(category.detection_image == number)
    persons = np.flatnonzero(category.person_image == number)
    if entry is None:
        assert len(rows) == len(persons) == 0
        return
    assert (category.detections[rows] + 1).tolist() == entry["dtIds"]
    assert category.scores[rows].tolist() == entry["dtScores"]
    assert (category.matched[area][:, rows] == (entry["dtMatches"] > 0)).all()
    assert (category.ignored[area][:, rows] == entry["dtIgnore"]).all()
    place = {index + 1: row for index, row in zip(category.persons[persons], persons, strict=True)}
    ordered = [place[number] for number in entry["gtIds"]]
    assert category.person_ignored[area, ordered].tolist() == [bool(i) for i in entry["gtIgnore"]]
    finders = category.found_by[area][:, ordered]
    ids = np.where(finders >= 0, category.detections[finders] + 1, 0) if len(rows) else finders * 0
    assert (ids == entry["gtMatches"]).all()


@st.composite
def persons(draw: st.DrawFn) -> dict[str, Any]:
    visible = draw(st.lists(st.integers(0, 2), min_size=3, max_size=3))
    points = [(draw(COARSE) * 40, draw(COARSE) * 40, v) for v in visible]
    size = draw(st.sampled_from([0, 20, 32, 96, 100, 300]))
    labelled = sum(v > 0 for v in visible)
    return {
        "image_id": draw(st.integers(1, 3)),
        "category_id": draw(st.integers(1, 2)),
        "iscrowd": draw(st.sampled_from([0, 0, 0, 1])),
        "bbox": [draw(COARSE) * 30, draw(COARSE) * 30, size, size],
        "area": size**2,
        "keypoints": [value for point in points for value in point],
        "num_keypoints": draw(st.sampled_from([labelled, labelled, 0, 1])),
    }


@st.composite
def poses(draw: st.DrawFn) -> dict[str, Any]:
    points = [(draw(COARSE) * 40.0, draw(COARSE) * 40.0, 0.5) for _ in range(3)]
    return {
        "image_id": draw(st.integers(1, 3)),
        "category_id": draw(st.integers(1, 2)),
        "keypoints": [value for point in points for value in point],
        "score": draw(COARSE) / 4,
    }


@given(st.lists(persons(), max_size=8), st.lists(poses(), max_size=30), st.data())
def test_ties_crowds_empty_pictures_and_persons_without_area(
    truth: Entries, found: Entries, data: st.DataObject
) -> None:
    copies = data.draw(st.lists(st.sampled_from(truth), max_size=6)) if truth else []
    exact = [{**entry, "score": 0.5} for entry in copies]
    how = {"image_ids": (3, 1, 2), "category_ids": (1, 2), "sigmas": (0.1, 0.2, 0.5)}
    check([*truth, *copies], [*found, *exact], **how)


@given(st.integers(0, 10_000), st.integers(0, 60))
def test_many_near_poses_of_few_persons(seed: int, detections: int) -> None:
    """Far more detections than count, all near somebody, in two pictures."""
    rng = np.random.default_rng(seed)
    truth = [made_up_person(rng) for _ in range(rng.integers(1, 12))]
    found = []
    for _ in range(detections):
        person = truth[rng.integers(len(truth))]
        points = np.array(person["keypoints"], float).reshape(-1, 3)
        points[:, :2] += rng.normal(0, rng.choice([1, 5, 20]), (len(points), 2))
        score = float(rng.choice([rng.uniform(), 0.25, 0.5]))
        found.append({**person, "keypoints": points.ravel().tolist(), "score": score})
    sigmas = keypoint_set("coco_17").sigmas or ()
    ours = check(truth, found, image_ids=(1, 2), category_ids=(1,), sigmas=sigmas)
    shown = np.bincount(ours.categories[0].detection_image, minlength=2)
    assert shown.tolist() == [
        min(MAX_DETECTIONS, sum(d["image_id"] == image for d in found)) for image in (1, 2)
    ]


def made_up_person(rng: np.random.Generator, joints: int = 17) -> dict[str, Any]:
    visible = rng.integers(0, 3, joints) * bool(rng.integers(0, 8))
    points = (
        np.stack([*rng.integers(0, 300, (2, joints)), visible], axis=1) * (visible > 0)[:, None]
    )
    side = int(rng.integers(10, 200))
    return {
        "image_id": int(rng.integers(1, 3)),
        "category_id": 1,
        "iscrowd": int(rng.integers(0, 10) == 0),
        "bbox": [*rng.integers(0, 200, 2).tolist(), side, side],
        "area": side**2 * float(rng.uniform(0.3, 1)),
        "keypoints": points.ravel().tolist(),
        "num_keypoints": int((visible > 0).sum()),
    }


@pytest.mark.parametrize("name", ["crowdpose_14", "coco_wholebody_133", "mpii_16"])
def test_sigmas_and_numbers_of_keypoints_of_other_sets(name: str) -> None:
    rng = np.random.default_rng(5)
    points = keypoint_set(name)
    sigmas = points.sigmas or (0.1,) * points.count
    truth = [made_up_person(rng, points.count) for _ in range(40)]
    found = [
        {
            **person,
            "keypoints": (
                np.array(person["keypoints"]) + rng.normal(0, 3, 3 * points.count)
            ).tolist(),
            "score": float(rng.uniform()),
        }
        for person in truth
    ]
    check(truth, found, image_ids=(1, 2), category_ids=(1,), sigmas=sigmas)


def test_other_thresholds() -> None:
    rng = np.random.default_rng(1)
    truth = [made_up_person(rng) for _ in range(20)]
    nearly = [[value + 1e-5 for value in person["keypoints"]] for person in truth]
    found = [{**p, "keypoints": k, "score": 0.5} for p, k in zip(truth, nearly, strict=True)]
    how: dict[str, Any] = {"image_ids": (1, 2), "category_ids": (1,)}
    sigmas = keypoint_set("coco_17").sigmas or ()
    check(truth, found, **how, sigmas=sigmas, thresholds=(0.1, 0.5, 1.0))


def test_real_predictions(shared: Path) -> None:
    folder = shared / "data" / "xtcocoapi-examples"
    truth = json.loads((folder / "example_coco_val.json").read_text())
    found = json.loads((folder / "example_coco_preds.json").read_text())
    how = {"image_ids": [image["id"] for image in truth["images"]], "category_ids": [1]}
    check(truth["annotations"], found, **how, sigmas=keypoint_set("coco_17").sigmas)


def test_real_annotations(shared: Path) -> None:
    """COCO's persons with poses that are off by more and more."""
    folder = shared / "data" / "coco-train2017-mini"
    points = keypoint_set("coco_17")
    spec = tiny_spec(keypoint_set="coco_17", keypoint_names=points.names, sigmas=points.sigmas)
    known = read_annotations(next(folder.glob("*.json")), spec)
    rng = np.random.default_rng(0)
    found = []
    for entry in [*known.annotations] * 12:
        keypoints = np.array(entry["keypoints"], float).reshape(-1, 3)
        keypoints[:, :2] += rng.normal(0, rng.choice([1, 10, 40]), (len(keypoints), 2))
        score = round(float(rng.uniform()), 2)
        found.append({**entry, "keypoints": keypoints.ravel().tolist(), "score": score})
    ids = [image.id for image in known.images]
    check(
        list(known.annotations),
        found,
        image_ids=ids,
        category_ids=known.categories,
        sigmas=points.sigmas,
    )


def test_ids_that_no_64_bits_hold() -> None:
    rng = np.random.default_rng(2)
    person = {**made_up_person(rng), "iscrowd": 0, "image_id": 10**30}
    detections = Detections.from_coco([{**person, "score": 1.0}], 17)
    sigmas = keypoint_set("coco_17").sigmas or ()
    how: dict[str, Any] = {"image_ids": [10**30, 5], "category_ids": [1], "sigmas": sigmas}
    matching = matched([person], detections, **how)
    assert matching.image_ids == (5, 10**30)
    assert matching.categories[0].found_by.tolist()[0][0] == [0]
