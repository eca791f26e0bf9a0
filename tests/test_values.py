from __future__ import annotations

import math

import pytest

from hrnet_deploy.values import are_numbers, first_few, is_number, is_whole


@pytest.mark.parametrize(
    ("value", "number", "whole"),
    [
        (0, True, True),
        (-3, True, True),
        (1.0, True, False),
        (True, False, False),
        (math.nan, False, False),
        (math.inf, False, False),
        (10**400, False, True),
        ("1", False, False),
        (None, False, False),
        ([1], False, False),
    ],
)
def test_numbers_and_whole_numbers(value: object, number: bool, whole: bool) -> None:
    assert is_number(value) == number
    assert are_numbers([0, value, 2.5]) == number
    assert is_whole(value) == whole


@pytest.mark.parametrize(
    ("values", "text"),
    [([], ""), ([1, 2, 3], "1, 2, 3"), ([1, 2, 3, 4, 5], "1, 2, 3 and 2 more")],
)
def test_the_first_few_and_the_number_of_the_others(values: list[int], text: str) -> None:
    assert first_few(values) == text
