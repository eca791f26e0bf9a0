from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrnet_deploy.datasets.fields import plain, triplets
from hrnet_deploy.datasets.orientation import facing, swap_suspicion
from hrnet_deploy.keypoints import COCO_17

Points = dict[str, tuple[float, float, float]]


def person(turn: float) -> Points:
    """A standing person of 200 px, turned by ``turn`` degrees: 0 to the camera, 90 to the right.

    Seen from in front the left side is on the picture's right.
    """
    across, ahead = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    joints = {
        "nose": (0.0, 0.10, -20),
        "eye": (0.03, 0.07, -25),
        "ear": (0.07, 0.01, -20),
        "shoulder": (0.19, 0.0, 0),
        "hip": (0.11, 0.0, 55),
    }
    points: Points = {}
    for name, (side, front, down) in joints.items():
        for which, sign in (("left", 1), ("right", -1)) if side else (("", 0),):
            x = 100 + 200 * (sign * side * across + front * ahead)
            seen = name not in {"nose", "eye"} or (front * across - sign * side * ahead) > -0.01
            if seen:
                points[f"{which}{name}"] = (x, 100.0 + down, 2)
    return points


@pytest.mark.parametrize(
    ("turn", "expected"),
    [
        (0, "front"),
        (40, "front"),
        (-40, "front"),
        (90, "right"),
        (-90, "left"),
        (180, "back"),
        (140, "back"),
    ],
)
def test_facing(turn: float, expected: str) -> None:
    assert facing(person(turn)) == expected


def test_facing_without_hips_is_told_by_the_head() -> None:
    for turn, expected in ((0, "front"), (90, "right"), (180, "back")):
        points = {name: p for name, p in person(turn).items() if "hip" not in name}
        assert facing(points) == expected


def test_one_ear_tells_a_side_view() -> None:
    points = {name: p for name, p in person(90).items() if name not in {"nose", "leftear"}}
    points = {name: p for name, p in points.items() if "eye" not in name}
    assert facing(points) == "right"


@pytest.mark.parametrize("missing", ["leftshoulder", "rightshoulder"])
def test_facing_needs_both_shoulders(missing: str) -> None:
    points = person(0)
    del points[missing]
    assert facing(points) == "unknown"
    assert facing({}) == "unknown"


@given(st.integers(0, 359), st.floats(0, 360), st.floats(0.5, 4), st.floats(-500, 500))
def test_neither_place_size_nor_tilt_changes_the_answer(
    turn: int, tilt: float, scale: float, move: float
) -> None:
    if min(abs(turn - edge) for edge in (60, 120, 240, 300)) < 3:
        return
    cos, sin = math.cos(math.radians(tilt)) * scale, math.sin(math.radians(tilt)) * scale
    points = person(turn)
    turned = {
        name: (x * cos - y * sin + move, x * sin + y * cos, v) for name, (x, y, v) in points.items()
    }
    assert facing(turned) == facing(points)
    assert (swap_suspicion(turned) is None) == (swap_suspicion(points) is None)


def test_mirrored_persons_face_the_other_side() -> None:
    for turn, expected in ((90, "left"), (-90, "right"), (0, "front"), (180, "back")):
        mirrored = {_other(name): (-x, y, v) for name, (x, y, v) in person(turn).items()}
        assert facing(mirrored) == expected


def _other(name: str) -> str:
    if name.startswith("left"):
        return "right" + name[4:]
    return "left" + name[5:] if name.startswith("right") else name


@pytest.mark.parametrize("turn", [0, 30, 60, 90, 120, 150, 180, 250, 300])
def test_nobody_is_suspected_who_is_labelled_right(turn: float) -> None:
    assert swap_suspicion(person(turn)) is None


def test_swaps_are_suspected_with_their_reason() -> None:
    swapped = {_other(name): p for name, p in person(0).items()}
    assert swap_suspicion(swapped) == "the eyes are on the wrong sides of the nose"
    hips = person(0)
    hips["lefthip"], hips["righthip"] = hips["righthip"], hips["lefthip"]
    assert swap_suspicion(hips) == "shoulders and hips point to opposite sides"
    body = {n: p for n, p in swapped.items() if "eye" not in n} | {
        n: p for n, p in person(0).items() if "eye" in n
    }
    assert "those of a back" in str(swap_suspicion(body))
    assert swap_suspicion({}) is None


def test_on_real_pictures(shared: Path) -> None:
    """Looked at one by one: no swap in COCO's labels, and every swap of a front is found."""
    file = shared / "data" / "coco-train2017-mini" / "person_keypoints_train2017_mini.json"
    counts: dict[str, int] = {}
    suspected = 0
    for entry in json.loads(file.read_text())["annotations"]:
        points = triplets(entry) or []
        named = {plain(n): p for n, p in zip(COCO_17.names, points, strict=True) if p[2] > 0}
        if not named:
            continue
        counts[facing(named)] = counts.get(facing(named), 0) + 1
        assert swap_suspicion(named) is None
        suspected += swap_suspicion({_other(n): p for n, p in named.items()}) is not None
    assert counts == {"front": 77, "back": 13, "left": 10, "right": 6, "unknown": 33}
    assert suspected > 60
