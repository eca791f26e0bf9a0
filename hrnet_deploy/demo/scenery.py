"""Backgrounds, far crowds, things in the way, and the imperfections of a camera."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.demo import skeleton as sk
from hrnet_deploy.demo.render import (
    HAIR_BGR,
    PROP,
    SKIN_BGR,
    Canvas,
    Figure,
    ImageArray,
    pleasant_colour,
    shade,
)


def paint_background(canvas: Canvas, rng: np.random.Generator) -> int:
    """Fill the picture with a landscape or a room and return the row of the horizon."""
    height, width = canvas.labels.shape
    horizon = int(height * rng.uniform(0.35, 0.7))
    _gradient(canvas.image_bgr[:horizon], rng)
    _gradient(canvas.image_bgr[horizon:], rng)
    if rng.random() < 0.5:
        _landscape(canvas, rng, horizon)
    else:
        _room(canvas, rng, horizon)
    coarse = rng.normal(0, 1, size=(9, 13, 1)) + rng.normal(0, 0.4, size=(9, 13, 3))
    texture = np.asarray(
        cv2.resize((coarse * rng.uniform(2, 12)).astype(np.float32), (width, height)), np.float32
    )
    grain = rng.standard_normal((height, width, 1), dtype=np.float32)
    texture += grain * np.float32(rng.uniform(0, 6))
    texture = texture + canvas.image_bgr.astype(np.float32)
    canvas.image_bgr[:] = np.clip(texture, 0, 255).astype(np.uint8)
    return horizon


def _gradient(area_bgr: ImageArray, rng: np.random.Generator) -> None:
    """Blend two muted colours from top to bottom, in place."""
    ends = [pleasant_colour(rng, saturation=(0.05, 0.5), value=(0.35, 0.95)) for _ in range(2)]
    ramp = np.linspace(0, 1, area_bgr.shape[0])[:, None, None]
    area_bgr[:] = (np.array(ends[0]) * (1 - ramp) + np.array(ends[1]) * ramp).astype(np.uint8)


def _landscape(canvas: Canvas, rng: np.random.Generator, horizon: int) -> None:
    """Clouds or hills, houses, and trees."""
    height, width = canvas.labels.shape
    for _ in range(rng.integers(0, 5)):
        centre = np.array([rng.uniform(0, width), rng.uniform(0, horizon)])
        radii = np.array([rng.uniform(0.05, 0.2), rng.uniform(0.03, 0.09)]) * width
        colour = pleasant_colour(rng, saturation=(0.0, 0.3), value=(0.5, 1.0))
        canvas.ellipse(centre, radii, 0.0, colour, None)
    for _ in range(rng.integers(0, 4)):
        left, top = rng.uniform(-0.1, 1) * width, horizon - rng.uniform(0.1, 0.35) * height
        right = left + rng.uniform(0.1, 0.3) * width
        wall = pleasant_colour(rng, saturation=(0.1, 0.5))
        _rectangle(canvas, (left, top, right, horizon + 3.0), wall)
        for x in np.arange(left + 6, right - 10, 18.0):
            _rectangle(canvas, (x, top + 8, x + 8, top + 20), shade(wall, 0.6))
    for _ in range(rng.integers(0, 5)):
        x, size = rng.uniform(0, width), rng.uniform(0.08, 0.25) * height
        foot = np.array([x, horizon + rng.uniform(0, 0.12) * height])
        top = foot - [0.0, size]
        trunk = pleasant_colour(rng, saturation=(0.3, 0.6), value=(0.2, 0.5))
        canvas.capsule((foot, top), (0.08 * size, 0.06 * size), trunk, None)
        crown = pleasant_colour(rng, value=(0.3, 0.7))
        canvas.ellipse(top, np.array([0.45, 0.5]) * size * rng.uniform(0.7, 1.2), 0.0, crown, None)


def _room(canvas: Canvas, rng: np.random.Generator, horizon: int) -> None:
    """Stripes or tiles, pictures on the wall, and furniture."""
    height, width = canvas.labels.shape
    if rng.random() < 0.5:
        step = int(rng.integers(12, 60))
        colour = pleasant_colour(rng, saturation=(0.05, 0.4))
        for x in range(int(rng.integers(0, step)), width, step):
            _rectangle(canvas, (x, 0, x + step * 0.3, horizon), colour)
    if rng.random() < 0.5:
        step = int(rng.integers(14, 50))
        line = shade(pleasant_colour(rng, saturation=(0.05, 0.3)), 0.7)
        for y in range(horizon, height, step):
            cv2.line(canvas.image_bgr, (0, y), (width, y), line, 1, cv2.LINE_AA)
        for x in range(-width, 2 * width, 2 * step):
            end = (width // 2 + 2 * (x - width // 2), height)
            cv2.line(canvas.image_bgr, (x, horizon), end, line, 1, cv2.LINE_AA)
    for _ in range(rng.integers(0, 6)):
        left, top = rng.uniform(0, 0.9) * width, rng.uniform(0, 0.8) * horizon
        right, bottom = left + rng.uniform(0.06, 0.25) * width, top + rng.uniform(0.1, 0.4) * height
        frame = pleasant_colour(rng)
        _rectangle(canvas, (left, top, right, bottom), frame)
        _rectangle(canvas, (left + 4, top + 4, right - 4, bottom - 4), pleasant_colour(rng))


def _rectangle(
    canvas: Canvas, box_xyxy: tuple[float, float, float, float], colour: tuple[int, int, int]
) -> None:
    left, top, right, bottom = box_xyxy
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    canvas.polygon(corners, colour, None)


def draw_crowd(canvas: Canvas, rng: np.random.Generator, horizon: int) -> NDArray[np.bool_]:
    """A row of far spectators at the horizon; returns their pixels (H, W) bool."""
    height, width = canvas.labels.shape
    scratch = Canvas(canvas.image_bgr, np.zeros_like(canvas.labels))
    size = rng.uniform(0.09, 0.14) * height
    x = rng.uniform(0, 0.4) * width
    for _ in range(rng.integers(6, 14)):
        foot = np.array([x, horizon + rng.uniform(0, 0.5) * size])
        neck = foot - [0.0, 0.72 * size]
        shirt = pleasant_colour(rng)
        scratch.capsule((foot, neck), (0.13 * size, 0.18 * size), shirt, PROP, 0.6)
        skin = SKIN_BGR[rng.integers(len(SKIN_BGR))]
        hair = HAIR_BGR[rng.integers(len(HAIR_BGR))]
        head = neck - [0.0, 0.28 * size]
        scratch.ellipse(head - [0.0, 0.04 * size], np.full(2, 0.15 * size), 0.0, hair, PROP)
        scratch.ellipse(head, np.full(2, 0.13 * size), 0.0, skin, PROP)
        x += rng.uniform(0.3, 0.6) * size
    return np.equal(scratch.labels, PROP)


def place_prop(canvas: Canvas, rng: np.random.Generator, figure: Figure) -> None:
    """Put a box, a bush or a post in front of a part of the figure."""
    unit = figure.unit_px
    kind = int(rng.integers(3))
    colour = pleasant_colour(rng)
    if kind == 0:  # a box before the lower legs
        ankles = figure.joints_px[[sk.LEFT_ANKLE, sk.RIGHT_ANKLE]].mean(axis=0)
        half = rng.uniform(0.1, 0.2, size=2) * unit
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
        centre = ankles + [rng.uniform(-0.1, 0.1) * unit, 0.0]
        canvas.polygon(centre + corners * 1.06, shade(colour, 0.5), PROP)
        canvas.polygon(centre + corners, colour, PROP)
    elif kind == 1:  # a bush beside a knee
        knee = figure.joints_px[sk.LEFT_KNEE if rng.random() < 0.5 else sk.RIGHT_KNEE]
        for _ in range(4):
            centre = knee + rng.uniform(-0.06, 0.06, size=2) * unit + [0.0, 0.06 * unit]
            leaf = shade(colour, rng.uniform(0.7, 1.1))
            canvas.ellipse(centre, rng.uniform(0.05, 0.11, size=2) * unit, 0.0, leaf, PROP)
    else:  # a post through the picture
        x = figure.joints_px[:, 0].mean() + rng.uniform(-0.25, 0.25) * unit
        ends = (np.array([x, -10.0]), np.array([x, canvas.labels.shape[0] + 10.0]))
        width = rng.uniform(0.015, 0.035) * unit
        canvas.capsule(ends, (width, width), colour, PROP, figure.outline)


def take_photo(image_bgr: ImageArray, rng: np.random.Generator) -> ImageArray:
    """Exposure, a tint, a little blur and sensor noise."""
    photo = image_bgr.astype(np.float32)
    photo *= (rng.uniform(0.75, 1.15) * rng.uniform(0.94, 1.06, size=3)).astype(np.float32)
    photo += np.float32(rng.uniform(-12, 18))
    if (sigma := rng.uniform(0, 0.9)) > 0.35:
        photo = cv2.GaussianBlur(photo, (0, 0), sigma).astype(np.float32, copy=False)
    noise = rng.standard_normal((*photo.shape[:2], 1), dtype=np.float32)
    photo += noise * np.float32(rng.uniform(1, 6))
    return np.clip(photo, 0, 255, out=photo).astype(np.uint8)
