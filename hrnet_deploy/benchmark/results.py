"""Result files: runs of one machine, one after another; none is ever overwritten."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hrnet_deploy.engines.cpu import physical_cores
from hrnet_deploy.errors import InputError, Subject
from hrnet_deploy.files import check_output_file, read_json, write_json
from hrnet_deploy.values import is_number

SCHEMA_VERSION = 1
_FOLDER = Path("benchmarks/results")
_ELSEWHERE = Path("hrnet-deploy-benchmark.json")
_OTHER = "Give another file (-o)"
_ROW_FIELDS = ("name", "batch", "seconds", "sweep", "precision", "device", "cost")
_RUN_FIELDS = ("machine", "settings", "ceilings", "rows", "end_to_end", "warnings", "time")


def default_output(cpu: str) -> Path:
    """``benchmarks/results/<processor>.json`` in a checkout, else a file in this folder."""
    if not _FOLDER.is_dir():
        return _ELSEWHERE
    name = re.sub(r"[^a-z0-9]+", "-", cpu.lower()).strip("-")
    return _FOLDER / f"{name}-{physical_cores()}-cores.json"


def check_output(path: Path) -> None:
    """Refuse, before anything is measured, a file that cannot be appended to."""
    check_output_file(path, force=True)
    if path.exists() and path.stat().st_size:
        read_runs(path)


def append_run(path: Path, run: dict[str, Any]) -> int:
    """Add ``run`` behind the earlier ones of ``path``; returns how many there are now."""
    runs = read_runs(path) if path.exists() and path.stat().st_size else []
    write_json(path, {"schema": SCHEMA_VERSION, "runs": [*runs, run]})
    return len(runs) + 1


def read_runs(path: Subject) -> list[dict[str, Any]]:
    """All runs of a result file, the oldest first; InputError for any other file."""
    content = read_json(path, what="benchmark result")
    if not isinstance(content, dict) or content.get("schema") != SCHEMA_VERSION:
        raise InputError(path, "is not a benchmark result of this version", _OTHER)
    runs = content.get("runs")
    if not isinstance(runs, list) or not runs:
        raise InputError(path, "holds no runs", _OTHER)
    for index, run in enumerate(runs):
        if problem := _fault(run):
            raise InputError(path, f"run {index + 1} {problem}", _OTHER)
    return runs


def _fault(run: object) -> str | None:
    """What is wrong with one run of a file that may have been edited."""
    if not isinstance(run, dict):
        return "is not an object"
    for name in _RUN_FIELDS:
        if name not in run:
            return f"has no '{name}'"
    if not isinstance(run["rows"], list) or not isinstance(run["ceilings"], dict):
        return "has rows or ceilings of another type"
    for row in run["rows"]:
        if not isinstance(row, dict) or any(name not in row for name in _ROW_FIELDS):
            return "has a row without its fields"
    seconds = [row["seconds"] for row in run["rows"]]
    seconds += [e.get("seconds") for e in run["ceilings"].values() if isinstance(e, dict)]
    if not all(_are_times(values) for values in seconds):
        return "has seconds that are no positive numbers"
    return None


def _are_times(values: object) -> bool:
    return isinstance(values, list) and all(is_number(v) and v > 0 for v in values)
