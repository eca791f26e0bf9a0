"""``hrnet-deploy inspect``: what is this file?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hrnet_deploy.cli.options import FILE, json_option, print_json, print_table, recipe_option, say
from hrnet_deploy.errors import command_line, printable

if TYPE_CHECKING:
    from rich.table import Table

Row = tuple[str, str]


@click.command("inspect")
@click.argument("file", type=FILE)
@recipe_option
@click.option("--tensorrt", metavar="TARGET", help="Build an ONNX file for this GPU, as SM89.")
@json_option
def command(file: Path, recipe: str | None, tensorrt: str | None, as_json: bool) -> None:
    """Say what FILE is: a checkpoint (.pth, .safetensors), an .onnx file or a .plan.

    Nothing in the file is executed. What had to be assumed is said on stderr. With --tensorrt,
    TensorRT for RTX parses and builds the file, for which it needs no GPU; no plan is written.
    """
    from hrnet_deploy.export.describe import describe, describe_build

    facts = describe(file, recipe=recipe)
    if tensorrt is not None:
        facts["tensorrt"] = describe_build(file, tensorrt)
    if as_json:
        print_json(facts)
        return
    print_table(_table(facts))
    for line in (*facts.get("notes", ()), *facts.get("assumptions", ())):
        say(f"{file}: {line}")
    if "problem" in facts:
        say(f"{file}: cannot be exported as it is: {facts['problem']}. {facts['fix']}")
    elif advice := _next(facts, file):
        say(f"next: {advice}")


def _table(facts: dict[str, Any]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    rows = {"checkpoint": _checkpoint_rows, "onnx": _onnx_rows, "plan": _plan_rows}
    table = Table(box=box.SIMPLE, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("file", Text(printable(facts["file"])))
    for name, value in rows[facts["kind"]](facts):
        table.add_row(name, Text(printable(value)))
    table.add_row("size", f"{facts['bytes']:,} bytes")
    table.add_row("sha256", facts["sha256"])
    return table


def _checkpoint_rows(facts: dict[str, Any]) -> Iterator[Row]:
    yield "kind", f"HRNet pose checkpoint, layout: {facts['flavour']}"
    yield "architecture", facts["architecture"]
    for number, stage in enumerate(facts["stages"], start=2):
        widths = " ".join(map(str, stage["widths"]))
        blocks = " ".join(map(str, stage["blocks"]))
        modules = "1 module" if stage["modules"] == 1 else f"{stage['modules']} modules"
        yield f"stage {number}", f"{modules}, widths {widths}, blocks {blocks}"
    yield "parameters", f"{facts['parameters'] / 1e6:.2f} M"
    yield "joints", str(facts["joints"])
    if "input_size_hw" not in facts:
        return
    height, width = facts["input_size_hw"]
    yield "input size", f"{height}x{width} (height x width; {facts['input_size_from']})"
    yield "computation", f"{facts['gmac']:.2f} GMAC a crop"
    points = facts["keypoints"]
    yield "keypoints", f"{points['set']} ({points['from']})"
    yield "flip pairs", _pairs(points["flip_pairs"])
    yield "flip-test shift", "one pixel" if facts["shift_heatmap"] else "none"
    yield "decoding", facts["decode"]
    yield "recipe", facts["recipe"] or "none"
    if facts["published"]:
        figures = (f"{name} {value:g}" for name, value in facts["published"].items())
        yield "published", f"{facts['published_on'] or 'figures'}: {', '.join(figures)}"


def _pairs(pairs: list[list[int]] | None) -> str:
    if pairs is None:
        return "unknown: no flip-test without a recipe"
    return f"{len(pairs)}" if pairs else "none swap"


def _onnx_rows(facts: dict[str, Any]) -> Iterator[Row]:
    origin = "written by hrnet-deploy" if facts["written_by_us"] else "foreign"
    yield "kind", f"ONNX, {origin}"
    yield "producer", facts["producer"] or "not said"
    yield "opset", ", ".join(f"{domain} {v}" for domain, v in facts["opsets"].items())
    for direction in ("inputs", "outputs"):
        for value in facts[direction]:
            shape = ", ".join(map(str, value["shape"]))
            yield direction[:-1], f"{value['name']}: {value['type']} ({shape})"
    yield "nodes", str(facts["nodes"])
    if facts.get("recipe"):
        yield "recipe", facts["recipe"]
    if spec := facts.get("spec"):
        height, width = spec["input_size_hw"]
        yield "architecture", spec["architecture"]
        yield "precision", spec["precision"]
        yield "input size", f"{height}x{width} (height x width)"
        yield "keypoints", f"{spec['keypoint_set']} ({len(spec['keypoint_names'])})"
        yield "flip-test", _flip_test(spec)
        yield "decoding", spec["decode"]
        yield "recipe", spec["recipe"] or "none"
        yield "made from", spec["source_sha256"]
    for name, value in facts["metadata"].items():
        yield f"metadata {printable(name)}", value
    if built := facts.get("tensorrt"):
        yield "TensorRT", f"for RTX {built['version']}, {built['target']}: parsed and built"
        for what in ("kinds", "types"):
            counts = ", ".join(f"{count} {name}" for name, count in built[what].items())
            yield f"kernels by {what[:-1]}", f"{built['kernels']}: {counts}"
        for warning in built["warnings"]:
            yield "warning", warning


def _flip_test(spec: dict[str, Any]) -> str:
    if not spec["flip_test"]:
        return "off"
    return "on, shifted by one pixel" if spec["shift_heatmap"] else "on, not shifted"


def _plan_rows(facts: dict[str, Any]) -> Iterator[Row]:
    yield "kind", "TensorRT plan"
    manifest = facts["manifest"]
    if manifest is None:
        yield "manifest", "none beside it"
    elif not isinstance(manifest, dict):
        yield "manifest", "not a JSON object"
    else:
        for name, value in manifest.items():
            if isinstance(value, (str, int, float)):
                yield printable(name), str(value)


def _next(facts: dict[str, Any], file: Path) -> str:
    """The command that usually follows."""
    if facts["kind"] == "checkpoint":
        return command_line("export", file)
    if facts["kind"] == "onnx" and not facts["written_by_us"]:
        return command_line("adopt", file, "--recipe", facts["recipe"] or "mine.toml")
    return ""
