from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrnet_deploy.evaluation.number_text import rows_as_text

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
USUAL = st.floats(-1e4, 1e4, width=32)


def read(rows: np.ndarray) -> list[list[float]]:
    return [json.loads(b"[" + text + b"]") for text in rows_as_text(rows)]


@given(st.lists(st.lists(st.one_of(FLOATS, USUAL), min_size=3, max_size=3), max_size=20))
def test_reading_gives_the_same_numbers(values: list[list[float]]) -> None:
    rows = np.array(values, np.float32).reshape(-1, 3)
    assert json.dumps(read(rows)) == json.dumps(rows.tolist())


def test_every_size_of_number_at_the_edges_of_its_range() -> None:
    """All powers of two with their neighbours, where rounding has the least room."""
    powers = np.float32(2.0) ** np.arange(-40, 30, dtype=np.float32)
    near = np.concatenate([powers, np.nextafter(powers, np.float32(0))])
    near = np.concatenate([near, np.nextafter(powers, np.float32(np.inf)), np.float32(-1) * near])
    assert read(near[None]) == [near.tolist()]
    rng = np.random.default_rng(0)
    many = (rng.uniform(0.5, 1, (400, 100)) * 2.0 ** rng.integers(-14, 16, (400, 1))).astype("f4")
    assert read(many) == many.tolist()


def test_what_it_looks_like() -> None:
    rows = np.array([[0, -0.0, 1], [12.5, -640.25, 0.75], [1000, 0.0625, 9999]], np.float32)
    assert rows_as_text(rows) == [
        b"0.0, -0.0, 1.0",
        b"12.5, -640.25, 0.75",
        b"1000.0, 0.0625, 9999.0",
    ]
    assert rows_as_text(rows[:0]) == []
    assert rows_as_text(rows[:, :0]) == [b"", b"", b""]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_json_does_not_have_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        rows_as_text(np.array([[1, bad]], np.float32))


def test_other_types_are_refused() -> None:
    with pytest.raises(TypeError, match="float64, not float32"):
        rows_as_text(np.zeros((1, 1)))
