"""Arrays of numbers as JSON text, many at once.

Python takes half a microsecond to find the shortest digits of one float; here a few operations on
whole arrays write as many digits as are needed to read the same float again, not always the fewest.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_PLAIN_FROM, _PLAIN_BELOW = 2.0**-12, 1e4
"""Other numbers (but 0) are left to Python: they need more digits, or an exponent."""

_GROUPS = 5
"""Groups of four decimals. Four of them are enough from 1 on, five from 2^-12 on: what is cut off
is less than half of the distance to the next float64."""


def _words(texts: list[str]) -> NDArray[np.uint32]:
    """Texts of up to four characters as numbers whose bytes they are, filled up with zeros."""
    return np.frombuffer(b"".join(t.encode().ljust(4, b"\0") for t in texts), np.uint32)


_WHOLE = _words([str(n) for n in range(10_000)])
_DIGITS = _words(
    [f"{n:04d}" for n in range(10_000)] + [f"{n:04d}".rstrip("0") for n in range(10_000)]
)
"""Four decimals; from 10,000 on without the zeros at their end."""

_MINUS, _POINT, _POINT_ZERO, _COMMA, _END = _words(["-", ".", ".0", ", ", "\n"])


def number_as_text(value: float) -> bytes:
    """One number as JSON, in the fewest digits; ValueError for NaN and infinity."""
    if not math.isfinite(value):
        raise ValueError(f"{value} is not JSON compliant")
    return repr(value).encode()


def rows_as_text(rows: NDArray[np.float32]) -> list[bytes]:
    """Each of N rows (N, C) as JSON numbers with ", " between them, to be read as float64.

    Raises ValueError for NaN and infinity, which JSON does not have.
    """
    if rows.dtype != np.float32:
        raise TypeError(f"rows are {rows.dtype}, not float32")
    if rows.size == 0:
        return [b""] * len(rows)
    values = np.abs(rows).astype(np.float64)
    plain = (values == 0) | ((values >= _PLAIN_FROM) & (values < _PLAIN_BELOW))
    values[~plain] = 0
    whole = np.floor(values)
    decimals = _decimals(values - whole)
    decimals[-1][whole >= 1] = 0

    words = np.zeros((*rows.shape, _GROUPS + 4), np.uint32)
    words[..., 0] = np.where(np.signbit(rows), _MINUS, 0)
    words[..., 1] = _WHOLE[whole.astype(np.intp)]
    last = np.ones(rows.shape, np.bool_)
    for place in reversed(range(_GROUPS)):
        words[..., 3 + place] = _DIGITS[decimals[place] + 10_000 * last]
        last &= decimals[place] == 0
    words[..., 2] = np.where(last, _POINT_ZERO, _POINT)
    words[..., -1] = _COMMA
    words[:, -1, -1] = _END
    texts = words.tobytes().translate(None, b"\0").split(b"\n")[:-1]
    for row in np.flatnonzero(~plain.all(axis=1)).tolist():
        texts[row] = b", ".join(map(number_as_text, rows[row].tolist()))
    return texts


def _decimals(fractions: NDArray[np.float64]) -> list[NDArray[np.intp]]:
    """The decimals of numbers from 0 to below 1, four by four.

    Exact: a float32 has 24 bits, and of those at most 33 behind the point if it is plain.
    """
    groups = []
    for _ in range(_GROUPS):
        fractions = fractions * 10_000
        group = np.floor(fractions)
        fractions -= group
        groups.append(group.astype(np.intp))
    return groups
