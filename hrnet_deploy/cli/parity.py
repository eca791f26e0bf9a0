"""Tables of parity reports, for ``export``, ``verify``, ``adopt`` and ``demo``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from hrnet_deploy.export.parity import ParityReport

WORST_SHOWN = 5


def parity_table(reports: dict[str, ParityReport]) -> Table:
    """One column for each artefact: what was measured against PyTorch and whether it held."""
    from rich.table import Table

    table = Table(title="parity")
    table.add_column("")
    for name in reports:
        table.add_column(name, justify="right")
    rows = [_cells(report) for report in reports.values()]
    for label in rows[0]:
        table.add_row(label, *(row[label] for row in rows))
    return table


def _cells(report: ParityReport) -> dict[str, str]:
    px = report.keypoint_px
    return {
        "crops": str(report.crops),
        "heatmap error, max": _number(report.heatmap_max),
        "heatmap error, mean": _number(report.heatmap_mean),
        "relative to the peak": _number(report.heatmap_relative),
        "tolerance x max(1, peak)": f"{report.tolerance:g}",
        "arg-max equal where decisive": f"{report.argmax_equal} of {report.argmax_decisive}",
        "decisive keypoints": f"{report.argmax_decisive} of {report.argmax_total}",
        "keypoints identical": f"{100 * report.identical:.2f} %",
        "keypoint error p50, px": f"{px.p50:.3g}",
        "keypoint error p95, px": f"{px.p95:.3g}",
        "keypoint error max, px": f"{px.max:.3g}",
        "OKS, mean": _number(report.oks_mean, digits=6),
        "OKS, min": _number(report.oks_min, digits=6),
        "worst": report.worst if px.max > 0 else "none, all equal",
        "gates": "passed" if report.passed else "; ".join(report.failures),
    }


def per_keypoint_table(report: ParityReport) -> Table:
    """The keypoints with the largest errors, in input pixels."""
    from rich.table import Table

    table = Table(title=f"worst {WORST_SHOWN} keypoints, input px")
    for column in ("keypoint", "p50", "p95", "max"):
        table.add_column(column, justify="left" if column == "keypoint" else "right")
    ranked = sorted(report.per_keypoint_px.items(), key=lambda item: -item[1].max)
    for name, errors in ranked[:WORST_SHOWN]:
        table.add_row(name, *(f"{value:.3g}" for value in (errors.p50, errors.p95, errors.max)))
    return table


def _number(value: float | None, digits: int = 3) -> str:
    return "n/a" if value is None else f"{value:.{digits}g}"
