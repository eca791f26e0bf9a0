"""Which way a person faces, and whether left and right look swapped, from keypoints alone.

Both work in the frame of the body, so that lying and upside-down persons are judged like
standing ones, and on names, so that every set with shoulders and hips has them.

Facing. The width of the body is how far the left shoulder (hip) lies to the picture's right of
the right one, in units of the torso (middle of the shoulders to middle of the hips). Seen from the
front it is about +0.75 (shoulders) and +0.45 (hips), from the back the same with a minus, and it
shrinks with the cosine of the turn. Shoulders and hips together: at or above ``FRONTAL`` the person
faces the camera ("front"), at or below its negative it is seen from the "back". In between it is a
side view, and the head decides: the side on which the nose lies, seen from the ears, or else which
ear or eye is labelled ("left" and "right" are sides of the picture). Where the hips are not
labelled, the head gives direction and scale: from the middle of the shoulders to the middle of
what is labelled of nose, eyes and ears is taken as half a torso. Without both shoulders, without
hips and head, or with no hint from the head in a side view: "unknown".

Swapped. Each of these is suspected, since pictures of twisted persons exist:
the triangle of nose, left eye and right eye runs the wrong way round, which no seen face does;
shoulders and hips clearly point to opposite sides;
nose and both eyes are seen, but shoulders and hips say that it is a back.
"""

from __future__ import annotations

import math

Point = tuple[float, float, float]
NamedPoints = dict[str, Point]

FACINGS = ("front", "back", "left", "right", "unknown")

FRONTAL = 0.3
"""Half of the mean width of a frontal body (0.6): a turn of 60 degrees."""
CLEAR_SHOULDERS = 0.35
CLEAR_HIPS = 0.2
"""Widths that no slip of a few pixels turns round."""
CLEAR_FACE = 0.3
"""Height of the nose below the eyes, in units of their distance, that shows a face's sense."""
_MIN_TORSO_PX = 10.0
_MIN_EYES_PX = 5.0
_NOSE_SHIFT = 0.08
"""Of a torso: a nose that lies less to the side of the ears says nothing."""
_VISIBLE = 2
_HEAD = ("nose", "lefteye", "righteye", "leftear", "rightear")
_NECK_TORSOS = 0.5


def facing(points: NamedPoints) -> str:
    """Front, back, left, right or unknown, by the rule above.

    ``points`` are the labelled keypoints (v > 0) as (x, y, v) by plain name ("leftshoulder").
    """
    axis = _body_axis(points) or _neck_axis(points)
    if axis is None:
        return "unknown"
    ax, ay, torso = axis
    widths = _widths(points, ax, ay, torso)
    width = sum(widths.values()) / len(widths)
    if abs(width) >= FRONTAL:
        return "front" if width > 0 else "back"
    return _side_of_head(points, ax, ay, torso)


def swap_suspicion(points: NamedPoints) -> str | None:
    """Why left and right may be swapped, by the rules above; None where nothing says so."""
    if _face_is_mirrored(points):
        return "the eyes are on the wrong sides of the nose"
    axis = _body_axis(points)
    if axis is None:
        return None
    widths = _widths(points, *axis)
    shoulder, hip = widths.get("shoulder", 0.0), widths.get("hip", 0.0)
    if abs(shoulder) > CLEAR_SHOULDERS and abs(hip) > CLEAR_HIPS and shoulder * hip < 0:
        return "shoulders and hips point to opposite sides"
    if shoulder < -CLEAR_SHOULDERS and hip < -CLEAR_HIPS and _face_is_seen(points):
        return "the face is seen, but shoulders and hips are those of a back"
    return None


def _middle(points: NamedPoints, part: str) -> tuple[float, float] | None:
    left, right = points.get(f"left{part}"), points.get(f"right{part}")
    if left is None or right is None:
        return None
    return (left[0] + right[0]) / 2, (left[1] + right[1]) / 2


def _body_axis(points: NamedPoints) -> tuple[float, float, float] | None:
    """The unit vector to the body's side (picture right for a standing person), and the torso.

    None without shoulders and hips, or where the torso is too short to have a direction.
    """
    shoulders, hips = _middle(points, "shoulder"), _middle(points, "hip")
    if shoulders is None or hips is None:
        return None
    return _axis(shoulders[0] - hips[0], shoulders[1] - hips[1], torsos=1.0)


def _neck_axis(points: NamedPoints) -> tuple[float, float, float] | None:
    """The same from shoulders and head, for persons whose hips are not in the picture."""
    shoulders = _middle(points, "shoulder")
    head = [points[name] for name in _HEAD if name in points]
    if shoulders is None or not head:
        return None
    x, y = (sum(point[i] for point in head) / len(head) for i in (0, 1))
    return _axis(x - shoulders[0], y - shoulders[1], torsos=_NECK_TORSOS)


def _axis(up_x: float, up_y: float, *, torsos: float) -> tuple[float, float, float] | None:
    length = math.hypot(up_x, up_y)
    if length < _MIN_TORSO_PX * torsos:
        return None
    return -up_y / length, up_x / length, length / torsos


def _widths(points: NamedPoints, ax: float, ay: float, torso: float) -> dict[str, float]:
    """Signed widths of shoulders and hips in torsos, positive for a front."""
    widths = {}
    for part in ("shoulder", "hip"):
        left, right = points.get(f"left{part}"), points.get(f"right{part}")
        if left is not None and right is not None:
            widths[part] = ((left[0] - right[0]) * ax + (left[1] - right[1]) * ay) / torso
    return widths


def _side_of_head(points: NamedPoints, ax: float, ay: float, torso: float) -> str:
    """Left or right by nose and ears, then by which side of the head is labelled."""
    ears = [points[name] for name in ("leftear", "rightear") if name in points]
    if "nose" in points and ears:
        nose = points["nose"]
        across = sum((nose[0] - x) * ax + (nose[1] - y) * ay for x, y, _ in ears) / len(ears)
        if abs(across) > _NOSE_SHIFT * torso:
            return "right" if across > 0 else "left"
    for part in ("ear", "eye"):
        left, right = f"left{part}" in points, f"right{part}" in points
        if left != right:
            # Of somebody who walks to the picture's left one sees the left side.
            return "left" if left else "right"
    return "unknown"


def _face_is_seen(points: NamedPoints) -> bool:
    names = ("nose", "lefteye", "righteye")
    return all(name in points and points[name][2] == _VISIBLE for name in names)


def _face_is_mirrored(points: NamedPoints) -> bool:
    """Whether nose, left eye and right eye run the wrong way round."""
    if any(name not in points for name in ("nose", "lefteye", "righteye")):
        return False
    nose, left, right = points["nose"], points["lefteye"], points["righteye"]
    across = (left[0] - right[0], left[1] - right[1])
    distance = math.hypot(*across)
    if distance < _MIN_EYES_PX:
        return False
    middle = ((left[0] + right[0]) / 2, (left[1] + right[1]) / 2)
    down = (nose[0] - middle[0], nose[1] - middle[1])
    # Upright: across points right (+x), down points down (+y): the cross product is positive.
    sense = (across[0] * down[1] - across[1] * down[0]) / distance**2
    return sense < -CLEAR_FACE
