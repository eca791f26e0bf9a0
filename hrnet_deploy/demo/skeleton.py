"""Random cartoon poses: seventeen COCO joints of a jointed figure seen from the front or back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

NOSE, LEFT_EYE, RIGHT_EYE, LEFT_EAR, RIGHT_EAR = range(5)
LEFT_SHOULDER, RIGHT_SHOULDER, LEFT_ELBOW, RIGHT_ELBOW, LEFT_WRIST, RIGHT_WRIST = range(5, 11)
LEFT_HIP, RIGHT_HIP, LEFT_KNEE, RIGHT_KNEE, LEFT_ANKLE, RIGHT_ANKLE = range(11, 17)

# Lengths in figure units: a standing figure is about one unit high. The head is larger than
# life, so that a face still has a few pixels in a crop of 128 x 96.
TORSO = 0.29
UPPER_ARM = 0.155
LOWER_ARM = 0.145
UPPER_LEG = 0.205
LOWER_LEG = 0.205
SHOULDER_HALF = 0.105
HIP_HALF = 0.062
NECK_TO_HEAD = 0.135
HEAD_RADII = (0.098, 0.112)

FACE_LONGITUDES = {NOSE: 0.0, LEFT_EYE: 27.0, RIGHT_EYE: -27.0, LEFT_EAR: 90.0, RIGHT_EAR: -90.0}
"""Degrees around the head, counted from the nose towards the left ear."""

FACE_HEIGHTS = {NOSE: -0.1, LEFT_EYE: 0.16, RIGHT_EYE: 0.16, LEFT_EAR: 0.02, RIGHT_EAR: 0.02}
"""Height over the centre of the head, in vertical head radii."""


@dataclass(frozen=True)
class Pose:
    """A posed figure in figure units: x to the right, y downwards, pelvis at the origin.

    ``joints_xyd`` (17, 3) in COCO order, the third column being the depth towards the viewer;
    ``neck_xy`` and ``head_xy`` the base of the neck and the centre of the head; ``yaw`` turns
    the body and ``head_yaw`` the head (radians, 0 faces the viewer, pi turns the back);
    ``head_roll`` tilts the head in the picture plane; ``head_size`` scales its radii.
    """

    joints_xyd: FloatArray
    neck_xy: FloatArray
    head_xy: FloatArray
    yaw: float
    head_yaw: float
    head_roll: float
    head_size: float

    @property
    def faces_viewer(self) -> bool:
        """Whether the face is on the visible side of the head."""
        return bool(np.cos(self.head_yaw) > 0.0)


def _turn(body: FloatArray, yaw: float) -> FloatArray:
    """Left/up/forward of the body (..., 3) to x/y/depth of the picture (..., 3)."""
    left, up, forward = body[..., 0], body[..., 1], body[..., 2]
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.stack([cos * left + sin * forward, -up, cos * forward - sin * left], axis=-1)


def _direction(side: float, spread_deg: float, forward_deg: float) -> FloatArray:
    """Unit vector in the body frame: 0 hangs down, 90 points sideways, 180 up."""
    spread, forward = np.radians(spread_deg), np.radians(forward_deg)
    return np.array(
        [
            side * np.sin(spread) * np.cos(forward),
            -np.cos(spread) * np.cos(forward),
            np.sin(forward),
        ]
    )


def _arm(rng: np.random.Generator, mode: int) -> tuple[float, float, float, float]:
    """Spread and forward angle of the upper arm, then of the lower arm, in degrees."""
    if mode == 0:  # hanging
        spread = rng.uniform(6, 26)
        return spread, rng.uniform(-15, 15), spread + rng.uniform(-14, 18), rng.uniform(0, 30)
    if mode == 1:  # hand on the hip
        return rng.uniform(38, 55), rng.uniform(-15, 5), rng.uniform(-48, -25), rng.uniform(0, 15)
    if mode == 2:  # held out
        spread = rng.uniform(55, 100)
        return spread, rng.uniform(-5, 15), spread + rng.uniform(-35, 45), rng.uniform(0, 15)
    if mode == 3:  # raised
        spread = rng.uniform(110, 160)
        return spread, rng.uniform(0, 10), spread + rng.uniform(-15, 45), rng.uniform(0, 15)
    if mode == 4:  # waving
        return rng.uniform(45, 85), rng.uniform(0, 15), rng.uniform(140, 190), rng.uniform(5, 20)
    # in front of the belly
    return rng.uniform(12, 28), rng.uniform(5, 20), rng.uniform(-70, -30), rng.uniform(25, 45)


def _legs(rng: np.random.Generator) -> list[tuple[float, float, float, float]]:
    """The same four angles for the left and for the right leg."""
    mode = rng.choice(4, p=[0.45, 0.25, 0.2, 0.1])
    if mode == 0:  # standing
        spreads = rng.uniform(3, 10, size=2)
        return [(s, 0.0, s + rng.uniform(-5, 3), rng.uniform(-8, 0)) for s in spreads]
    if mode == 1:  # legs apart
        spreads = rng.uniform(14, 30, size=2)
        return [(s, 0.0, s * rng.uniform(0.3, 1.1), 0.0) for s in spreads]
    if mode == 2:  # walking
        ahead = (rng.uniform(4, 9), rng.uniform(15, 35), 4.0, rng.uniform(-10, 10))
        behind = (rng.uniform(4, 9), rng.uniform(-25, -8), 4.0, rng.uniform(-45, -25))
        pair = [ahead, behind]
    else:  # one knee up
        raised = (rng.uniform(25, 50), rng.uniform(20, 45), rng.uniform(-8, 12), -15.0)
        pair = [raised, (rng.uniform(3, 8), 0.0, rng.uniform(1, 6), 0.0)]
    return pair if rng.random() < 0.5 else pair[::-1]


def _limb(
    root: FloatArray, side: float, angles: tuple[float, float, float, float], lengths: FloatArray
) -> tuple[FloatArray, FloatArray]:
    middle = root + lengths[0] * _direction(side, angles[0], angles[1])
    return middle, middle + lengths[1] * _direction(side, angles[2], angles[3])


def random_pose(rng: np.random.Generator) -> Pose:
    """Draw a pose; about two of three figures face the viewer, the others turn their back.

    The body turns at most 40 degrees to either side, so that left and right can always be
    told from the face, the hair and the buttons. Mirroring a picture and swapping the sides
    gives a picture that is just as likely: nothing about a figure is left- or right-handed.
    """
    turned = np.pi if rng.random() < 0.33 else 0.0
    yaw = turned + np.radians(np.clip(rng.normal(0, 18), -40, 40))
    head_yaw = yaw + np.radians(np.clip(rng.normal(0, 9), -18, 18))
    joints = _turn(_body(rng), yaw)
    neck = _turn(np.array([0.0, TORSO, 0.0]), yaw)[:2]
    head_roll = np.radians(rng.normal(0, 7))
    head_size = rng.uniform(0.92, 1.1)
    head = np.array([np.sin(head_roll), -np.cos(head_roll)]) * NECK_TO_HEAD * head_size
    head += neck
    for joint, longitude in FACE_LONGITUDES.items():
        joints[joint] = _face_point(head, head_yaw, head_roll, head_size, joint, longitude)
    lean = np.radians(np.clip(rng.normal(0, 7), -18, 18))
    rotation = rotation_matrix(lean)
    joints[:, :2] = joints[:, :2] @ rotation.T
    return Pose(
        joints, rotation @ neck, rotation @ head, yaw, head_yaw, float(head_roll + lean), head_size
    )


def _body(rng: np.random.Generator) -> FloatArray:
    """Joints (17, 3) below the neck in the body frame (left, up, forward); the others are zero."""
    build = rng.uniform(0.9, 1.15)
    stretch = rng.uniform(0.94, 1.06, size=2)
    body = np.zeros((17, 3))
    modes = rng.choice(6, size=2, p=[0.34, 0.14, 0.16, 0.14, 0.12, 0.1])
    if rng.random() < 0.4:
        modes[1] = modes[0]
    legs = _legs(rng)
    for index, side in enumerate((1.0, -1.0)):
        shoulder = np.array([side * SHOULDER_HALF * build, TORSO - 0.025, 0.0])
        hip = np.array([side * HIP_HALF * build, 0.0, 0.0])
        arm_lengths = stretch[0] * np.array([UPPER_ARM, LOWER_ARM])
        leg_lengths = stretch[1] * np.array([UPPER_LEG, LOWER_LEG])
        elbow, wrist = _limb(shoulder, side, _arm(rng, int(modes[index])), arm_lengths)
        knee, ankle = _limb(hip, side, legs[index], leg_lengths)
        body[LEFT_SHOULDER + index] = shoulder
        body[LEFT_ELBOW + index] = elbow
        body[LEFT_WRIST + index] = wrist
        body[LEFT_HIP + index] = hip
        body[LEFT_KNEE + index] = knee
        body[LEFT_ANKLE + index] = ankle
    return body


def rotation_matrix(angle: float) -> FloatArray:
    """Rotation (2, 2) by ``angle`` radians, clockwise as seen in a picture (y downwards)."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin], [sin, cos]])


def _face_point(
    head_xy: FloatArray, yaw: float, roll: float, size: float, joint: int, longitude_deg: float
) -> FloatArray:
    """A point on the ellipsoid of the head: x, y and depth."""
    angle = yaw + np.radians(longitude_deg)
    height = FACE_HEIGHTS[joint]
    ring = np.sqrt(1.0 - height**2)
    offset = size * np.array([HEAD_RADII[0] * ring * np.sin(angle), -HEAD_RADII[1] * height])
    x, y = head_xy + rotation_matrix(roll) @ offset
    return np.array([x, y, HEAD_RADII[0] * size * np.cos(angle)])
