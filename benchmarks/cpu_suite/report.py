"""The results of all sections in one file, as Markdown tables, and the plots beside them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cpu_suite.aims import aims_table
from cpu_suite.contenders import OFFICIAL
from cpu_suite.engines_alone import AS_IT_COMES
from cpu_suite.shares import ceiling_shares
from hrnet_deploy.benchmark.statistics import paired_ratio, summarise
from hrnet_deploy.benchmark.tables import PlainTable
from hrnet_deploy.files import write_json

PLOT_BYTES = 60_000
"""Larger plots are not copied to the results, which are committed."""

Rows = list[tuple[str, ...]]


def write_report(found: dict[str, Any], command: str, work: Path, folder: Path) -> list[Path]:
    """Merge what the sections found; the paths that were written."""
    folder.mkdir(parents=True, exist_ok=True)
    result, table = folder / "peers.json", folder / "peers.md"
    kept = _rounded(found)
    write_json(result, {"command_line": command, **kept})
    table.write_text(markdown(kept, command), encoding="utf-8")
    plots = [p for p in sorted((work / "plots").glob("*.png")) if p.stat().st_size < PLOT_BYTES]
    targets = [folder / f"peers-{plot.name}" for plot in plots]
    for plot, target in zip(plots, targets, strict=True):
        shutil.copyfile(plot, target)
    return [result, table, *targets]


def markdown(found: dict[str, Any], command: str) -> str:
    """One table for each section that was measured, under a line on the machine."""
    parts = [f"# Peers on the CPU\n\n`{command}`\n"]
    parts += [f"**{name}: {text}**\n" for name, one in found.items() for text in _doubts(one)]
    if "prepare" in found and "model" in found["prepare"]:
        parts.append(_subject(found["prepare"]))
    parts.append(aims_table(found).markdown())
    for name, tables in TABLES.items():
        section = found.get(name, {})
        if not section.get("failed") and not section.get("left_out") and section:
            parts.append(f"## {name.capitalize()}\n\n{_where(section)} {NOTES.get(name, '')}\n")
            parts += [table.markdown() for table in tables(section)]
    if "markdown" in found.get("command", {}):
        parts.append(f"## hrnet-deploy benchmark\n\n{found['command']['markdown']}")
    return "\n".join(parts)


def readme_table(found: dict[str, Any]) -> str:
    """The way from files with the effect of a busy core beside it; empty without the first."""
    files, busy = found.get("files", {}), found.get("busy", {})
    if "seconds" not in files:
        return ""
    rows: Rows = []
    for name, seconds in files["seconds"].items():
        median, low, high, _, times = _times(seconds, files["seconds"][OFFICIAL], files["persons"])
        slower = "-"
        if name in busy.get("busy_seconds", {}):
            ratio = paired_ratio(busy["busy_seconds"][name], busy["seconds"][name])
            slower = f"{ratio.value:.1f}"
        same = f"{files['same_keypoints'][name]:.0%}"
        rows.append((name, median, f"{low} to {high}", times, same, slower))
    columns = ("Way", "ms a person", "p5 to p95", "Times", "Same", "Busy core: slower by")
    title = f"{files['persons']} persons in {files['pictures']} pictures"
    return PlainTable(title, columns, tuple(rows)).markdown()


def _doubts(section: dict[str, Any]) -> list[str]:
    found = [section[key] for key in ("failed", "left_out") if key in section]
    return [*found, *section.get("warnings", [])]


def _subject(prepared: dict[str, Any]) -> str:
    return (
        f"{prepared['model']}, weights {prepared['weights']}, flip-test; int8: {prepared['int8']}; "
        f"pictures: {prepared['pictures']}, {prepared['persons']} persons in {prepared['count']}.\n"
    )


def _where(section: dict[str, Any]) -> str:
    machine, others = section["machine"], section["disturbance"]["others_cores"]
    return (
        f"{machine['cpu']}, {machine['threads']} threads, commit {machine['commit']}, "
        f"others took {others or 0:.2f} cores, {section['time']}."
    )


def _files(section: dict[str, Any]) -> list[PlainTable]:
    rows = [
        (name, *_times(seconds, section["seconds"][OFFICIAL], section["persons"]),
         f"{section['same_keypoints'][name]:.1%}")
        for name, seconds in section["seconds"].items()
    ]  # fmt: skip
    title = (
        f"From files to keypoints, {section['persons']} persons in {section['pictures']} pictures"
    )
    return [PlainTable(title, (*COLUMNS, "times official", "same keypoints"), tuple(rows))]


def _engines(section: dict[str, Any]) -> list[PlainTable]:
    batch, flop = section["batch"], section["gflop"] * 1e9 * section["batch"]
    rows: Rows = []
    for name, seconds in section["seconds"].items():
        shares = ["-" if s is None else f"{s:.0%}" for s in ceiling_shares(section, name)]
        cells = _times(seconds, section["seconds"][AS_IT_COMES], batch)
        rows.append((name, *cells, f"{flop / summarise(seconds).median / 1e9:.0f}", *shares))
    columns = (*COLUMNS, "times ONNX Runtime", "GFLOP/s", "of the ceiling", "of its layers alone")
    tops: Rows = []
    for name, entry in section["ceilings"].items():
        summary = summarise(entry["seconds"])
        rate = f"{entry['amount'] / summary.median / 1e9:.0f}"
        tops.append((name, entry["library"], rate, f"{summary.spread:.0%}"))
    return [
        PlainTable(f"Engines alone, batch {batch}", columns, tuple(rows)),
        PlainTable("Ceilings, in the same rounds", ("", "by", "G/s", "spread"), tuple(tops)),
        _layer_table(section),
    ]


def _layer_table(section: dict[str, Any]) -> PlainTable:
    """Rates of the convolutions alone, a column for each precision."""
    rates: dict[str, dict[str, str]] = {}
    shares = {one["layers"]: one["flop"] / section["gflop"] / 1e9 for one in section["layers"]}
    for one in section["layers"]:
        rate = one["amount"] / summarise(one["seconds"]).median / 1e9
        rates.setdefault(one["layers"], {})[one["precision"]] = f"{rate:.0f}"
    precisions = sorted({one["precision"] for one in section["layers"]})
    rows = tuple(
        (name, f"{shares[name]:.0%}", *(by.get(precision, "-") for precision in precisions))
        for name, by in rates.items()
    )
    columns = ("", "of the work", *(f"{precision} G/s" for precision in precisions))
    return PlainTable("Its convolutions alone, in the same rounds", columns, rows)


def _busy(section: dict[str, Any]) -> list[PlainTable]:
    rows: Rows = []
    for name, quiet in section["seconds"].items():
        busy = section["busy_seconds"][name]
        ratio = paired_ratio(busy, quiet)
        worst = max(b / q for b, q in zip(busy, quiet, strict=True))
        per_person = (1e3 * float(np.median(s)) / section["persons"] for s in (quiet, busy))
        rows.append(
            (name, *(f"{ms:.1f}" for ms in per_person), f"{ratio.value:.2f}", f"{worst:.2f}")
        )
    columns = ("", "quiet ms/person", "busy ms/person", "times slower", "worst round")
    return [PlainTable("One core kept busy by another process", columns, tuple(rows))]


def _host(section: dict[str, Any]) -> list[PlainTable]:
    titles = {
        "whole": "The host's part from files to keypoints, networks that cost nothing",
        "pre_processing": "Decoded pictures to what the network takes",
    }
    columns = ("processor time", *COLUMNS[1:], "times hrnet-deploy", "wall ms/person")
    tables = []
    for one in (section[key] for key in ("several", "many") if key in section):
        where = f"{one['persons']} persons in {one['pictures']} pictures"
        for name, title in titles.items():
            rows = tuple(_host_rows(one[name], one["persons"]))
            tables.append(PlainTable(f"{title}, {where}", columns, rows))
    return tables


def _host_rows(measured: dict[str, Any], persons: int) -> Iterator[tuple[str, ...]]:
    cpu = measured["cpu_seconds"]
    for way, seconds in cpu.items():
        wall = 1e3 * float(np.median(measured["seconds"][way])) / persons
        cells = _times(seconds, cpu["hrnet-deploy"], persons, slower=True)
        yield (way, *cells, f"{wall:.3f}")


def _memory(section: dict[str, Any]) -> list[PlainTable]:
    rows = tuple(
        (name, "-" if peak is None else f"{peak:.0f}") for name, peak in section["peak_mb"].items()
    )
    crowds = section["crowds"]["peak_mb"].items()
    height, width = section["crowds"]["picture_hw"]
    return [
        PlainTable(f"Peak memory at batch {section['batch']}", ("", "MB"), rows),
        PlainTable(
            f"Peak memory of the host, one picture of {width}x{height}, no network",
            ("boxes", "MB"),
            tuple((boxes, f"{peak:.0f}") for boxes, peak in crowds),
        ),
    ]


NOTES = {
    "files": (
        "With weights from a seed heatmaps are flat: bf16 and int8 choose other peaks, "
        "and one pass has little in common with an average of two, so that the share of same "
        "keypoints says something about float32 with exact flip-test only."
    ),
    "engines": (
        "The ceiling is the fastest matrix product or 3x3 convolution of 256 channels that any "
        "library at hand reaches; no network of narrow layers does. The other share is of the time "
        "that the network's own convolutions take one by one, in chains of one shape, with nothing "
        "between them; strided and rare ones are taken at the ceiling."
    ),
    "host": (
        "Processor time: what the host takes from the network where all cores are busy. Ours reads "
        "and crops in threads of its own."
    ),
    "memory": "Each in a process of its own, Python and libraries included.",
}
COLUMNS = ("", "ms/person", "p5", "p95", "persons/s")
TABLES = {
    "files": _files,
    "engines": _engines,
    "busy": _busy,
    "host": _host,
    "memory": _memory,
}


def _times(
    seconds: list[float], first: list[float], persons: int, *, slower: bool = False
) -> list[str]:
    """Cells for ``COLUMNS`` and the paired ratio to ``first`` (``slower``: from it)."""
    summary = summarise([1e3 * value / persons for value in seconds])
    digits = 3 if summary.median < 10 else 1
    cells = [f"{value:.{digits}f}" for value in (summary.median, summary.p5, summary.p95)]
    cells.append(f"{1e3 / summary.median:.2f}")
    if seconds is first:
        return [*cells, "1"]
    ratio = paired_ratio(seconds, first) if slower else paired_ratio(first, seconds)
    return [*cells, f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"]


def _rounded(value: Any) -> Any:
    """To a tenth of a microsecond: more is noise."""
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return round(value, 7) if isinstance(value, float) else value
