from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrnet_deploy.benchmark.statistics import (
    paired_ratio,
    rank_test,
    summarise,
    unpaired_ratio,
)


def test_percentiles_of_a_hundred_and_one_values() -> None:
    summary = summarise([float(value) for value in range(101)])
    assert (summary.rounds, summary.median, summary.p5, summary.p95) == (101, 50, 5, 95)
    assert summary.p99 == 99
    assert summary.spread == pytest.approx(1.0)  # (75 - 25) / 50


def test_a_single_value_is_its_own_distribution() -> None:
    summary = summarise([0.25])
    assert (summary.median, summary.p5, summary.p99, summary.spread) == (0.25, 0.25, 0.25, 0)


def test_a_paired_ratio_sees_through_a_machine_that_slows_down() -> None:
    """Both become ten times slower on the way; in every round one takes twice as long."""
    fast = np.linspace(1, 10, 20)
    noise = np.random.default_rng(0).normal(1, 0.01, 20)
    ratio = paired_ratio(list(2 * fast * noise), list(fast))
    assert ratio.value == pytest.approx(2, rel=0.01)
    assert 1.9 < ratio.low <= ratio.value <= ratio.high < 2.1
    assert ratio.decided


def test_equal_things_are_not_decided() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(1, 0.05, 20), rng.normal(1, 0.05, 20)
    assert not paired_ratio(list(first), list(second)).decided
    assert not unpaired_ratio(list(first), list(second)).decided
    assert rank_test(list(first), list(second)) > 0.05


def test_different_things_are_decided() -> None:
    rng = np.random.default_rng(2)
    first, second = rng.normal(1, 0.02, 20), rng.normal(1.2, 0.02, 20)
    ratio = unpaired_ratio(list(first), list(second))
    assert ratio.value == pytest.approx(1.2, rel=0.02)
    assert ratio.decided
    assert rank_test(list(first), list(second)) < 1e-6


@given(
    first=st.lists(st.integers(1, 6).map(float), min_size=3, max_size=30),
    second=st.lists(st.integers(1, 6).map(float), min_size=3, max_size=30),
)
def test_the_rank_test_agrees_with_scipy(first: list[float], second: list[float]) -> None:
    stats = pytest.importorskip("scipy.stats", reason="needs SciPy")
    if len(set(first + second)) == 1:
        assert rank_test(first, second) == 1.0
        return
    expected = stats.mannwhitneyu(first, second, method="asymptotic").pvalue
    assert rank_test(first, second) == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_false_alarms_are_as_rare_as_promised() -> None:
    rng = np.random.default_rng(3)
    alarms = [rank_test(list(rng.random(15)), list(rng.random(15))) < 0.05 for _ in range(1000)]
    assert 0.02 < np.mean(alarms) < 0.08
