"""The files of a report, in one folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hrnet_deploy.errors import InputError
from hrnet_deploy.files import check_output_file, json_text, read_json, write_bytes
from hrnet_deploy.report.cells import Cell, analyse
from hrnet_deploy.report.facts import KIND, report_facts
from hrnet_deploy.report.failures import failures
from hrnet_deploy.report.html import page
from hrnet_deploy.report.plots import NAMES, draw_plots
from hrnet_deploy.report.tables import figures_csv, keypoints_csv, markdown

FACTS = "report.json"
FILES = (
    "report.html",
    "report.md",
    "figures.csv",
    "keypoints.csv",
    *(f"{name}.png" for name in NAMES),
    FACTS,
)


def check_folder(folder: Path) -> None:
    """Refuse a folder whose files would be replaced and are not those of an earlier report."""
    if folder.exists() and not folder.is_dir():
        raise InputError(folder, "is a file", "Give the folder for the report")
    there = [name for name in FILES if (folder / name).exists()]
    if there and not _is_report(folder / FACTS):
        problem = f"exists in {folder}, which holds no report"
        raise InputError(there[0], problem, "Pass another folder to --report")
    for name in FILES:
        check_output_file(folder / name, force=True)


def _is_report(path: Path) -> bool:
    try:
        content = read_json(path)
    except InputError:
        return False
    return isinstance(content, dict) and content.get("kind") == KIND


def write_report(
    cells: Sequence[Cell],
    folder: Path,
    *,
    resamples: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Analyse the cells, write ``FILES`` into ``folder``, and return the facts of the report."""
    analyses = []
    for number, cell in enumerate(cells):
        if progress:
            progress(number, len(cells))
        analyses.append(analyse(cell, resamples=resamples, seed=seed))
    facts = report_facts(analyses, resamples=resamples, seed=seed)
    plots = draw_plots(facts)
    text = page(facts, plots, failures(analyses))
    write_bytes(folder / "report.html", text.encode())
    write_bytes(folder / "report.md", markdown(facts).encode())
    write_bytes(folder / "figures.csv", figures_csv(facts).encode())
    write_bytes(folder / "keypoints.csv", keypoints_csv(facts).encode())
    for name, plot in plots.items():
        write_bytes(folder / f"{name}.png", plot.png)
    # Last: where it lies, the report is complete.
    write_bytes(folder / FACTS, json_text(facts).encode())
    return facts
