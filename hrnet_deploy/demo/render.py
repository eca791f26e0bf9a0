"""Draw posed cartoon people, and remember which pixel belongs to which part of whom."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.demo import skeleton as sk
from hrnet_deploy.demo.skeleton import FloatArray, Pose

Colour = tuple[int, int, int]
ImageArray = NDArray[np.uint8]

SHIFT = 4
"""Fractional bits of the coordinates that OpenCV's drawing functions take."""

TORSO, HEAD, LEFT_ARM, RIGHT_ARM, LEFT_LEG, RIGHT_LEG = range(1, 7)
PARTS_PER_PERSON = 8
PROP = 255
"""Label of things that stand in front of people; 0 is the background."""

SKIN_BGR = ((176, 206, 245), (140, 180, 232), (104, 150, 210), (78, 118, 172), (52, 80, 122))
HAIR_BGR = (
    (28, 30, 36),
    (32, 52, 84),
    (48, 92, 140),
    (96, 168, 214),
    (40, 66, 178),
    (150, 150, 152),
)


def pleasant_colour(
    rng: np.random.Generator,
    saturation: tuple[float, float] = (0.35, 0.9),
    value: tuple[float, float] = (0.35, 0.95),
) -> Colour:
    """A random BGR colour of any hue within the given ranges."""
    red, green, blue = colorsys.hsv_to_rgb(
        rng.random(), rng.uniform(*saturation), rng.uniform(*value)
    )
    return int(255 * blue), int(255 * green), int(255 * red)


def shade(colour: Colour, factor: float) -> Colour:
    """The colour made darker (below 1) or brighter (above 1)."""
    blue, green, red = (min(255, max(0, round(channel * factor))) for channel in colour)
    return blue, green, red


@dataclass
class Canvas:
    """A picture ``image_bgr`` (H, W, 3) uint8 with ``labels`` (H, W) uint8 beside it."""

    image_bgr: ImageArray
    labels: ImageArray

    def polygon(self, points: FloatArray, colour: Colour, label: int | None) -> None:
        """Fill a convex polygon (P, 2) in pixels; ``label`` None leaves the labels alone."""
        fixed = np.round(points * (1 << SHIFT)).astype(np.int32)
        cv2.fillConvexPoly(self.image_bgr, fixed, colour, cv2.LINE_AA, SHIFT)
        if label is not None:
            cv2.fillConvexPoly(self.labels, fixed, label, cv2.LINE_8, SHIFT)

    def capsule(
        self,
        ends: tuple[FloatArray, FloatArray],
        radii: tuple[float, float],
        colour: Colour,
        label: int | None,
        outline: float = 0.0,
    ) -> None:
        """Fill the hull of two circles, with a dark rim of ``outline`` pixels around it."""
        if outline > 0:
            wide = (radii[0] + outline, radii[1] + outline)
            self.polygon(_capsule_hull(ends, wide), shade(colour, 0.45), label)
        self.polygon(_capsule_hull(ends, radii), colour, label)

    def ellipse(
        self, centre: FloatArray, radii: FloatArray, angle: float, colour: Colour, label: int | None
    ) -> None:
        """Fill an ellipse turned by ``angle`` radians."""
        turns = np.linspace(0, 2 * np.pi, 28, endpoint=False)
        points = np.stack([np.cos(turns) * radii[0], np.sin(turns) * radii[1]], axis=1)
        self.polygon(points @ sk.rotation_matrix(angle).T + centre, colour, label)


_CIRCLE = np.stack(
    [f(np.linspace(0, 2 * np.pi, 16, endpoint=False)) for f in (np.cos, np.sin)], axis=1
)


def _capsule_hull(ends: tuple[FloatArray, FloatArray], radii: tuple[float, float]) -> FloatArray:
    points = np.concatenate([ends[0] + _CIRCLE * radii[0], ends[1] + _CIRCLE * radii[1]])
    hull: FloatArray = cv2.convexHull(points.astype(np.float32))[:, 0].astype(np.float64)
    return hull


@dataclass(frozen=True)
class Look:
    """What one figure wears: colours (BGR), pattern and cut of the clothes, and the hair."""

    skin: Colour
    hair: Colour
    shirt: Colour
    accent: Colour
    trousers: Colour
    shoes: Colour
    pattern: int
    hair_style: int
    long_sleeves: bool
    short_trousers: bool
    stoutness: float


def random_look(rng: np.random.Generator) -> Look:
    """Draw the clothes, hair and skin of a figure."""
    shirt = pleasant_colour(rng, value=(0.5, 0.98))
    return Look(
        skin=SKIN_BGR[rng.integers(len(SKIN_BGR))],
        hair=HAIR_BGR[rng.integers(len(HAIR_BGR))],
        shirt=shirt,
        accent=(245, 245, 245) if rng.random() < 0.6 else shade(shirt, 0.55),
        trousers=pleasant_colour(rng, saturation=(0.2, 0.75), value=(0.2, 0.75)),
        shoes=pleasant_colour(rng, value=(0.15, 0.6)),
        pattern=int(rng.integers(3)),
        hair_style=int(rng.integers(3)),
        long_sleeves=bool(rng.random() < 0.4),
        short_trousers=bool(rng.random() < 0.35),
        stoutness=float(rng.uniform(0.9, 1.2)),
    )


class Figure:
    """A pose and a look placed in a picture: joint ``j`` lies at ``joints_px[j]``."""

    def __init__(self, pose: Pose, look: Look, pelvis_px: FloatArray, unit_px: float) -> None:
        self.pose, self.look, self.unit_px = pose, look, unit_px
        self.joints_px = pelvis_px + unit_px * pose.joints_xyd[:, :2]
        self.neck_px = pelvis_px + unit_px * pose.neck_xy
        self.head_px = pelvis_px + unit_px * pose.head_xy
        self.outline = max(0.6, 0.008 * unit_px)
        self.body_front = float(np.cos(pose.yaw)) > 0

    def draw(self, canvas: Canvas, person: int) -> None:
        """Paint the figure, far parts first; ``person`` counts from zero."""
        base = person * PARTS_PER_PERSON
        depth = self.pose.joints_xyd[:, 2]
        arms = [
            (depth[sk.LEFT_WRIST] + depth[sk.LEFT_ELBOW], LEFT_ARM),
            (depth[sk.RIGHT_WRIST] + depth[sk.RIGHT_ELBOW], RIGHT_ARM),
        ]
        legs = [(depth[sk.LEFT_KNEE], LEFT_LEG), (depth[sk.RIGHT_KNEE], RIGHT_LEG)]
        for near, part in sorted(arms):
            if near < 0:
                self._arm(canvas, part, base + part)
        for _, part in sorted(legs):
            self._leg(canvas, part, base + part)
        self._torso(canvas, base + TORSO)
        self._head(canvas, base + HEAD)
        for near, part in sorted(arms):
            if near >= 0:
                self._arm(canvas, part, base + part)

    def _arm(self, canvas: Canvas, part: int, label: int) -> None:
        first = sk.LEFT_SHOULDER if part == LEFT_ARM else sk.RIGHT_SHOULDER
        shoulder, elbow, wrist = self.joints_px[[first, first + 2, first + 4]]
        unit, look = self.unit_px, self.look
        lower = look.shirt if look.long_sleeves else look.skin
        hand = wrist + (wrist - elbow) * 0.2
        canvas.capsule((elbow, wrist), (0.03 * unit, 0.024 * unit), lower, label, self.outline)
        canvas.capsule((wrist, hand), (0.028 * unit, 0.03 * unit), look.skin, label, self.outline)
        sleeve = shade(look.shirt, 0.9)
        radii = (0.042 * unit * look.stoutness, 0.034 * unit)
        canvas.capsule((shoulder, elbow), radii, sleeve, label, self.outline)
        if not look.long_sleeves:
            middle = shoulder + 0.62 * (elbow - shoulder)
            canvas.capsule((middle, elbow), (0.03 * unit, 0.03 * unit), look.skin, label)

    def _leg(self, canvas: Canvas, part: int, label: int) -> None:
        first = sk.LEFT_HIP if part == LEFT_LEG else sk.RIGHT_HIP
        hip, knee, ankle = self.joints_px[[first, first + 2, first + 4]]
        unit, look = self.unit_px, self.look
        lower = look.skin if look.short_trousers else look.trousers
        self._shoe(canvas, ankle, label)
        canvas.capsule((knee, ankle), (0.038 * unit, 0.029 * unit), lower, label, self.outline)
        radii = (0.058 * unit * look.stoutness, 0.044 * unit)
        canvas.capsule((hip, knee), radii, look.trousers, label, self.outline)
        if not look.short_trousers:  # a seam marks the knee
            canvas.ellipse(knee, np.full(2, 0.022 * unit), 0.0, shade(look.trousers, 1.3), None)

    def _shoe(self, canvas: Canvas, ankle: FloatArray, label: int) -> None:
        unit = self.unit_px
        # Toes point where the figure looks: down and a little larger when it faces the viewer.
        reach = np.array([np.sin(self.pose.yaw) * 0.06, 0.045 if self.body_front else 0.03])
        heel = ankle + unit * np.array([0.0, 0.018])
        radii = (0.03 * unit, (0.036 if self.body_front else 0.028) * unit)
        canvas.capsule((heel, ankle + unit * reach), radii, self.look.shoes, label, self.outline)

    def _torso(self, canvas: Canvas, label: int) -> None:
        unit, look = self.unit_px, self.look
        joints = self.joints_px
        hips = joints[[sk.LEFT_HIP, sk.RIGHT_HIP]]
        shoulders = joints[[sk.LEFT_SHOULDER, sk.RIGHT_SHOULDER]]
        canvas.capsule(
            (hips[0], hips[1]), (0.06 * unit, 0.06 * unit), look.trousers, label, self.outline
        )
        canvas.capsule(
            (self.neck_px, self.head_px), (0.04 * unit, 0.04 * unit), look.skin, label, self.outline
        )
        waist = hips + (shoulders - hips) * 0.14
        grown = [(waist, 0.056 * look.stoutness), (shoulders, 0.045)]
        circles = [p + _CIRCLE * r * unit for pair, r in grown for p in pair]
        hull = cv2.convexHull(np.concatenate(circles).astype(np.float32))[:, 0].astype(np.float64)
        centre = hull.mean(axis=0)
        rim = centre + (hull - centre) * (1 + 2 * self.outline / (0.25 * unit))
        canvas.polygon(rim, shade(look.shirt, 0.45), label)
        canvas.polygon(hull, look.shirt, label)
        self._shirt_details(canvas, hips.mean(axis=0))

    def _shirt_details(self, canvas: Canvas, waist: FloatArray) -> None:
        unit, look = self.unit_px, self.look
        down = waist - self.neck_px
        across = self.joints_px[sk.LEFT_SHOULDER] - self.joints_px[sk.RIGHT_SHOULDER]
        turn = float(np.sin(self.pose.yaw)) * (1 if self.body_front else -1)
        if look.pattern == 1:  # hoops
            for height in (0.35, 0.6, 0.85):
                middle = self.neck_px + down * height
                ends = (middle - across * 0.42, middle + across * 0.42)
                canvas.capsule(ends, (0.014 * unit, 0.014 * unit), look.accent, None)
        if self.body_front:
            shift = np.array([0.05 * turn * unit, 0.0])
            opening = self.neck_px + down * 0.12 + shift * 0.6
            canvas.ellipse(opening, np.array([0.045, 0.04]) * unit, 0.0, look.skin, None)
            for height in (0.36, 0.56, 0.76):
                button = self.neck_px + down * height + shift
                canvas.ellipse(button, np.full(2, 0.015 * unit), 0.0, (20, 20, 24), None)
        elif look.pattern == 2:  # a number-like patch on the back
            middle = self.neck_px + down * 0.42
            canvas.ellipse(middle, np.array([0.05, 0.06]) * unit, 0.0, look.accent, None)

    def _head(self, canvas: Canvas, label: int) -> None:
        look, unit, pose = self.look, self.unit_px, self.pose
        radii = np.array(sk.HEAD_RADII) * unit * pose.head_size
        roll = pose.head_roll
        for ear in (sk.LEFT_EAR, sk.RIGHT_EAR):
            if pose.joints_xyd[ear, 2] > -0.5 * sk.HEAD_RADII[0]:
                size = np.array([0.028, 0.034]) * unit
                rim, inner = shade(look.skin, 0.45), shade(look.skin, 0.88)
                canvas.ellipse(self.joints_px[ear], size + self.outline, roll, rim, label)
                canvas.ellipse(self.joints_px[ear], size, roll, inner, label)
        front = pose.faces_viewer
        colour = look.skin if front else look.hair
        rim = shade(colour, 0.45)
        canvas.ellipse(self.head_px, radii + self.outline, roll, rim, label)
        canvas.ellipse(self.head_px, radii, roll, colour, label)
        if front:
            self._hair_front(canvas, radii, label)
            self._face(canvas, radii)
        elif look.hair_style == 2:
            down = sk.rotation_matrix(roll) @ np.array([0.0, 0.75 * radii[1]])
            canvas.ellipse(self.head_px + down, radii * [0.85, 0.55], roll, look.hair, label)

    def _hair_front(self, canvas: Canvas, radii: FloatArray, label: int) -> None:
        pose, look = self.pose, self.look
        turns = np.linspace(np.pi * 1.04, np.pi * 1.96, 16)
        points = np.stack([np.cos(turns), np.sin(turns)], axis=1) * radii * 1.04
        fringe = 0.36 if look.hair_style else 0.5
        points = np.concatenate([points, [[0.62, -fringe], [-0.62, -fringe]] * radii])
        turned = points @ sk.rotation_matrix(pose.head_roll).T + self.head_px
        canvas.polygon(turned, look.hair, label)

    def _face(self, canvas: Canvas, radii: FloatArray) -> None:
        pose, unit = self.pose, self.unit_px * self.pose.head_size
        roll = pose.head_roll
        for eye in (sk.LEFT_EYE, sk.RIGHT_EYE):
            centre = self.joints_px[eye]
            canvas.ellipse(centre, np.array([0.022, 0.02]) * unit, roll, (250, 250, 250), None)
            canvas.ellipse(centre, np.full(2, 0.012 * unit), roll, (30, 20, 20), None)
        nose = shade(self.look.skin, 0.72)
        canvas.ellipse(self.joints_px[sk.NOSE], np.array([0.014, 0.017]) * unit, roll, nose, None)
        below = np.array([0.45 * np.sin(pose.head_yaw) * radii[0], 0.52 * radii[1]])
        mouth = self.head_px + sk.rotation_matrix(roll) @ below
        canvas.ellipse(mouth, np.array([0.03, 0.011]) * unit, roll, (60, 50, 170), None)
