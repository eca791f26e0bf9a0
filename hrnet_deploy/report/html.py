"""The report as one HTML file that needs nothing else: no server, no network, no second file."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hrnet_deploy import __version__
from hrnet_deploy.report.plots import KIND_COLOURS, Plot
from hrnet_deploy.report.tables import (
    Table,
    errors_table,
    figures_table,
    keypoints_table,
    subset_title,
)

_HERE = Path(__file__).parent
_PLACE = re.compile(r"\{\{(\w+)\}\}")
_PLOT_TEXT = {
    "ap_ar": "AP and AR of every engine on every subset",
    "pck": "PCK: share of keypoints by distance from their labels",
    "oks": "Share of persons by similarity of pose and labels",
    "errors": "Shares of the kinds of errors",
}


def page(facts: dict[str, Any], plots: dict[str, Plot], persons: dict[str, Any]) -> str:
    """The page for ``report_facts``, ``draw_plots`` and ``failures``."""
    shown = [_plot(name, plot.svg) for name, plot in plots.items()]
    values = {
        "style": (_HERE / "page.css").read_text(encoding="utf-8"),
        "script": (_HERE / "page.js").read_text(encoding="utf-8"),
        "kind_colours": _kind_colours(),
        "summary": html.escape(_summary(facts)),
        "notes": "\n".join(f"<li>{html.escape(note)}</li>" for note in facts["notes"]),
        "figures": "\n".join(_figures(facts, subset) for subset in facts["subsets"]),
        "bars": shown[0],
        "curves": "\n".join(shown[1:3]),
        "error_plot": shown[3],
        "errors": _table(errors_table(facts), left=2),
        "keypoints": "\n".join(_keypoints(facts, cell) for cell in facts["cells"]),
        "persons": _json_for_script(persons),
        "version": html.escape(__version__),
    }
    template = (_HERE / "page.html").read_text(encoding="utf-8")
    # One pass: what was put in is never searched again.
    return _PLACE.sub(lambda found: values[found.group(1)], template)


def _summary(facts: dict[str, Any]) -> str:
    engines, subsets = ", ".join(facts["engines"]), ", ".join(facts["subsets"])
    return f"{engines} on {subsets}; boxes: {facts['boxes']}"


def _kind_colours() -> str:
    return " ".join(f"--{name.replace(' ', '-')}: {c};" for name, c in KIND_COLOURS.items())


def _figures(facts: dict[str, Any], subset: str) -> str:
    title = html.escape(subset_title(facts, subset))
    return f"<h3>{title}</h3>\n{_table(figures_table(facts, subset), left=1)}"


def _keypoints(facts: dict[str, Any], cell: dict[str, Any]) -> str:
    title = html.escape(f"{cell['engine']} on {cell['subset']}")
    table = _table(keypoints_table(facts, cell), left=1)
    return f"<details><summary>{title}</summary>\n{table}\n</details>"


def _table(table: Table, *, left: int) -> str:
    headings, rows = table
    head = "".join(f'<th scope="col">{html.escape(text)}</th>' for text in headings)
    body = "\n".join(f"<tr>{_row(row, left)}</tr>" for row in rows)
    opening = f'<div class="scroll"><table class="left{left}"><thead><tr>{head}</tr></thead>'
    return f"{opening}\n<tbody>\n{body}\n</tbody></table></div>"


def _row(texts: Sequence[str], left: int) -> str:
    heads = "".join(f'<th scope="row">{html.escape(text)}</th>' for text in texts[:left])
    return heads + "".join(f"<td>{html.escape(text)}</td>" for text in texts[left:])


def _plot(name: str, svg: bytes) -> str:
    # As a picture, not inline: the ids of several drawings would meet in one document.
    source = "data:image/svg+xml;base64," + base64.b64encode(svg).decode("ascii")
    text = html.escape(_PLOT_TEXT[name])
    return f'<figure class="plot"><img alt="{text}" src="{source}"></figure>'


def _json_for_script(value: Any) -> str:
    """JSON that no HTML parser takes for the end of its element."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c")
