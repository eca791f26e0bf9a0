"""The figures as tables: Markdown for people, CSV for programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from hrnet_deploy.evaluation.metric import STATS
from hrnet_deploy.report.curves import PCK_TABLE
from hrnet_deploy.report.errors import KINDS

NOT_AVAILABLE = "n/a"
COLUMNS = ("AP", "AP50", "AP75", "APm", "APl", "AR")
WITH_INTERVAL = ("AP", "AR")
DIFFERENCE = "AP - first"

Table = tuple[list[str], list[list[str]]]
"""Headings, and rows of as many cells."""


def number(value: float | None, digits: int = 3) -> str:
    """A figure as text; n/a where it is undefined, never COCO's -1 (or -100 %)."""
    return NOT_AVAILABLE if value is None else f"{value:.{digits}f}"


def percent(value: float | None) -> str:
    """A share as per cent with one digit."""
    return NOT_AVAILABLE if value is None else f"{100 * value:.1f} %"


def with_interval(value: float | None, interval: Sequence[float] | None) -> str:
    """A figure with its interval in brackets."""
    if value is None or interval is None:
        return number(value)
    return f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"


def cells_of(facts: dict[str, Any], subset: str) -> list[dict[str, Any]]:
    """The cells of one subset, engine by engine."""
    return [cell for cell in facts["cells"] if cell["subset"] == subset]


def subset_title(facts: dict[str, Any], subset: str) -> str:
    """A subset with how much is in it."""
    cells = cells_of(facts, subset)
    images, persons = (max(cell[key] for cell in cells) for key in ("images", "persons"))
    return f"{subset} ({images} images, {persons} persons)"


def figures_table(facts: dict[str, Any], subset: str) -> Table:
    """AP and AR of every engine on one subset."""
    compared = len(facts["engines"]) > 1
    headings = ["Engine", *COLUMNS, *([DIFFERENCE] if compared else [])]
    rows = []
    for cell in cells_of(facts, subset):
        texts = [
            with_interval(cell[name], cell["intervals"][name])
            if name in WITH_INTERVAL
            else number(cell[name])
            for name in COLUMNS
        ]
        if compared:
            texts.append(_difference(cell, facts["engines"][0]))
        rows.append([cell["engine"], *texts])
    return headings, rows


def _difference(cell: dict[str, Any], first: str) -> str:
    """A difference with its sign; nothing for the engine that the others are compared with."""
    found = cell["AP_minus_first"]
    if cell["engine"] == first:
        return ""
    if found is None:
        return NOT_AVAILABLE
    ends = found["interval"]
    interval = "" if ends is None else f" [{ends[0]:+.3f}, {ends[1]:+.3f}]"
    return f"{found['value']:+.3f}{interval}"


def errors_table(facts: dict[str, Any]) -> Table:
    """Error kinds and PCK of every engine on every subset."""
    steps = facts["steps"]["pck"]
    headings = ["Subset", "Engine", *KINDS, *(f"PCK@{step:g}" for step in PCK_TABLE)]
    headings += ["poses of nobody"]
    rows = []
    for cell in facts["cells"]:
        kinds = [_kind(facts, cell["errors"], name) for name in KINDS]
        pck = [percent(cell["pck"][steps.index(step)]) for step in PCK_TABLE]
        nobody = str(cell["poses_of_nobody"])
        rows.append([cell["subset"], cell["engine"], *kinds, *pck, nobody])
    return headings, rows


def keypoints_table(facts: dict[str, Any], cell: dict[str, Any]) -> Table:
    """Error of every keypoint in one cell."""
    headings = ["Keypoint", "labelled", "median px", "p95 px", "mean of box", "PCK@0.1", *KINDS]
    rows = []
    for row in cell["keypoints"]:
        measured = [number(row["error_px_median"], 1), number(row["error_px_p95"], 1)]
        measured += [percent(row["error_of_box_mean"]), percent(row["PCK@0.1"])]
        kinds = [_kind(facts, row, name) for name in KINDS]
        rows.append([row["keypoint"], str(row["labelled"]), *measured, *kinds])
    return headings, rows


def _kind(facts: dict[str, Any], shares: dict[str, Any], name: str) -> str:
    known = name != "inversion" or facts["inversions_known"]
    return percent(shares[name] if known else None)


def markdown(facts: dict[str, Any]) -> str:
    """The whole report as Markdown: figures by subset, errors, notes."""
    parts = ["# Evaluation report", f"Person boxes: {facts['boxes']}."]
    for subset in facts["subsets"]:
        parts += [f"## {_plain(subset_title(facts, subset))}"]
        parts += [_markdown_table(figures_table(facts, subset), left=1)]
    parts += ["## What the errors are", _markdown_table(errors_table(facts), left=2)]
    parts += [
        "Shares of the labelled keypoints; kinds by Ronchi & Perona 2017. PCK@a: within a times"
        " the longer side of the person's box.",
        "## Notes",
        "\n".join(f"- {_plain(note)}" for note in facts["notes"]),
    ]
    return "\n\n".join(parts) + "\n"


def _markdown_table(table: Table, *, left: int) -> str:
    headings, rows = table
    rule = ["---"] * left + ["---:"] * (len(headings) - left)
    return "\n".join(
        "| " + " | ".join(map(_plain, cells)) + " |" for cells in [headings, rule, *rows]
    )


def _plain(text: str) -> str:
    """Text that no Markdown reader takes for the end of a cell or for markup."""
    for mark in ("\\", "|", "<", "`"):
        text = text.replace(mark, f"\\{mark}")
    return text


def figures_csv(facts: dict[str, Any]) -> str:
    """One line for each engine and subset: the ten figures with their intervals, PCK, errors."""
    ends = [column for name in STATS for column in (name, f"{name}_low", f"{name}_high")]
    counts = ["images", "persons", "persons_not_found", "poses_of_nobody"]
    steps = facts["steps"]["pck"]
    pck = [f"PCK@{step:g}" for step in PCK_TABLE]
    against = ["AP_minus_first", "AP_minus_first_low", "AP_minus_first_high"]
    headings = ["subset", "engine", "label", *counts, *ends, *against, *pck, *KINDS]
    lines: list[Sequence[Any]] = [headings]
    for cell in facts["cells"]:
        line = [cell["subset"], cell["engine"], cell["label"], *(cell[name] for name in counts)]
        for name in STATS:
            line += [cell[name], *(cell["intervals"][name] or (None, None))]
        difference = cell["AP_minus_first"] or {"value": None, "interval": None}
        line += [difference["value"], *(difference["interval"] or (None, None))]
        line += [cell["pck"][steps.index(step)] for step in PCK_TABLE]
        line += _kinds_for_csv(facts, cell["errors"])
        lines.append(line)
    return _csv(lines)


def keypoints_csv(facts: dict[str, Any]) -> str:
    """One line for each keypoint of each engine on each subset."""
    columns = ["labelled", "error_px_median", "error_px_p95", "error_of_box_mean", "PCK@0.1"]
    lines: list[Sequence[Any]] = [["subset", "engine", "keypoint", *columns, *KINDS]]
    for cell in facts["cells"]:
        for row in cell["keypoints"]:
            line = [cell["subset"], cell["engine"], row["keypoint"]]
            line += [row[name] for name in columns]
            lines.append([*line, *_kinds_for_csv(facts, row)])
    return _csv(lines)


def _kinds_for_csv(facts: dict[str, Any], shares: dict[str, Any]) -> list[float | None]:
    hidden = () if facts["inversions_known"] else ("inversion",)
    return [None if name in hidden else shares[name] for name in KINDS]


def _csv(lines: Iterable[Sequence[Any]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    for line in lines:
        writer.writerow(map(_csv_cell, line))
    return stream.getvalue()


def _csv_cell(value: Any) -> Any:
    if value is None:
        return NOT_AVAILABLE
    return f"{value:.6f}" if isinstance(value, float) else value
