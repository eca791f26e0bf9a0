"""Plots of a run: throughput against batch, distribution of times, bars of the stages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hrnet_deploy.benchmark.end_to_end import STAGES
from hrnet_deploy.benchmark.statistics import summarise
from hrnet_deploy.errors import require
from hrnet_deploy.files import StagedFile

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Told apart by colour-blind eyes too (Okabe and Ito, 2008)."""

WIDE_RANGE = 10
"""Medians further apart than this are shown on a logarithmic axis."""

ROOM_FOR_TEXT = 1.25
"""The axis reaches so far beyond the longest bar, for what is written behind it."""

PLOTS = ("latency.png", "throughput.png", "stages.png")
_DPI = 100
_WIDTH_IN = 8.0


def write_plots(run: dict[str, Any], folder: Path) -> list[Path]:
    """Write PNG files for what was measured and return their paths."""
    require("matplotlib", extra="report", purpose="plots")
    folder.mkdir(parents=True, exist_ok=True)
    swept = any(row["sweep"] for row in run["rows"])
    staged = any(entry["stages"] for entry in run["end_to_end"]["rows"].values())
    drawings = zip(PLOTS, (_latency, _throughput, _stages), (True, swept, staged), strict=True)
    return [_write(folder / name, draw, run) for name, draw, wanted in drawings if wanted]


def _write(path: Path, draw: Any, run: dict[str, Any]) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height = 2.2 + 0.45 * len(run["rows"])
    figure = Figure(figsize=(_WIDTH_IN, max(3.6, height)), layout="constrained")
    FigureCanvasAgg(figure)
    draw(figure.subplots(), run)
    figure.suptitle(_footnote(run), fontsize=7, color="0.4")
    with StagedFile(path) as staged:
        figure.savefig(staged.path, dpi=_DPI, format="png", metadata={"Software": None})
        staged.commit()
    return path


def _footnote(run: dict[str, Any]) -> str:
    machine = run["machine"]
    text = f"{machine['cpu']}, {machine['threads']} threads, {run['time'][:10]}"
    return f"{text} - DISTURBED, see the warnings" if run["warnings"] else text


def _latency(axes: Axes, run: dict[str, Any]) -> None:
    """Every round as a dot, the median as a line, a box for the middle half."""
    rows = [row for row in run["rows"] if row["seconds"]]
    for place, row in enumerate(rows):
        times = [1e3 * seconds / row["batch"] for seconds in row["seconds"]]
        colour = COLOURS[place % len(COLOURS)]
        offsets = [place + 0.22 * ((i * 0.618) % 1 - 0.5) for i in range(len(times))]
        axes.plot(times, offsets, "o", color=colour, markersize=4, alpha=0.5, markeredgewidth=0)
        axes.boxplot(
            [times],
            positions=[place],
            orientation="horizontal",
            widths=0.5,
            whis=(5, 95),
            showfliers=False,
            medianprops={"color": "black", "linewidth": 1.5},
        )
        median = summarise(times).median
        label = f"{median:.1f}" if median >= 10 else f"{median:.2f}"
        axes.annotate(label, (median, place - 0.3), ha="left", va="bottom", fontsize=8)
    _names(axes, [row["name"] for row in rows])
    medians = [row["figures"]["ms_per_person"]["median"] for row in rows]
    if max(medians) > WIDE_RANGE * min(medians):
        axes.set_xscale("log")
    else:
        axes.set_xlim(left=0)
    axes.set_xlabel(f"ms per person ({len(rows[0]['seconds'])} rounds; box: 25-75 %)")
    axes.set_title("Time per person, engine alone")
    axes.grid(axis="x", alpha=0.3)


def _throughput(axes: Axes, run: dict[str, Any]) -> None:
    """Persons per second against batch, with the knee marked."""
    sizes: set[int] = set()
    for place, row in enumerate(run["rows"]):
        found = {int(size): size_seconds for size, size_seconds in row["sweep"].items()}
        if not found:
            continue
        sizes |= set(found)
        colour = COLOURS[place % len(COLOURS)]
        batches = sorted(found)
        summaries = {size: summarise(found[size]) for size in batches}
        axes.plot(
            batches,
            [size / summaries[size].median for size in batches],
            "o-",
            color=colour,
            label=row["name"],
        )
        axes.fill_between(
            batches,
            [size / summaries[size].p95 for size in batches],
            [size / summaries[size].p5 for size in batches],
            color=colour,
            alpha=0.15,
            linewidth=0,
        )
        if row["knee"]:
            rate = row["knee"] / summaries[row["knee"]].median
            axes.plot(
                [row["knee"]], [rate], "s", color=colour, markersize=10, markerfacecolor="none"
            )
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted(sizes), [str(size) for size in sorted(sizes)])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("batch (persons); square: the smallest batch within 5 % of the best")
    axes.set_ylabel("persons per second")
    axes.set_title("Throughput against batch")
    axes.grid(alpha=0.3)
    _legend(axes, 2)


def _stages(axes: Axes, run: dict[str, Any]) -> None:
    """Stages side by side on one bar a row; a line where the overlapped way ends."""
    entries = {n: e for n, e in run["end_to_end"]["rows"].items() if e["stages"] and e["seconds"]}
    lengths = [
        _stage_bar(axes, place, entry["figures"]) for place, entry in enumerate(entries.values())
    ]
    axes.set_xlim(0, ROOM_FOR_TEXT * max(lengths))
    _names(axes, list(entries))
    axes.set_xlabel("ms per person")
    axes.set_title("From files to keypoints: stages one by one")
    axes.grid(axis="x", alpha=0.3)
    _legend(axes, len(STAGES) + 1)


def _stage_bar(axes: Axes, place: int, figures: dict[str, Any]) -> float:
    """The bar at ``place`` from the top; how far it or its line reaches, in ms per person."""
    stages, whole = figures["stages_ms_per_person"], figures["ms_per_person"]["median"]
    named = place == 0  # once in the legend
    left = 0.0
    for stage, colour in zip(STAGES, COLOURS, strict=False):
        label = stage if named else None
        axes.barh(place, stages[stage], left=left, height=0.5, color=colour, label=label)
        left += stages[stage]
    ends = [place - 0.35, place + 0.35]
    label = "overlapped, measured" if named else None
    axes.plot([whole, whole], ends, color="black", linewidth=2, label=label)
    host, length = left - stages["engine"], float(max(left, whole))
    text = f"host {host:.2f} ms, {host / left:.1%}"
    axes.annotate(
        text, (length, place), (6, 0), textcoords="offset points", va="center", fontsize=8
    )
    return length


def _legend(axes: Axes, columns: int) -> None:
    """Below the plot, where no line runs through it."""
    figure = axes.figure
    figure.legend(fontsize=8, ncols=columns, loc="outside lower center", frameon=False)


def _names(axes: Axes, names: Sequence[str]) -> None:
    axes.set_axisbelow(True)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_ylim(len(names) - 0.4, -0.6)
