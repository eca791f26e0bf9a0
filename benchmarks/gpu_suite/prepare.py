"""Checkpoints with seeded weights, their ONNX files, and reference poses by PyTorch on the CPU."""

from __future__ import annotations

import dataclasses
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from gpu_suite import MODELS, Context, Missing, Model, needed

CROPS = 16


VARIANTS = {
    "fp32": {"precision": "fp32", "flip_test": True},
    "fp16": {"precision": "fp16", "flip_test": True},
    "fp16-noflip": {"precision": "fp16", "flip_test": False},
}
"""Files for each model, named ``<model>.<variant>.onnx``; ``.bare.onnx`` is the network alone."""


def models(context: Context) -> tuple[Model, ...]:
    """The networks of this run."""
    if context.only:
        return tuple(model for model in MODELS if model.name in context.only)
    return MODELS[:1] if context.quick else MODELS


def onnx_path(context: Context, model: Model, variant: str) -> Path:
    """A prepared file; Missing where ``prepare`` has not run."""
    path = context.work / f"{model.name}.{variant}.onnx"
    if not path.exists():
        raise Missing(f"{path.name} is not prepared (section prepare, needs torch and onnx)")
    return path


def run(context: Context) -> dict[str, Any]:
    """Write what is not there yet."""
    needed("torch")
    needed("onnx")
    made = {}
    for model in models(context):
        if not (context.work / f"{model.name}.npz").exists():
            made[model.name] = _prepare(context.work, model)
    return {"made": made, "models": [model.name for model in models(context)]}


def _prepare(work: Path, model: Model) -> dict[str, Any]:
    from hrnet_deploy.export.crops import seeded_crops
    from hrnet_deploy.export.model import build_hrnet
    from hrnet_deploy.export.parity import run_all
    from hrnet_deploy.export.run import reference_engine

    checkpoint, base = _checkpoint(work, model)
    weights = checkpoint.arrays
    for variant, changes in VARIANTS.items():
        shift = base.shift_heatmap and bool(changes["flip_test"])
        spec = dataclasses.replace(base, shift_heatmap=shift, **changes)
        written = build_hrnet(spec, checkpoint.architecture, weights, source=model.name)
        (work / f"{model.name}.{variant}.onnx").write_bytes(written.SerializeToString())
    (work / f"{model.name}.bare.onnx").write_bytes(_bare(base, checkpoint, weights))
    crops = seeded_crops(base.input_size_hw, CROPS)
    with reference_engine(checkpoint, base) as reference:
        output = run_all(reference, crops)
    np.savez(
        work / f"{model.name}.npz",
        crops=crops,
        keypoints=output.keypoints_heatmap,
        scores=output.scores,
        heatmaps=output.heatmaps_nkhw,
    )
    return {"checkpoint": checkpoint.sha256, "spec": json.loads(base.to_json())}


def _checkpoint(work: Path, model: Model) -> tuple[Any, Any]:
    """The checkpoint and the spec of its float32 export with the flip-test."""
    import torch

    from hrnet_deploy.demo import CHECKPOINT
    from hrnet_deploy.export.architecture import published_architecture
    from hrnet_deploy.export.checkpoint import read_checkpoint
    from hrnet_deploy.export.hrnet import HRNet
    from hrnet_deploy.export.run import checkpoint_spec
    from hrnet_deploy.export.settings import ExportSettings

    path, recipe = CHECKPOINT, str(CHECKPOINT.with_suffix(".toml"))
    settings = ExportSettings(recipe=recipe)
    if model.width is not None:
        path = work / f"{model.name}.pth"
        shapes = HRNet(published_architecture(model.width, 17)).state_dict()
        arrays = {name: seeded(name, tuple(t.shape)) for name, t in shapes.items()}
        torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, path)
        settings = ExportSettings(input_size_hw=model.size_hw, keypoints="coco_17")
    checkpoint = read_checkpoint(path)
    return checkpoint, checkpoint_spec(checkpoint, settings, say=lambda line: None)


def seeded(name: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Weights without training that keep the signal's size: equal on every machine."""
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    if name.endswith("num_batches_tracked"):
        return np.array(1000, np.int64)
    if name.startswith("final_layer"):
        values = rng.normal(0, 0.0005, shape)
    elif len(shape) == 4:
        values = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
    elif name.endswith("running_mean"):
        values = rng.normal(0, 0.1, shape)
    elif name.endswith("running_var"):
        values = rng.uniform(0.5, 1.5, shape)
    elif name.endswith("weight"):
        values = rng.uniform(0.4, 0.8, shape)
    else:
        values = rng.normal(0, 0.05, shape)
    return values.astype(np.float32)


def _bare(spec: Any, checkpoint: Any, weights: Any) -> bytes:
    """The network alone in half precision, normalised float images in: what others deploy."""
    from onnx import TensorProto, helper

    from hrnet_deploy.export.graph import GraphWriter
    from hrnet_deploy.export.network import HRNetWriter

    graph = GraphWriter()
    writer = HRNetWriter(graph, weights, np.float16, "bare", reverse_input=False)
    raw = writer.heatmaps("images", checkpoint.architecture)
    graph.node("Identity", [raw], "heatmaps")
    size, maps = spec.input_size_hw, spec.heatmap_size_hw
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, *size])
    heatmaps = helper.make_tensor_value_info("heatmaps", TensorProto.FLOAT, ["N", 17, *maps])
    model: bytes = graph.finish(spec, [images], [heatmaps]).SerializeToString()
    return model
