"""The figures of a data set as pictures (PNG), drawn with matplotlib."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from hrnet_deploy.errors import require
from hrnet_deploy.files import write_bytes

PURPOSE = "dataset stats --plots"
_BLUE, _ORANGE, _GREY = "#0072b2", "#e69f00", "#bbbbbb"
"""Okabe and Ito's colours, which colour-blind readers tell apart."""
NAMES = ("sizes", "people", "facing", "aspect", "keypoints")


def require_matplotlib() -> None:
    """Say in one line that the extra is missing, before any work is done."""
    require("matplotlib", extra="report", purpose=PURPOSE)


def write_plots(facts: dict[str, Any], folder: Path) -> list[Path]:
    """Draw the plots of ``statistics`` into ``folder`` as NAME.png; the files, in order.

    The same figures and the same matplotlib give the same bytes.
    """
    figures = {
        "sizes": _bars(facts["sizes"], "Persons by size (area: 32² and 96² px)", "size"),
        "people": _bars(facts["people_per_image"], "Images by number of people", "people"),
        "facing": _bars(facts["facing"], "Persons by facing direction", "facing"),
        "aspect": _bars(facts["aspect"], "Persons by shape of the box", "width / height"),
        "keypoints": _keypoint_bars(facts["keypoints"]),
    }
    paths = []
    for name in NAMES:
        path = folder / f"{name}.png"
        buffer = io.BytesIO()
        # Without the version of the software the bytes depend on the figures alone.
        figures[name].savefig(buffer, format="png", dpi=120, metadata={"Software": None})
        write_bytes(path, buffer.getvalue())
        paths.append(path)
    return paths


def _figure(width: float, height: float) -> Any:
    """A figure with one axis, without pyplot: no window system, no global state."""
    module = require("matplotlib.figure", extra="report", purpose=PURPOSE)
    figure = module.Figure(figsize=(width, height), layout="constrained")
    axis = figure.add_subplot()
    axis.spines[["top", "right"]].set_visible(False)
    return figure, axis


def _bars(counts: dict[str, int], title: str, label: str) -> Any:
    figure, axis = _figure(7.0, 3.6)
    bars = axis.bar(list(counts), list(counts.values()), color=_BLUE)
    axis.bar_label(bars, padding=2)
    axis.set_title(title, loc="left")
    axis.set_xlabel(label)
    axis.set_ylabel("images" if label == "people" else "persons")
    axis.margins(y=0.12)
    axis.set_ylim(bottom=0, top=None if any(counts.values()) else 1)
    return figure


def _keypoint_bars(rows: list[dict[str, Any]]) -> Any:
    figure, axis = _figure(7.0, max(2.0, 0.8 + 0.26 * len(rows)))
    names = _unique([str(row["keypoint"]) for row in rows])
    left = [0] * len(rows)
    for key, color in (("visible", _BLUE), ("hidden", _ORANGE), ("not_labelled", _GREY)):
        values = [row[key] for row in rows]
        axis.barh(names, values, left=left, color=color, label=key.replace("_", " "))
        left = [a + b for a, b in zip(left, values, strict=True)]
    axis.invert_yaxis()
    axis.set_title("Keypoints", loc="left")
    axis.set_xlabel("persons")
    if rows:
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=3, frameon=False)
    return figure


def _unique(names: list[str]) -> list[str]:
    """Bars of one name would fall on each other: later ones get a number."""
    seen: dict[str, int] = {}
    result = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        result.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return result
