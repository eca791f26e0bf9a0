"""The end of a ``with`` block closes, with and without an error."""

from __future__ import annotations

import pytest

from hrnet_deploy.closing import Closing


class Door(Closing):
    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


def test_the_block_gets_the_object_and_closes_it() -> None:
    with Door() as door:
        assert isinstance(door, Door)
        assert door.closed == 0
    assert door.closed == 1


def test_an_error_closes_too_and_goes_on() -> None:
    door = Door()
    with pytest.raises(ValueError, match="burnt"), door:
        raise ValueError("burnt")
    assert door.closed == 1


def test_what_holds_something_has_to_say_how_it_closes() -> None:
    with pytest.raises(TypeError, match="close"):
        Closing()  # type: ignore[abstract]
