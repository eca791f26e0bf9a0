"""Poses as a small vector drawing with a table, for notebooks."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.runtime.draw import SCORE_THRESHOLD

if TYPE_CHECKING:
    from hrnet_deploy.runtime.pose import Poses

SHOWN = 8
"""Persons that are drawn and listed; the others are counted."""
SIDE_PX = 320
"""The larger side of the drawing."""
_COLOURS = ("#2ca02c", "#ff7f0e", "#1f77b4", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#17becf")


def poses_html(poses: Poses) -> str:
    """HTML with an SVG of the skeletons and a line for each person; nothing is loaded by it."""
    count, joints = len(poses), len(poses.keypoint_names)
    title = f"{count} person{'s' * (count != 1)}, {joints} keypoints each"
    if not count:
        return f"<div>{title}</div>"
    rows = "".join(_row(poses, person) for person in range(min(count, SHOWN)))
    more = f"<div>and {count - SHOWN} more</div>" if count > SHOWN else ""
    head = "<tr><th></th><th>score</th><th>keypoints seen</th><th>box (x1, y1, x2, y2)</th></tr>"
    return f"<div>{title}{_svg(poses)}<table>{head}{rows}</table>{more}</div>"


def _row(poses: Poses, person: int) -> str:
    seen = np.flatnonzero(poses.scores[person] >= SCORE_THRESHOLD)
    names = html.escape(", ".join(poses.keypoint_names[k] for k in seen[:SHOWN]))
    box = ", ".join(f"{value:.0f}" for value in poses.boxes_xyxy[person])
    colour = _COLOURS[person % len(_COLOURS)]
    return (
        f'<tr><td style="color:{colour}">&#9679;</td><td>{poses.instance_scores[person]:.2f}</td>'
        f'<td title="{names}">{len(seen)}</td><td>{box}</td></tr>'
    )


def _svg(poses: Poses) -> str:
    boxes = poses.boxes_xyxy[:SHOWN]
    low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    width, height = (float(side) for side in high - low)
    stroke = max(width, height) / SIDE_PX
    parts = [_person(poses, person, stroke) for person in range(min(len(poses), SHOWN))]
    view = f"{low[0]:.1f} {low[1]:.1f} {width:.1f} {height:.1f}"
    wide, high = (round(side / stroke) for side in (width, height))
    look = "display:block;margin:6px 0;overflow:visible"
    return (
        f'<svg width="{wide}" height="{high}" style="{look}" viewBox="{view}">'
        f"{''.join(parts)}</svg>"
    )


def _person(poses: Poses, person: int, stroke: float) -> str:
    points, seen = poses.keypoints_px[person], poses.scores[person] >= SCORE_THRESHOLD
    lines = "".join(
        f'<line x1="{points[a][0]:.1f}" y1="{points[a][1]:.1f}" '
        f'x2="{points[b][0]:.1f}" y2="{points[b][1]:.1f}"/>'
        for a, b in poses.skeleton
        if seen[a] and seen[b]
    )
    dots = "".join(_dot(points[k], 2 * stroke) for k in np.flatnonzero(seen))
    colour = _COLOURS[person % len(_COLOURS)]
    return (
        f'<g stroke="{colour}" fill="{colour}" stroke-width="{1.5 * stroke:.2f}">{lines}{dots}</g>'
    )


def _dot(point: NDArray[np.float32], radius: float) -> str:
    return f'<circle cx="{point[0]:.1f}" cy="{point[1]:.1f}" r="{radius:.2f}"/>'
