from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrnet_deploy.evaluation.oks import (
    SOFT_NMS_PERSONS,
    oks_matrix,
    person_scores,
    suppress,
)
from hrnet_deploy.keypoints import keypoint_set

SIGMAS = keypoint_set("coco_17").sigmas


def cases(path: Path) -> list[dict[str, np.ndarray]]:
    stored = np.load(path)
    numbers = sorted({name.split("/")[0] for name in stored.files}, key=int)
    keys = ("keypoints", "area", "score", "keep_oks_0.9", "keep_soft_0.9", "oks_to_first")
    return [{key: stored[f"{number}/{key}"] for key in keys} for number in numbers]


def check_golden(path: Path, expected_cases: int) -> None:
    known = cases(path)
    assert len(known) == expected_cases
    for case in known:
        args = (case["keypoints"], case["score"], case["area"], SIGMAS)
        first = oks_matrix(
            case["keypoints"][:1], case["keypoints"], case["area"][:1], case["area"], SIGMAS
        )
        np.testing.assert_allclose(first[0], case["oks_to_first"], rtol=1e-12)
        np.testing.assert_array_equal(suppress(*args, kind="hard"), case["keep_oks_0.9"])
        np.testing.assert_array_equal(suppress(*args, kind="soft"), case["keep_soft_0.9"])


def test_small_copy_of_the_official_results(data: Path) -> None:
    check_golden(data / "oks_nms.npz", 6)


def test_all_official_results(shared: Path) -> None:
    check_golden(shared / "golden" / "oks_nms.npz", 12)


def crowd(seed: int, persons: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Persons, many of them near-copies of others: float32 keypoints (N, 17, 3)."""
    rng = np.random.default_rng(seed)
    base = rng.uniform(0, 300, (max(1, persons // 3), 17, 3))
    chosen = base[rng.integers(0, len(base), persons)]
    keypoints = chosen + rng.normal(0, rng.choice([0.5, 3, 30], (persons, 1, 1)), chosen.shape)
    scores = rng.uniform(0, 1, persons)
    return keypoints.astype(np.float32), scores, rng.uniform(2e3, 4e4, persons), np.array(SIGMAS)


def oks_of_pair(a: np.ndarray, b: np.ndarray, area: float, sigmas: np.ndarray) -> float:
    """The definition, one keypoint at a time."""
    terms = []
    for k, sigma in enumerate(sigmas):
        squared = float((a[k, 0] - b[k, 0]) ** 2 + (a[k, 1] - b[k, 1]) ** 2)
        terms.append(np.exp(-squared / (2 * area * (2 * sigma) ** 2)))
    return float(np.mean(terms))


@given(st.integers(0, 10_000), st.integers(0, 60))
def test_hard_suppression_is_the_greedy_loop(seed: int, persons: int) -> None:
    keypoints, scores, areas, sigmas = crowd(seed, persons)
    kept: list[int] = []
    for person in sorted(range(persons), key=lambda p: -scores[p]):
        similar = [
            oks_of_pair(keypoints[person], keypoints[k], (areas[person] + areas[k]) / 2, sigmas)
            for k in kept
        ]
        if all(value <= 0.9 for value in similar):
            kept.append(person)
    assert suppress(keypoints, scores, areas, sigmas).tolist() == kept


@given(st.integers(0, 10_000), st.integers(1, 40))
def test_soft_suppression_is_the_decaying_loop(seed: int, persons: int) -> None:
    keypoints, scores, areas, sigmas = crowd(seed, persons)
    left = {person: float(scores[person]) for person in range(persons)}
    chosen: list[int] = []
    while left and len(chosen) < SOFT_NMS_PERSONS:
        best = max(left, key=lambda p: left[p])
        chosen.append(best)
        del left[best]
        for other in left:
            area = (areas[best] + areas[other]) / 2
            similar = oks_of_pair(keypoints[best], keypoints[other], area, sigmas)
            left[other] *= float(np.exp(-(similar**2) / 0.9))
    assert suppress(keypoints, scores, areas, sigmas, kind="soft").tolist() == chosen


def test_no_suppression_keeps_order_and_everybody() -> None:
    keypoints, scores, areas, sigmas = crowd(1, 30)
    assert suppress(keypoints, scores, areas, sigmas, kind="none").tolist() == list(range(30))


@pytest.mark.parametrize("kind", ["hard", "soft", "none"])
def test_nobody_gives_nobody(kind: Any) -> None:
    nobody = np.zeros((0, 17, 3), np.float32)
    assert len(suppress(nobody, np.zeros(0), np.zeros(0), np.array(SIGMAS), kind=kind)) == 0


def test_of_equal_poses_one_stays_and_blocks_do_not_matter() -> None:
    """200 copies, more than one block of rows: a later block sees what an earlier one dropped."""
    keypoints = np.repeat(crowd(3, 1)[0], 200, axis=0)
    scores = np.linspace(1, 0, 200)
    assert suppress(keypoints, scores, np.full(200, 1e4), SIGMAS).tolist() == [0]


def test_memory_does_not_grow_with_the_square_of_the_persons() -> None:
    import tracemalloc

    keypoints, scores, areas, sigmas = crowd(5, 3000)
    tracemalloc.start()
    kept = suppress(keypoints, scores, areas, sigmas)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0 < len(kept) < 3000
    assert peak < 60e6, "the full matrix with its keypoints would take 1.2 GB"


def test_oks_of_a_known_distance() -> None:
    """At a distance of 2 sigma sqrt(area) each term is exp(-1/2)."""
    sigmas, area = np.array([0.05, 0.1]), 400.0
    a = np.zeros((1, 2, 2))
    b = np.array([[[2 * 0.05 * 20, 0], [0, 2 * 0.1 * 20]]])
    areas = np.array([area])
    assert oks_matrix(a, b, areas, areas, sigmas)[0, 0] == pytest.approx(np.exp(-0.5))


def test_person_score_is_box_score_times_mean_of_visible_keypoints() -> None:
    keypoint_scores = np.array([[0.5, 0.1, 0.9], [0.1, 0.0, 0.2], [1, 1, 1]], np.float32)
    scores = person_scores([0.5, 1.0, 0.25], keypoint_scores)
    np.testing.assert_allclose(scores, [0.5 * 0.7, 0.0, 0.25], rtol=1e-6)
    assert person_scores([], keypoint_scores[:0]).shape == (0,)


@pytest.mark.parametrize("kind", ["hard", "soft", "none"])
@given(st.integers(0, 10_000), st.integers(1, 80), st.sampled_from([0.05, 0.5, 0.9, 1.0]))
def test_pictures_together_are_pictures_alone(
    kind: Any, seed: int, persons: int, threshold: float
) -> None:
    keypoints, scores, areas, sigmas = crowd(seed, persons)
    rng = np.random.default_rng(seed)
    joints = slice(0, int(rng.choice([1, 3, 17])))
    scores = np.round(scores, 1)
    pictures = np.sort(rng.integers(0, 6, persons))
    how: dict[str, Any] = {"kind": kind, "threshold": threshold}
    everybody = (keypoints[:, joints], scores, areas)
    expected = []
    for picture in range(6):
        own = np.flatnonzero(pictures == picture)
        kept = suppress(*(values[own] for values in everybody), sigmas[joints], **how)
        expected += own[kept].tolist()
    together = suppress(*everybody, sigmas[joints], pictures=pictures, **how)
    assert together.tolist() == expected
