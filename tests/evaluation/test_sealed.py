"""Lines that say by themselves whether they are whole."""

from __future__ import annotations

import pytest

from hrnet_deploy.evaluation.sealed import sealed, unsealed

VALUE = {"image": 7, "poses": "AAAA", "size": [640, 480], "name": "Zoë", "score": 0.1, "ids": None}


def test_a_line_gives_back_what_was_sealed() -> None:
    line = sealed(VALUE)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert unsealed(line) == VALUE
    assert unsealed(sealed({})) == {}


def test_any_other_byte_is_noticed() -> None:
    line = sealed(VALUE)
    for place in range(len(line) - 1):  # the line feed is the reader's
        for bit in (1, 2, 4, 64):
            other = line[:place] + bytes([line[place] ^ bit]) + line[place + 1 :]
            assert unsealed(other) in (None, VALUE)  # a blank may be another white space
            assert unsealed(line[:place]) is None


@pytest.mark.parametrize("line", [b"", b"\n", b"[]\n", b"7\n", b'{"image": 7}\n', b"[" * 100_000])
def test_what_is_no_such_line(line: bytes) -> None:
    assert unsealed(line) is None


def test_nan_cannot_be_sealed() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        sealed({"score": float("nan")})
