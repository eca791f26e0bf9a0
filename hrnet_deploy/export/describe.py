"""What a file is, as plain facts: checkpoints, ONNX files of any origin, plans."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hrnet_deploy.engines.build import check_fp8
from hrnet_deploy.engines.build_settings import BuildSettings
from hrnet_deploy.engines.onnx_file import read_onnx_file, spec_of
from hrnet_deploy.engines.trt_ahead import build_ahead, load_ahead
from hrnet_deploy.errors import DeployError, InputError, Subject, require
from hrnet_deploy.export.architecture import HRNetArchitecture
from hrnet_deploy.export.plan import fitted
from hrnet_deploy.files import check_input_file, read_json, sha256_file
from hrnet_deploy.keypoints import KeypointSet
from hrnet_deploy.spec import METADATA_KEY, ModelSpec

if TYPE_CHECKING:
    import onnx

    from hrnet_deploy.export.weights import Checkpoint

Facts = dict[str, Any]
MAX_VALUE_CHARACTERS = 200


def describe(path: Subject, *, recipe: str | None = None) -> Facts:
    """The facts of ``path``; keys depend on its "kind": checkpoint, onnx, plan.

    Sizes are (height, width) in pixels. ``recipe`` is what ``--recipe`` would be for ``export``.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".onnx":
        return describe_onnx(path)
    if suffix in (".plan", ".engine"):
        return describe_plan(path)
    return describe_checkpoint(path, recipe=recipe)


def _file_facts(path: Subject, kind: str) -> Facts:
    file = check_input_file(path, what="checkpoint, .onnx or .plan file")
    return {"file": str(path), "kind": kind, "bytes": file.stat().st_size}


def describe_checkpoint(path: Subject, *, recipe: str | None = None) -> Facts:
    """Architecture, size, keypoints and where each came from; what stops an export is "problem"."""
    from hrnet_deploy.export.checkpoint import read_checkpoint

    checkpoint = read_checkpoint(path)
    architecture = checkpoint.architecture
    facts = _file_facts(path, "checkpoint") | {
        "sha256": checkpoint.sha256,
        "flavour": checkpoint.flavour,
        "architecture": architecture.name,
        "stages": [
            {"modules": s.modules, "widths": list(s.widths), "blocks": list(s.blocks)}
            for s in architecture.stages
        ],
        "parameters": checkpoint.parameters,
        "joints": checkpoint.joints,
        "notes": list(checkpoint.notes),
    }
    try:
        return facts | _choice_facts(checkpoint, recipe)
    except DeployError as error:
        if recipe is not None:
            raise
        return facts | {"problem": error.problem, "fix": error.fix}


def _choice_facts(checkpoint: Checkpoint, recipe: str | None) -> Facts:
    from hrnet_deploy.export.choice import resolve_model
    from hrnet_deploy.export.recipes import choose_recipe

    found = choose_recipe(checkpoint, recipe)
    choice = resolve_model(checkpoint, recipe=found)
    return {
        "input_size_hw": list(choice.input_size_hw),
        "input_size_from": choice.origins["input_size"],
        "gmac": round(multiply_adds(checkpoint.architecture, choice.input_size_hw) / 1e9, 3),
        "keypoints": _keypoint_facts(choice.keypoints, choice.origins["keypoints"]),
        "shift_heatmap": choice.shift_heatmap,
        "decode": choice.decode,
        "network_color_order": choice.network_color_order,
        "mean_rgb": list(choice.mean_rgb),
        "std_rgb": list(choice.std_rgb),
        "recipe": choice.recipe,
        "published": choice.published,
        "published_on": found.published_on if found and choice.recipe else None,
        "assumptions": list(choice.assumptions),
    }


def _keypoint_facts(known: KeypointSet, origin: str) -> Facts:
    pairs = known.flip_pairs
    return {
        "set": known.name,
        "from": origin,
        "names": list(known.names),
        "flip_pairs": None if pairs is None else [list(pair) for pair in pairs],
    }


def multiply_adds(architecture: HRNetArchitecture, input_size_hw: tuple[int, int]) -> int:
    """Multiply-adds of all convolutions for one crop, counted without computing anything.

    The paper's "GFLOPs" are these in units of 1024^3: 7.1 for W32 at 256x192, 7.64 in units of 1e9.
    """
    import torch
    from torch import nn

    from hrnet_deploy.export.hrnet import HRNet

    total = 0

    def count(module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += output.numel() * module.weight[0].numel()

    with torch.device("meta"), torch.no_grad():
        network = HRNet(architecture).eval()
        for module in network.modules():
            module.register_forward_hook(count)
        network(torch.zeros(1, 3, *input_size_hw))
    return total


def describe_onnx(path: Subject) -> Facts:
    """Inputs, outputs and opsets; our ModelSpec where the file carries one."""
    onnx = require("onnx", extra="export", purpose=f"inspecting {path}")
    facts = _file_facts(path, "onnx")
    model = _load_onnx(path)
    constants = {constant.name for constant in model.graph.initializer}
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    facts |= {
        "sha256": sha256_file(path),
        "producer": f"{model.producer_name} {model.producer_version}".strip(),
        "ir_version": model.ir_version,
        "opsets": {item.domain or "ai.onnx": item.version for item in model.opset_import},
        "inputs": [_value(onnx, v) for v in model.graph.input if v.name not in constants],
        "outputs": [_value(onnx, v) for v in model.graph.output],
        "nodes": len(model.graph.node),
        "metadata": {k: _short(v) for k, v in metadata.items() if k != METADATA_KEY},
        "written_by_us": METADATA_KEY in metadata,
    }
    if METADATA_KEY in metadata:
        spec = ModelSpec.from_json(metadata[METADATA_KEY], source=path)
        facts["spec"] = json.loads(spec.to_json())
    else:
        facts["recipe"] = _onnx_recipe(facts["sha256"])
    return facts


def _onnx_recipe(sha256: str) -> str | None:
    """The name of the recipe that a foreign network's hash belongs to."""
    from hrnet_deploy.export.recipes import find_onnx_recipe

    recipe = find_onnx_recipe(sha256)
    return recipe.name if recipe else None


def _load_onnx(path: Subject) -> onnx.ModelProto:
    """The model without its external data; InputError where it is not ONNX."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load_model(str(path), load_external_data=False)
    except (DecodeError, ValueError, RuntimeError) as error:
        raise _not_onnx(path) from error
    if not model.graph.node or not model.graph.output:
        raise _not_onnx(path)
    return model


def _not_onnx(path: Subject) -> InputError:
    return InputError(path, "is not a valid ONNX file", "Export or download it again")


def _value(onnx: Any, value: Any) -> Facts:
    """Name, element type and shape (a number, a symbol or "?") of an input or output."""
    tensor = value.type.tensor_type
    kinds = onnx.TensorProto.DataType
    known = tensor.elem_type in kinds.values()
    return {
        "name": value.name,
        "type": kinds.Name(tensor.elem_type).lower() if known else str(tensor.elem_type),
        "shape": [
            dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?"
            for dim in tensor.shape.dim
        ],
    }


def _short(text: str) -> str:
    limit = MAX_VALUE_CHARACTERS
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"


def describe_build(path: Subject, target: str) -> Facts:
    """What TensorRT for RTX makes of one of our ONNX files for a GPU of ``target``, as "SM89"."""
    if Path(path).suffix.lower() != ".onnx":
        raise InputError("--tensorrt", f"{path} is no .onnx file", "Give one, or leave it away")
    content = check_input_file(path, what=".onnx file").read_bytes()
    spec = spec_of(read_onnx_file(content, path), path)
    tensorrt = load_ahead(target, subject="--tensorrt")
    check_fp8(spec, tensorrt.gpu, subject=path)
    settings = fitted(BuildSettings(), spec)
    report = build_ahead(tensorrt, content, spec, settings, subject=str(path))
    return {
        "version": report.version,
        "target": report.target,
        "kernels": len(report.kernels),
        "kinds": dict(Counter(kernel.kind for kernel in report.kernels).most_common()),
        "types": dict(Counter(kernel.dtype for kernel in report.kernels).most_common()),
        "warnings": list(report.warnings),
    }


def describe_plan(path: Subject) -> Facts:
    """Hash and, where it lies beside the plan, the manifest; the plan itself is never opened."""
    facts = _file_facts(path, "plan") | {"sha256": sha256_file(path)}
    manifest = Path(f"{path}.json")
    if not manifest.is_file():
        return facts | {"manifest": None}
    return facts | {"manifest": read_json(manifest, what="manifest")}
