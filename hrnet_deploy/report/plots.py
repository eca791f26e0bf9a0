"""The figures as pictures, drawn with matplotlib (extra ``report``), which is imported late."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hrnet_deploy.errors import require
from hrnet_deploy.report.errors import KINDS
from hrnet_deploy.report.tables import NOT_AVAILABLE, cells_of

PURPOSE = "eval --report"
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#6b6b6b")
"""Okabe and Ito's colours, which colour-blind readers tell apart; repeated from the start."""

KIND_COLOURS = {
    "good": "#c9d6df",
    "jitter": "#f0c75e",
    "inversion": "#7b5ea7",
    "swap": "#2a9d8f",
    "miss": "#d1495b",
    "not found": "#3b3b3b",
}
PNG_DPI = 150
PANELS_PER_ROW = 4
NAMES = ("ap_ar", "pck", "oks", "errors")


def require_matplotlib() -> None:
    """Say in one line that the extra is missing, before any work is done."""
    require("matplotlib.figure", extra="report", purpose=PURPOSE)


@contextlib.contextmanager
def _style() -> Iterator[None]:
    """Settings of ours whatever the user's are: equal facts give equal bytes."""
    matplotlib = require("matplotlib", extra="report", purpose=PURPOSE)
    ours = {"svg.hashsalt": "hrnet-deploy", "axes.spines.top": False, "axes.spines.right": False}
    ours |= {"axes.titlelocation": "left", "axes.titlesize": "medium", "grid.color": "#e4e4e4"}
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(ours)
        yield


@dataclass(frozen=True)
class Plot:
    """One drawing as the bytes of a PNG and of an SVG file."""

    png: bytes
    svg: bytes


def draw_plots(facts: dict[str, Any]) -> dict[str, Plot]:
    """The plots of ``NAMES``."""
    with _style():
        figures = {
            "ap_ar": _bars(facts),
            "pck": _curves(facts, "pck", "distance, share of the box", "keypoints within it"),
            "oks": _curves(facts, "oks", "OKS", "persons at least that similar"),
            "errors": _errors(facts),
        }
        return {name: _drawn(figures[name]) for name in NAMES}


def _drawn(figure: Any) -> Plot:
    png, svg = io.BytesIO(), io.BytesIO()
    # Without date and version the bytes depend on the figures alone.
    figure.savefig(png, format="png", dpi=PNG_DPI, metadata={"Software": None})
    # The places of everything were found for the PNG.
    figure.set_layout_engine("none")
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    return Plot(png.getvalue(), svg.getvalue())


def _figure(width: float, height: float) -> Any:
    """A figure without pyplot: no window system, no global state."""
    module = require("matplotlib.figure", extra="report", purpose=PURPOSE)
    return module.Figure(figsize=(width, height), layout="constrained")


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _bars(facts: dict[str, Any]) -> Any:
    """AP and AR by subset, one bar for each engine, with intervals."""
    engines, subsets = facts["engines"], facts["subsets"]
    bars = len(engines) * len(subsets)
    figure = _figure(min(16.0, max(6.4, 2.2 + 0.42 * bars + 0.3 * len(subsets))), 6.0)
    for axis, stat in zip(figure.subplots(2, 1, sharex=True), ("AP", "AR"), strict=True):
        for number, engine in enumerate(engines):
            cells = [c for s in subsets for c in cells_of(facts, s) if c["engine"] == engine]
            width = 0.8 / len(engines)
            places = [s + width * (number - (len(engines) - 1) / 2) for s in range(len(cells))]
            _bar_group(axis, places, width, cells, stat, engine, _colour(number))
        axis.set_ylim(0, 1.12)
        axis.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
        axis.set_ylabel(stat)
        axis.grid(axis="y")
        axis.set_axisbelow(True)
    axis.set_xticks(range(len(subsets)), subsets)
    percent = f"{facts['bootstrap']['level']:.0%}"
    figure.suptitle(f"AP and AR with {percent} intervals", x=0.01, ha="left", fontsize="medium")
    handles, labels = axis.get_legend_handles_labels()
    columns = min(len(engines), 4)
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
    return figure


def _bar_group(
    axis: Any,
    places: list[float],
    width: float,
    cells: list[dict[str, Any]],
    stat: str,
    label: str,
    colour: str,
) -> None:
    values = [cell[stat] or 0.0 for cell in cells]
    axis.bar(places, values, width * 0.92, label=label, color=colour)
    for place, cell in zip(places, cells, strict=True):
        value, interval = cell[stat], cell["intervals"][stat]
        top = value or 0.0
        if value is not None and interval is not None:
            below, above = max(0.0, value - interval[0]), max(0.0, interval[1] - value)
            axis.errorbar(place, value, [[below], [above]], color="#222222", lw=1, capsize=3)
            top = value + above
        text = NOT_AVAILABLE if value is None else f"{value:.2f}"
        axis.annotate(
            text, (place, top), (0, 2), textcoords="offset points", ha="center", fontsize=7.5
        )


def _curves(facts: dict[str, Any], name: str, x_label: str, y_label: str) -> Any:
    """One panel for each subset, one line for each engine."""
    subsets, steps = facts["subsets"], facts["steps"][name]
    rows = math.ceil(len(subsets) / PANELS_PER_ROW)
    columns = math.ceil(len(subsets) / rows)
    figure = _figure(max(5.6, 3.3 * columns), 3.2 * rows + 0.5)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for panel in panels[len(subsets) :]:
        panel.set_axis_off()
    for panel, subset in zip(panels, subsets, strict=False):
        for cell in cells_of(facts, subset):
            number = facts["engines"].index(cell["engine"])
            style = ("-", "--", ":", "-.")[number % 4]
            values = [math.nan if value is None else value for value in cell[name]]
            panel.plot(steps, values, style, color=_colour(number), lw=1.8, label=cell["engine"])
        panel.set_title(f"{name.upper()}: {subset}")
        panel.set_xlabel(x_label)
        panel.xaxis.set_tick_params(labelbottom=True)
        panel.set_ylim(0, 1.02)
        panel.set_xlim(steps[0], steps[-1])
        panel.grid()
    for panel in panels[::columns]:
        panel.set_ylabel(y_label)
    handles, labels = panels[0].get_legend_handles_labels()
    count = min(len(labels), 4)
    figure.legend(handles, labels, loc="outside lower center", ncols=count, frameon=False)
    return figure


def _errors(facts: dict[str, Any]) -> Any:
    """Shares of the error kinds, one bar for each engine on each subset."""
    cells = facts["cells"]
    figure = _figure(8.0, 1.3 + 0.34 * len(cells))
    axis = figure.add_subplot()
    left = [0.0] * len(cells)
    for name in KINDS:
        values = [100 * (cell["errors"][name] or 0.0) for cell in cells]
        axis.barh(range(len(cells)), values, 0.72, left, label=name, color=KIND_COLOURS[name])
        left = [start + value for start, value in zip(left, values, strict=True)]
    axis.set_yticks(range(len(cells)), [f"{c['subset']}: {c['engine']}" for c in cells])
    axis.invert_yaxis()
    axis.set_xlim(0, 100)
    axis.set_xlabel("per cent of the labelled keypoints")
    axis.set_title("What the errors are")
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(KINDS), frameon=False)
    return figure
