from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrnet_deploy.datasets.expression import parse_expression
from hrnet_deploy.errors import InputError

FACTS: dict[str, Any] = {
    "id": 7,
    "area": 5000.0,
    "size": "large",
    "people": 2,
    "crowd": False,
    "unknown": None,
}
FUNCTIONS = {"labelled": lambda name: name == "nose", "abs": abs}


def value(text: str) -> bool:
    expression = parse_expression(text, names=frozenset(FACTS), functions=frozenset(FUNCTIONS))
    return expression(FACTS, FUNCTIONS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("area > 4999", True),
        ("area > 5000", False),
        ("1000 < area <= 5000", True),
        ('size == "large" and not crowd', True),
        ("size in ('small', 'medium') or people == 2", True),
        ("size not in ['large']", False),
        ('labelled("nose") and not labelled("tail")', True),
        ("area / people - 500 * 2 == 1500", True),
        ("abs(-people) % 2 == 0", True),
        ("unknown == None", True),
        ("unknown > 3", False),
        ("unknown < 3", False),
        ("unknown + 1 > 0", False),
        ("'arg' in size", True),
        (" area\t> 1 ", True),
    ],
)
def test_what_it_says_is_what_it_means(text: str, expected: bool) -> None:
    assert value(text) is expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read"),
        ("area >", r"'area >' cannot be read \(invalid syntax\)"),
        ("area = 3", "cannot be read"),
        ("import os", "cannot be read"),
        ("areas > 3", "has no fact 'areas'. Facts: area"),
        ("__import__('os')", "has no function '__import__'"),
        ("().__class__", "is not allowed"),
        ("area.real", "is not allowed"),
        ("(lambda: 1)()", "is not allowed"),
        ("[x for x in (1, 2)]", "is not allowed"),
        ("area if crowd else 1", "is not allowed"),
        ("f'{area}'", "is not allowed"),
        ("9 ** 9 ** 9", "is not allowed"),
        ("1 << 99999999", "is not allowed"),
        ("b'x' == 1", "is not allowed"),
        ("1j == 1", "is not allowed"),
        ("(area := 3)", "is not allowed"),
        ("labelled(name='nose')", "is not allowed"),
        ("labelled(*'ab')", "is not allowed"),
        ("area is None", "is not allowed"),
        ("~people", "is not allowed"),
        ("'x' * 999999999 == 1", "fails for annotation 7: 'x' is no number"),
        ("area > 'x'", "fails for annotation 7"),
        ("area / 0 > 1", "fails for annotation 7: float division"),
        ("3 in area", "fails for annotation 7"),
        ("1 " + "+ 1 " * 600, "is 2402 characters long|nested too deeply"),
        ("(" * 300 + "1" + ")" * 300, "cannot be read|nested too deeply"),
        ("not " * 60 + "crowd", "is nested too deeply"),
    ],
)
def test_what_is_not_part_of_it_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        value(text)


@given(st.text(max_size=60))
def test_any_text_gives_a_truth_or_our_own_error(text: str) -> None:
    try:
        assert value(text) in (True, False)
    except InputError as error:
        assert str(error).startswith("--where: ")  # noqa: PT017 - any other error ends the test
