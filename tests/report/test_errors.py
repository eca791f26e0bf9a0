"""Error kinds, pairs and curves of cases worked out by hand.

Persons have area 10,000 and sigma 0.1, so a keypoint d pixels from a label has similarity
exp(-d^2 / 800): 0.85 at 11.4 px and 0.5 at 23.5 px.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hrnet_deploy.evaluation.detections import Detections
from hrnet_deploy.evaluation.matching import matched
from hrnet_deploy.report.curves import keypoint_rows, oks_curve, pck_curve
from hrnet_deploy.report.errors import KINDS, error_kinds, person_kinds, shares
from hrnet_deploy.report.persons import MATCH_OKS, People, people_of, size_class

SIGMAS = (0.1,) * 4
NAMES = ("nose", "neck", "left_hand", "right_hand")
PAIRS = ((2, 3),)
HERE = ((100, 100), (100, 200), (60, 150), (140, 150))
THERE = tuple((x + 300, y) for x, y in HERE)
Points = tuple[tuple[float, float], ...]


def person(points: Points, image_id: int = 1, flags: Any = 2, **more: Any) -> dict[str, Any]:
    visible = np.broadcast_to(flags, len(points)).tolist()
    flat = [float(v) for (x, y), flag in zip(points, visible, strict=True) for v in (x, y, flag)]
    x, y = points[0]
    return {
        "image_id": image_id,
        "category_id": 1,
        "bbox": [x - 50, y - 20, 100, 160],
        "area": 10_000.0,
        "iscrowd": 0,
        "keypoints": flat,
        "num_keypoints": sum(flag > 0 for flag in visible),
        **more,
    }


def found(points: Points, image_id: int = 1, score: float = 0.9, **more: Any) -> dict[str, Any]:
    flat = [float(v) for x, y in points for v in (x, y, 0.8)]
    centre = [float(points[0][0]), float(points[0][1]) + 60]
    entry = {"image_id": image_id, "category_id": 1, "keypoints": flat, "score": score}
    return {**entry, "center": centre, **more}


def pair(annotations: list[Any], detections: list[Any]) -> People:
    poses = Detections.from_coco(detections, len(SIGMAS))
    matching = matched(
        annotations,
        poses,
        image_ids=(1, 2),
        category_ids=(1,),
        sigmas=SIGMAS,
        thresholds=(MATCH_OKS, 0.5),
    )
    return people_of(matching, annotations, poses, sigmas=SIGMAS)


def kinds_of(annotations: list[Any], detections: list[Any], pairs: Any = PAIRS) -> list[list[str]]:
    people = pair(annotations, detections)
    kinds = error_kinds(people, annotations, sigmas=SIGMAS, flip_pairs=pairs)
    return [["-" if k < 0 else KINDS[k] for k in row] for row in kinds.tolist()]


def moved(points: Points, **places: tuple[float, float]) -> Points:
    return tuple(places.get(name, point) for name, point in zip(NAMES, points, strict=True))


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ((60, 150), "good"),
        ((60, 161), "good"),
        ((60, 162), "jitter"),
        ((60, 173), "jitter"),
        ((60, 174), "miss"),
        ((140, 150), "inversion"),
        ((140, 173), "inversion"),
        ((140, 174), "miss"),
        ((360, 150), "swap"),  # the other's left hand
        ((440, 160), "swap"),  # the other's right hand
        ((400, 100), "miss"),  # the other's nose is another part
        ((100, 100), "miss"),  # so is one's own nose
    ],
)
def test_where_a_left_hand_was_put(place: tuple[float, float], kind: str) -> None:
    annotations = [person(HERE), person(THERE)]
    detections = [found(moved(HERE, left_hand=place)), found(THERE)]
    first, second = kinds_of(annotations, detections)
    assert first == ["good", "good", kind, "good"]
    assert second == ["good"] * 4


def test_the_nearer_of_own_opposite_and_another_decides() -> None:
    close = tuple((x + 100, y) for x, y in HERE)  # its left hand is 20 px from this right hand
    annotations = [person(HERE), person(close)]
    for x, kind in ((147, "inversion"), (153, "swap")):
        detections = [found(moved(HERE, left_hand=(x, 150))), found(close)]
        assert kinds_of(annotations, detections)[0][2] == kind


def test_within_half_of_its_own_label_it_is_jitter_however_near_another_is() -> None:
    close = tuple((x + 22, y) for x, y in HERE)
    detections = [found(moved(HERE, left_hand=(80, 150)))]
    assert kinds_of([person(HERE), person(close, image_id=1)], detections)[0][2] == "jitter"


def test_without_pairs_there_are_no_inversions() -> None:
    detections = [found(moved(HERE, left_hand=(140, 150)))]
    assert kinds_of([person(HERE)], detections, pairs=None) == [["good", "good", "miss", "good"]]


def test_labels_of_crowds_can_be_swapped_with_and_unlabelled_parts_cannot() -> None:
    swapped = [found(moved(HERE, left_hand=(360, 150)))]
    assert kinds_of([person(HERE), person(THERE, iscrowd=1)], swapped)[0][2] == "swap"
    hidden = person(THERE, flags=(2, 2, 0, 2))
    assert kinds_of([person(HERE), hidden], swapped)[0][2] == "miss"
    own = person(HERE, flags=(2, 2, 0, 2))
    assert kinds_of([own], swapped) == [["good", "good", "-", "good"]]


def test_a_person_whom_nobody_found_is_shown_with_the_pose_of_its_crop() -> None:
    wrong = tuple((x + 400, y + 50) for x, y in HERE)
    nowhere = [found(wrong, center=[100.0, 160.0])]
    people = pair([person(HERE)], nowhere)
    assert people.matched.tolist() == [False]
    assert people.others == 1
    assert people.oks[0] < 0.01
    assert people.found[0, 0].tolist() == [500, 150, 0.8]
    assert kinds_of([person(HERE)], nowhere) == [["not found"] * 4]
    alone = pair([person(HERE)], [found(wrong, center=[500.0, 210.0])])
    assert np.isnan(alone.found).all()


def test_shares_and_the_worst_first() -> None:
    kinds = np.array([[0, 1, -1, 4], [5, 5, 5, 5]], np.int8)
    counted = shares(kinds)
    assert counted["good"] == pytest.approx(1 / 7)
    assert counted["not found"] == pytest.approx(4 / 7)
    assert sum(value or 0 for value in counted.values()) == pytest.approx(1)
    assert person_kinds(kinds[0]) == ["miss", "jitter"]
    assert person_kinds(kinds[1]) == ["not found"]
    assert person_kinds(np.array([0, -1], np.int8)) == ["good"]
    assert set(shares(kinds[:0]).values()) == {None}


def test_curves_by_hand() -> None:
    """The box's longer side is 160 px: one keypoint of four is 16 px (0.1 sides) away."""
    annotations = [person(HERE), person(HERE, image_id=2)]
    people = pair(annotations, [found(moved(HERE, nose=(100, 116)))])
    assert pck_curve(people, (0.09, 0.11)) == [3 / 8, 4 / 8]
    one = (3 + np.exp(-(16**2) / 800)) / 4
    assert people.oks.tolist() == pytest.approx([one, 0])
    assert oks_curve(people, (0.0, one - 1e-9, one + 1e-9)) == [1.0, 0.5, 0.0]
    rows = keypoint_rows(
        people, error_kinds(people, annotations, sigmas=SIGMAS, flip_pairs=PAIRS), NAMES
    )
    assert rows[0]["error_px_median"] == pytest.approx(16)
    assert rows[0]["error_of_box_mean"] == pytest.approx(0.1)
    assert (rows[0]["jitter"], rows[0]["not found"], rows[0]["labelled"]) == (0.5, 0.5, 2)
    assert rows[1]["PCK@0.1"] == 0.5


def test_nobody_at_all() -> None:
    people = pair([], [])
    assert len(people) == 0
    assert pck_curve(people, (0.1,)) == [None]
    assert oks_curve(people, (0.1,)) == [None]
    kinds = error_kinds(people, [], sigmas=SIGMAS, flip_pairs=PAIRS)
    assert keypoint_rows(people, kinds, NAMES)[0]["error_px_median"] is None


def test_sizes_are_those_of_coco() -> None:
    assert [size_class(a) for a in (0, 1023, 1024, 9215, 9216)] == [
        *("small", "small", "medium", "medium", "large")
    ]
