"""Keypoint sets: counts, pairs, sigmas and lookups."""

from __future__ import annotations

import math

import pytest

from hrnet_deploy.errors import InputError
from hrnet_deploy.keypoints import KEYPOINT_SETS, keypoint_set, sets_with, unknown_set

COUNTS = {
    "coco_17": 17,
    "mpii_16": 16,
    "crowdpose_14": 14,
    "aic_14": 14,
    "coco_wholebody_133": 133,
    "ap10k_17": 17,
    "hand_21": 21,
}
# Pairs counted in the data sets' own documentation; the rest lies on the middle line.
UNPAIRED = {
    "coco_17": {"nose"},
    "mpii_16": {"pelvis", "thorax", "upper_neck", "head_top"},
    "crowdpose_14": {"head", "neck"},
    "aic_14": {"head_top", "neck"},
    "coco_wholebody_133": {"nose"}
    | {f"face_{index}" for index in (8, 27, 28, 29, 30, 33, 51, 57, 62, 66)},
    "ap10k_17": {"nose", "neck", "root_of_tail"},
}


def test_every_set_is_there_with_its_count() -> None:
    assert {name: known.count for name, known in KEYPOINT_SETS.items()} == COUNTS


@pytest.mark.parametrize("name", COUNTS)
def test_names_are_unique_and_sigmas_and_skeleton_fit(name: str) -> None:
    known = KEYPOINT_SETS[name]
    assert len(set(known.names)) == known.count
    assert known.sigmas is not None
    assert len(known.sigmas) == known.count
    assert all(0 < sigma < 0.2 for sigma in known.sigmas)
    assert all(0 <= k < known.count for link in known.skeleton for k in link)
    assert all(first != second for first, second in known.skeleton)
    assert len(set(known.skeleton)) == len(known.skeleton)


@pytest.mark.parametrize("name", UNPAIRED)
def test_sides_swap_and_the_middle_line_stays(name: str) -> None:
    known = KEYPOINT_SETS[name]
    order = known.flip_order
    assert order is not None
    assert [order[k] for k in order] == list(range(known.count))
    assert {known.names[k] for k in range(known.count) if order[k] == k} == UNPAIRED[name]
    for source, target in enumerate(order):
        if known.names[source].startswith("left_"):
            assert known.names[target] == "right_" + known.names[source].removeprefix("left_")


def test_wholebody_face_pairs_mirror_the_300w_scheme() -> None:
    known = KEYPOINT_SETS["coco_wholebody_133"]
    order = known.flip_order
    assert order is not None
    expected = {0: 16, 7: 9, 17: 26, 21: 22, 31: 35, 36: 45, 39: 42, 40: 47, 48: 54, 55: 59, 60: 64}
    for left, right in (*expected.items(), (65, 67)):
        assert order[23 + left] == 23 + right


def test_wholebody_starts_with_coco_and_ends_with_hands() -> None:
    coco, whole, hand = (KEYPOINT_SETS[n] for n in ("coco_17", "coco_wholebody_133", "hand_21"))
    assert whole.names[:17] == coco.names
    assert whole.sigmas is not None
    assert whole.sigmas[:17] == coco.sigmas
    assert whole.sigmas[91:112] == whole.sigmas[112:] == hand.sigmas
    assert whole.names[112] == "right_hand_root"


def test_hand_has_no_pairs_and_knows_it() -> None:
    assert keypoint_set("hand_21").flip_pairs == ()
    assert keypoint_set("hand_21").flip_order == tuple(range(21))


def test_coco_sigmas_are_those_of_cocoapi() -> None:
    # cocoeval holds them times ten.
    tenfold = [0.26, 0.25, 0.25, 0.35, 0.35, 0.79, 0.79, 0.72, 0.72]
    tenfold += [0.62, 0.62, 1.07, 1.07, 0.87, 0.87, 0.89, 0.89]
    sigmas = keypoint_set("coco_17").sigmas
    assert sigmas is not None
    for sigma, expected in zip(sigmas, tenfold, strict=True):
        assert math.isclose(sigma, expected / 10)


def test_sets_that_share_a_count() -> None:
    assert [known.name for known in sets_with(17)] == ["coco_17", "ap10k_17"]
    assert [known.name for known in sets_with(14)] == ["crowdpose_14", "aic_14"]
    assert sets_with(5) == ()


def test_unknown_set_has_no_flip_order() -> None:
    unknown = unknown_set(5)
    assert unknown.names == ("kp_0", "kp_1", "kp_2", "kp_3", "kp_4")
    assert unknown.flip_pairs is None
    assert unknown.flip_order is None


def test_unknown_name_lists_the_known_and_the_nearest() -> None:
    with pytest.raises(
        InputError, match=r"unknown keypoint set 'coco17'\. Did you mean 'coco_17'.*mpii_16"
    ):
        keypoint_set("coco17")
