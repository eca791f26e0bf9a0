"""What is derived from a run's raw times: the same for the table, the JSON and the plots."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from hrnet_deploy.benchmark.statistics import paired_ratio, summarise

KNEE_SHARE = 0.95
"""The knee is the smallest batch that reaches this share of the best throughput."""


def add_figures(run: dict[str, Any]) -> dict[str, Any]:
    """Put ``figures`` beside the raw seconds of every row that has any; returns ``run``."""
    rows = run["rows"]
    for row in rows:
        row["figures"] = _row_figures(row, rows[0], run["ceilings"]) if row["seconds"] else None
        row["knee"] = knee(row["sweep"])
    for entry in run["end_to_end"]["rows"].values():
        entry["figures"] = _end_to_end_figures(entry, run["end_to_end"]) if entry["seconds"] else {}
    return run


def _row_figures(
    row: dict[str, Any], first: dict[str, Any], ceilings: dict[str, Any]
) -> dict[str, Any]:
    """Milliseconds per person by percentile, persons per second, times faster, shares."""
    per_person_ms = [1e3 * seconds / row["batch"] for seconds in row["seconds"]]
    summary = summarise(per_person_ms)
    figures: dict[str, Any] = {
        "ms_per_person": dataclasses.asdict(summary),
        "persons_per_second": 1e3 / summary.median,
        "times_first": None,
        "gflops": None,
        "share_of_gemm": None,
        "share_of_copy": None,
    }
    if row is not first and first["seconds"]:
        both = list(zip(first["seconds"], row["seconds"], strict=False))
        slow = [seconds / first["batch"] for seconds, _ in both]
        fast = [seconds / row["batch"] for _, seconds in both]
        figures["times_first"] = dataclasses.asdict(paired_ratio(slow, fast))
    if row["cost"] is not None:
        figures["gflops"] = 1e3 * row["cost"]["gflop"] / summary.median
        amount = row["cost"]["gflop"] * 1e9 * row["batch"]
        figures["share_of_gemm"] = _share(amount, row, ceilings.get(f"gemm {row['precision']}"))
        moved = (row["cost"]["activation_mb"] * row["batch"] + row["cost"]["weight_mb"]) * 1e6
        figures["share_of_copy"] = _share(moved, row, ceilings.get("copy"))
    return figures


def _share(amount: float, row: dict[str, Any], ceiling: dict[str, Any] | None) -> float | None:
    """Rate of the row over the ceiling's rate of the same round, the median of all rounds.

    None on another device than the ceiling was measured on.
    """
    if ceiling is None or row["device"] != "cpu" or not ceiling["seconds"]:
        return None
    both = list(zip(row["seconds"], ceiling["seconds"], strict=False))
    return float(np.median([amount / own / (ceiling["amount"] / top) for own, top in both]))


def knee(sweep: dict[str, list[float]]) -> int | None:
    """The smallest batch whose throughput is close to the best; None without a sweep."""
    rates = {int(size): int(size) / float(np.median(s)) for size, s in sweep.items() if s}
    good = [size for size, rate in rates.items() if rate >= KNEE_SHARE * max(rates.values())]
    return min(good, default=None)


def _end_to_end_figures(entry: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    persons = whole["persons"]
    summary = summarise([1e3 * seconds / persons for seconds in entry["seconds"]])
    names = list(whole["rows"])
    first = whole["rows"][names[0]]
    times = None
    if entry is not first and first["seconds"]:
        both = list(zip(first["seconds"], entry["seconds"], strict=False))
        times = dataclasses.asdict(paired_ratio([a for a, _ in both], [b for _, b in both]))
    stages = {
        name: 1e3 * float(np.median(seconds)) / persons
        for name, seconds in entry["stages"].items()
        if seconds
    }
    return {
        "ms_per_person": dataclasses.asdict(summary),
        "persons_per_second": 1e3 / summary.median,
        "times_first": times,
        "stages_ms_per_person": stages,
    }
