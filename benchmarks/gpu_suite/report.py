"""The results of all sections in one file, the cards of the plans, a table and plots."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

from sections import load

from gpu_suite import SECTIONS

GROUNDWORK = {"machine", "prepare"}
"""Sections that say where and with what, and measure nothing."""
NOTHING = {"left_out", "failed"}
"""Why a section found nothing."""

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Okabe and Ito's palette, which the colour-blind can tell apart."""


def write_report(work: Path, output: Path, cards: Path) -> list[Path]:
    """Merge what the sections found; the paths that were written, none if nothing was measured."""
    found = load(work, list(SECTIONS))
    if not any(set(one) - NOTHING for name, one in found.items() if name not in GROUNDWORK):
        return []
    output.mkdir(parents=True, exist_ok=True)
    written = [_write(output / "gpu.json", found)]
    rows = rates(found)
    table = output / "gpu.md"
    table.write_text(_table(rows))
    written += [table, *_cards(found, cards), *_plots(rows, output)]
    return written


def rates(found: dict[str, Any]) -> dict[str, dict[str, dict[int, float]]]:
    """Crops per second by model, engine and batch."""
    rows: dict[str, dict[str, dict[int, float]]] = {}

    def add(model: str, engine: str, by_batch: dict[str, Any]) -> None:
        for batch, figures in by_batch.items():
            if "crops_per_second" in figures:
                rows.setdefault(model, {}).setdefault(engine, {})[int(batch)] = figures[
                    "crops_per_second"
                ]

    for model, ways in _models(found, "torch"):
        for way, by_batch in ways.items():
            if isinstance(by_batch, dict) and way != "parity":
                add(model, f"PyTorch {way}", by_batch)
    for model, by_batch in _models(found, "onnxruntime"):
        add(model, "ONNX Runtime CUDA fp32, flip", by_batch)
    for model, entry in _models(found, "plain"):
        add(model, "plain TensorRT fp16", entry["rates"])
    for name, entry in _models(found, "tensorrt"):
        model, _, variant = name.rpartition(".")
        for kind, label in (("graph", ""), ("no_graph", ", no graph")):
            add(model, f"ours {variant}{label}", entry[kind]["engine_only"])
        add(model, f"ours {variant}, host crops", entry["graph"]["host_crops"])
    return rows


def _models(found: dict[str, Any], section: str) -> Any:
    return found.get(section, {}).get("models", {}).items()


def _table(rows: dict[str, dict[str, dict[int, float]]]) -> str:
    lines = ["# Crops per second", ""]
    for model, engines in rows.items():
        batches = sorted({batch for by_batch in engines.values() for batch in by_batch})
        lines += [f"## {model}", "", "| engine | " + " | ".join(map(str, batches)) + " |"]
        lines.append("| --- |" + " ---: |" * len(batches))
        for engine, by_batch in engines.items():
            cells = [f"{by_batch[b]:.0f}" if b in by_batch else "" for b in batches]
            lines.append(f"| {engine} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def _cards(found: dict[str, Any], folder: Path) -> list[Path]:
    """One card for each plan: what it is, on what, its parity, its rates."""
    paths = []
    for name, entry in _models(found, "tensorrt"):
        manifest = {k: v for k, v in entry["manifest"].items() if k != "parity"}
        gpu = "".join(c if c.isalnum() else "-" for c in manifest["gpu_name"].lower())
        card = {
            "plan": manifest,
            "parity_with_pytorch_cpu": entry["parity"],
            "crops_per_second": entry["graph"],
            "without_graph": entry["no_graph"],
            "frames": entry["frames"],
            "build_seconds": entry["build_seconds"],
            "memory_bytes": entry["memory_bytes"],
        }
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / f"{name}.{gpu}.trt{manifest['tensorrt']}.json"
        paths.append(_write(target, card))
    return paths


def _plots(rows: dict[str, dict[str, dict[int, float]]], output: Path) -> list[Path]:
    """Rate over batch size, one picture a model; none without matplotlib."""
    if importlib.util.find_spec("matplotlib") is None:
        return []
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    paths = []
    for model, engines in rows.items():
        figure, axes = pyplot.subplots(figsize=(8, 5))
        for index, (engine, by_batch) in enumerate(sorted(engines.items())):
            batches = sorted(by_batch)
            axes.plot(
                batches,
                [by_batch[b] for b in batches],
                marker="o",
                color=COLOURS[index % len(COLOURS)],
                linestyle=("-", "--", ":")[index // len(COLOURS) % 3],
                label=engine,
            )
        axes.set(xscale="log", yscale="log", xlabel="batch", ylabel="crops per second", title=model)
        axes.grid(alpha=0.3, which="both")
        axes.legend(fontsize="small")
        paths.append(output / f"gpu-{model}.png")
        figure.savefig(paths[-1], dpi=120, bbox_inches="tight")
        pyplot.close(figure)
    return paths


def _write(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")
    return path
