"""AP of the small trained network on synthetic people: PyTorch, ONNX Runtime and TensorRT."""

from __future__ import annotations

import importlib.util
from contextlib import closing
from typing import Any

from gpu_suite import MODELS, Context, Missing, needed_gpu
from gpu_suite.prepare import onnx_path

SEED = 2_000_000
"""That of the demo: pictures that the network was not trained on."""

FIGURES = ("AP", "AP50", "AP75", "APm", "APl", "AR")


def run(context: Context) -> dict[str, Any]:
    """COCO figures of each engine that can be had, on the same pictures."""
    needed_gpu(context)
    from hrnet_deploy.demo.people import write_dataset
    from hrnet_deploy.evaluation.run import evaluate

    folder = context.work / "people"
    annotations = folder / "annotations.json"
    if not annotations.exists():
        annotations = write_dataset(folder, images=40 if context.quick else 500, seed=SEED)
    found: dict[str, Any] = {}
    for name, load in _engines(context):
        with closing(load()) as engine:
            result = evaluate(engine, annotations, annotations.parent / "images").as_json()
        found[name] = {figure: result[figure] for figure in FIGURES}
    if not found:
        raise Missing("neither onnxruntime nor a plan and tensorrt are there")
    return found


def _engines(context: Context) -> Any:
    """Names and loaders of what this Python has; a plan has to be built by section tensorrt."""
    from hrnet_deploy.engines import load_engine

    small = MODELS[0]
    if importlib.util.find_spec("onnxruntime"):
        yield "onnxruntime cpu fp32", lambda: load_engine(onnx_path(context, small, "fp32"))
    if not importlib.util.find_spec("tensorrt"):
        return
    for variant in ("fp32", "fp16"):
        plan = onnx_path(context, small, variant).with_suffix(".plan")
        if plan.exists():
            yield f"tensorrt {variant}", lambda plan=plan: load_engine(plan, device=context.device)
