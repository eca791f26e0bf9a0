"""Tables of a run or a comparison, for the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hrnet_deploy.benchmark.compare import Change

_NONE = "-"


@dataclass(frozen=True)
class PlainTable:
    """A title, column names (the first is text, the rest figures) and rows of cells."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """A GitHub table under its title in bold."""
        lines = [
            "| " + " | ".join(self.columns) + " |",
            "| --- |" + " ---: |" * (len(self.columns) - 1),
        ]
        cells = [[cell.replace("|", "\\|") for cell in row] for row in self.rows]
        lines += ["| " + " | ".join(row) + " |" for row in cells]
        return f"**{self.title}**\n\n" + "\n".join(lines) + "\n"


def run_tables(run: dict[str, Any]) -> list[PlainTable]:
    """Engines alone, the batch sweep, the way from files, and the ceilings."""
    tables = _engines(run)
    if any(row["sweep"] for row in run["rows"]):
        tables.append(_sweep(run))
    if any(entry["seconds"] for entry in run["end_to_end"]["rows"].values()):
        tables.append(_whole(run))
        tables.append(_stages(run))
    if run["ceilings"]:
        tables.append(_ceilings(run))
    return tables


def header(run: dict[str, Any]) -> str:
    """The machine in one line."""
    machine = run["machine"]
    disturbance = run["disturbance"]
    others = disturbance["others_cores"]
    parts = [
        f"{machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads",
        ", ".join(machine["instructions"]),
        f"commit {machine['commit']}" if machine["commit"] else "",
        "" if others is None else f"others took {others:.2f} cores",
        _load(disturbance["load"]),
        _momentary(run),
        run["time"],
    ]
    return "; ".join(part for part in parts if part)


def _load(load: list[float] | None) -> str:
    return "" if load is None else f"load {load[0]:.2f} to {load[1]:.2f}"


def _momentary(run: dict[str, Any]) -> str:
    """Clocks, temperature and power after the rounds, as far as the system tells them."""
    after = run.get("after") or {}
    words = [
        _optional(after.get("cpu_mhz"), "{} MHz"),
        _optional(after.get("cpu_celsius"), "{:.0f} °C"),
    ]
    for gpu in after.get("gpus", []):
        fields = ("name", "clocks.sm", "temperature.gpu", "power.draw")
        words.append(" ".join(gpu[field] for field in fields if field in gpu))
    return ", ".join(word for word in words if word != _NONE)


def comparison_tables(changes: Sequence[Change]) -> list[PlainTable]:
    """One line for each row that both runs have: what changed, and on what grounds."""
    verdicts, grounds = [], []
    for change in changes:
        time, relative = change.time, change.against_machine
        verdicts.append(
            (change.name, f"{change.first_ms:.2f}", f"{change.second_ms:.2f}", change.verdict)
        )
        against = (
            _NONE if relative is None else _interval(relative.value, relative.low, relative.high)
        )
        interval = _interval(time.value, time.low, time.high)
        grounds.append((change.name, interval, against, f"{change.p_value:.2g}"))
    return [
        PlainTable(
            "Second run against the first, ms per person",
            ("", "first", "second", "verdict"),
            tuple(verdicts),
        ),
        PlainTable(
            "Ratio of the times, as measured and relative to the machine's own speed",
            ("", "time ratio", "against machine", "p"),
            tuple(grounds),
        ),
    ]


def _engines(run: dict[str, Any]) -> list[PlainTable]:
    """Times and rates, apart: together they do not fit into a terminal."""
    times, rates = [], []
    for row in run["rows"]:
        figures, memory = row["figures"], _optional(row["peak_mb"], "{:.0f}")
        if figures is None:
            times.append((row["name"], *[_NONE] * 5))
            rates.append((row["name"], *[_NONE] * 3, memory))
            continue
        ms = figures["ms_per_person"]
        cells = (f"{ms[name]:.2f}" for name in ("median", "p5", "p95", "p99"))
        times.append((row["name"], *cells, f"{ms['spread']:.0%}"))
        share = _optional(figures["share_of_gemm"], "{:.0%}")
        if row["cost"] is None and run["ceilings"]:
            share = "unknown"
        rate = f"{figures['persons_per_second']:.2f}"
        rates.append((row["name"], rate, _times(figures["times_first"]), share, memory))
    batches = ", ".join(map(str, sorted({row["batch"] for row in run["rows"]})))
    return [
        PlainTable(
            f"Engines alone: batch {batches}, {_rounds(run)} rounds",
            ("", "ms/person", "p5", "p95", "p99", "spread"),
            tuple(times),
        ),
        PlainTable(
            f"Rates, and times faster than {run['rows'][0]['name']}",
            ("", "persons/s", "times", "of ceiling", "peak MB"),
            tuple(rates),
        ),
    ]


def _rounds(run: dict[str, Any]) -> int:
    """Rounds that were finished."""
    return max((len(row["seconds"]) for row in run["rows"]), default=0)


def _sweep(run: dict[str, Any]) -> PlainTable:
    from hrnet_deploy.benchmark.statistics import summarise

    sizes = sorted({int(size) for row in run["rows"] for size in row["sweep"]})
    rows = []
    for row in run["rows"]:
        cells = [
            f"{size / summarise(row['sweep'][str(size)]).median:.2f}"
            if str(size) in row["sweep"]
            else _NONE
            for size in sizes
        ]
        rows.append((row["name"], *cells, str(row["knee"] or _NONE)))
    columns = ("batch", *map(str, sizes), "knee")
    return PlainTable("Persons per second by batch", columns, tuple(rows))


def _whole(run: dict[str, Any]) -> PlainTable:
    whole = run["end_to_end"]
    rows = []
    for name, entry in whole["rows"].items():
        if not entry["seconds"]:
            continue
        figures = entry["figures"]
        ms = figures["ms_per_person"]
        rows.append(
            (
                name,
                *(f"{ms[key]:.2f}" for key in ("median", "p5", "p95")),
                f"{figures['persons_per_second']:.2f}",
                _times(figures["times_first"]),
            )
        )
    title = f"From files to keypoints, {whole['persons']} persons in {whole['pictures']} pictures"
    columns = ("", "ms/person", "p5", "p95", "persons/s", "times")
    return PlainTable(title, columns, tuple(rows))


def _stages(run: dict[str, Any]) -> PlainTable:
    entries = {
        name: entry["figures"]["stages_ms_per_person"]
        for name, entry in run["end_to_end"]["rows"].items()
        if entry["seconds"]
    }
    names: dict[str, float] = next(iter(entries.values()), {})
    rows = tuple(
        (name, *(f"{stages[stage]:.3f}" for stage in names), f"{sum(stages.values()):.2f}")
        for name, stages in entries.items()
        if stages
    )
    return PlainTable("Stages one by one, ms per person", ("", *names, "sum"), rows)


def _ceilings(run: dict[str, Any]) -> PlainTable:
    rows = []
    for name, entry in run["ceilings"].items():
        if entry["rate"]:
            unit = "GB/s" if name == "copy" else "GFLOP/s"
            rows.append((f"{name} ({entry['library']})", f"{entry['rate'] / 1e9:.1f} {unit}"))
    return PlainTable("What the machine can do, measured in the same rounds", ("", ""), tuple(rows))


def _times(ratio: dict[str, float] | None) -> str:
    return _NONE if ratio is None else _interval(ratio["value"], ratio["low"], ratio["high"])


def _interval(value: float, low: float, high: float) -> str:
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def _optional(value: float | None, form: str) -> str:
    return _NONE if value is None else form.format(value)
