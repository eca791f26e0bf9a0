"""Everything that a report says, as plain values: what tables, plots and page are made from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hrnet_deploy.report.bootstrap import LEVEL
from hrnet_deploy.report.cells import Analysis, ap_difference
from hrnet_deploy.report.curves import OKS_STEPS, PCK_STEPS
from hrnet_deploy.runtime.flip_choice import second_passes_text

KIND = "hrnet-deploy report"
SCHEMA = 1
FEW_IMAGES = 30
"""Below about this many pictures a percentile interval is narrower than it should be."""


def report_facts(analyses: Sequence[Analysis], *, resamples: int, seed: int) -> dict[str, Any]:
    """The content of ``report.json``, subset by subset; the same results give the same facts."""
    first = {a.cell.subset: a for a in reversed(analyses)}
    cells = [
        {**a.as_json(), "AP_minus_first": _difference(a, first[a.cell.subset])} for a in analyses
    ]
    subsets = list(dict.fromkeys(cell["subset"] for cell in cells))
    cells.sort(key=lambda cell: subsets.index(cell["subset"]))
    facts = {
        "kind": KIND,
        "schema": SCHEMA,
        "engines": list(dict.fromkeys(cell["engine"] for cell in cells)),
        "subsets": subsets,
        "boxes": analyses[0].cell.facts["fingerprint"]["data"]["boxes"],
        "bootstrap": {"resamples": resamples, "seed": seed, "level": LEVEL},
        "steps": {"pck": list(PCK_STEPS), "oks": list(OKS_STEPS)},
        "cells": cells,
        "inversions_known": all(a.cell.spec.flip_pairs is not None for a in analyses),
    }
    return {**facts, "notes": _notes(facts) + _notes_of_cells(analyses)}


def _difference(analysis: Analysis, first: Analysis) -> dict[str, Any] | None:
    return None if analysis is first else ap_difference(analysis, first)


def _notes(facts: dict[str, Any]) -> list[str]:
    """What a reader has to know to read the figures rightly."""
    drawn, cells = facts["bootstrap"], facts["cells"]
    notes = [
        f"Brackets are {drawn['level']:.0%} intervals: percentiles over {drawn['resamples']}"
        f" resamples of the pictures with replacement (seed {drawn['seed']})."
    ]
    if (widest := _widest(cells)) is not None:
        notes.append(widest)
    if len(facts["engines"]) > 1:
        notes.append(
            f"AP - first, in the report's tables, is the difference to {facts['engines'][0]} on the"
            " same resamples; where its brackets hold 0, these pictures cannot tell the two apart."
        )
    few = [name for name in facts["subsets"] if 0 < _images(cells, name) < FEW_IMAGES]
    if few:
        notes.append(
            f"Fewer than {FEW_IMAGES} pictures ({', '.join(few)}): the intervals are themselves"
            " too narrow there."
        )
    if any(cell[name] is None for cell in cells for name in ("AP", "APm", "APl")):
        notes.append(
            "n/a: the subset has no labelled person of that kind (APm: 32² to 96² square pixels,"
            " APl: above)."
        )
    if facts["boxes"] != "ground truth" and len(facts["subsets"]) > 1:
        notes.append(
            "Detector's boxes: a person who is on a picture of a subset but not in its annotations"
            " counts as a wrong detection, unless it is marked as a crowd there."
        )
    return notes


def _notes_of_cells(analyses: Sequence[Analysis]) -> list[str]:
    """What the evaluations themselves said."""
    named = [(f"{a.cell.engine} on {a.cell.subset}", a.cell.facts) for a in analyses]
    labels = {f"{name}: {facts['label']}" for name, facts in named if facts["label"] != "full"}
    passes = [f"{name}: {second_passes_text(f['flip'])}" for name, f in named if "flip" in f]
    notes = {note for _, facts in named for note in facts["notes"]}
    capital = [note[:1].upper() + note[1:] for note in sorted(notes)]
    return [f"{words}." for words in (*sorted(labels), *passes, *capital)]


def _widest(cells: list[dict[str, Any]]) -> str | None:
    """How little the least certain AP says, in words."""
    known = [cell for cell in cells if cell["intervals"]["AP"] is not None]
    if not known:
        return None
    cell = max(known, key=lambda c: c["intervals"]["AP"][1] - c["intervals"]["AP"][0])
    low, high = cell["intervals"]["AP"]
    return (
        f"So few pictures leave much open: AP of {cell['engine']} on {cell['subset']}"
        f" ({cell['images']} pictures) may lie anywhere from {low:.3f} to {high:.3f}."
    )


def _images(cells: list[dict[str, Any]], subset: str) -> int:
    return max(int(cell["images"]) for cell in cells if cell["subset"] == subset)
