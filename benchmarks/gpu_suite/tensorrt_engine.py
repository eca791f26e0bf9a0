"""Our plans: built, compared with PyTorch, and measured with everything switched on and off."""

from __future__ import annotations

import json
import time
from contextlib import closing
from typing import Any

import numpy as np

from gpu_suite import Context, Model, needed, needed_gpu
from gpu_suite.prepare import VARIANTS, models, onnx_path
from gpu_suite.timing import clocks, rate

PICTURE_HW = (480, 640)
PERSONS = 3
LEVEL = 4


def run(context: Context) -> dict[str, Any]:
    """One entry for each model and variant."""
    trt = needed("tensorrt")
    needed("cuda.bindings")
    needed_gpu(context)
    found: dict[str, Any] = {"tensorrt": trt.__version__, "models": {}}
    for model in models(context):
        for variant in VARIANTS:
            found["models"][f"{model.name}.{variant}"] = _variant(context, model, variant)
            context.keep(found)
    return found


def _variant(context: Context, model: Model, variant: str) -> dict[str, Any]:
    from hrnet_deploy.engines.build_settings import BuildSettings
    from hrnet_deploy.engines.tensorrt import load_plan_engine
    from hrnet_deploy.export.plan import PlanRequest, make_plan

    onnx = onnx_path(context, model, variant)
    largest = context.batches[-1]
    settings = BuildSettings(
        opt_batch=max(1, largest // 2), max_batch=largest, level=1 if context.quick else LEVEL
    )
    plan, layers = onnx.with_suffix(".plan"), onnx.with_suffix(".layers.json")
    index = int(context.device.partition(":")[2] or 0)
    request = PlanRequest(onnx, plan, settings, device=index, force=True, layers=layers)
    started = time.perf_counter()
    report = make_plan(request, say=lambda line: None)
    found: dict[str, Any] = {
        "build_seconds": time.perf_counter() - started,
        "plan_bytes": plan.stat().st_size,
        "manifest": report.manifest.to_dict(),
        "layers": len(json.loads(layers.read_text()).get("Layers", [])),
        "clocks": clocks(),
    }
    device = f"cuda:{index}"
    with closing(load_plan_engine(plan, device=device)) as engine:
        before = engine.free_memory()[0]
        found["parity"] = _parity(context, model, variant, engine)
        found["graph"] = _sweep(context, engine, model)
        found["frames"] = _frames(context, engine, largest)
        found["memory_bytes"] = engine.free_memory()[1] - min(before, engine.free_memory()[0])
    with closing(load_plan_engine(plan, device=device, graphs=False)) as engine:
        found["no_graph"] = _sweep(context, engine, model)
    return found


def _parity(context: Context, model: Model, variant: str, engine: Any) -> dict[str, Any]:
    """Against PyTorch's float32 poses on the CPU, which have the flip-test."""
    if not VARIANTS[variant]["flip_test"]:
        return {"left_out": "the reference has the flip-test"}
    stored = np.load(context.work / f"{model.name}.npz")
    output = engine.run(stored["crops"], heatmaps=True)
    stride = np.divide(model.size_hw[::-1], output.heatmaps_nkhw.shape[:1:-1])
    moved = np.linalg.norm((output.keypoints_heatmap - stored["keypoints"]) * stride, axis=2)
    return {
        "heatmap_max": float(np.abs(output.heatmaps_nkhw - stored["heatmaps"]).max()),
        "identical": float((moved <= 0.01).mean()),
        "keypoint_px_max": float(moved.max()),
    }


def _sweep(context: Context, engine: Any, model: Model) -> dict[str, Any]:
    """The engine alone, and crops in host memory to keypoints, for each batch."""
    found: dict[str, Any] = {"engine_only": {}, "host_crops": {}}
    rng = np.random.default_rng(0)
    for batch in context.batches:
        crops = rng.integers(0, 256, (batch, *model.size_hw, 3), dtype=np.uint8)
        engine.run(np.concatenate([crops, crops]))  # both slots know this batch now

        def alone(count: int, batch: int = batch) -> None:
            engine.compute_only(batch, count)

        def from_host(count: int, crops: np.ndarray = crops) -> None:
            pending = [engine.submit(crops) for _ in range(count)]
            for item in pending:
                item.result()

        found["engine_only"][str(batch)] = rate(batch, alone, context.seconds)
        found["host_crops"][str(batch)] = rate(batch, from_host, context.seconds)
    return found


def _frames(context: Context, engine: Any, batch: int) -> dict[str, Any]:
    """Decoded frames in host memory to keypoints: three persons a frame, crops cut on the GPU."""
    from hrnet_deploy.runtime.geometry import CropGeometry

    rng = np.random.default_rng(1)
    count = -(-batch // PERSONS)
    frames = [rng.integers(0, 256, (*PICTURE_HW, 3), dtype=np.uint8) for _ in range(count)]
    boxes = np.concatenate([rng.uniform(0, 300, (batch, 2)), rng.uniform(60, 320, (batch, 2))], 1)
    geometry = CropGeometry.from_boxes_xywh(boxes, engine.spec.input_size_wh)
    of_crop = np.arange(batch) // PERSONS

    def work(repeats: int) -> None:
        pending = [
            engine.submit_frames(frames, geometry.image_to_input, of_crop) for _ in range(repeats)
        ]
        for item in pending:
            item.result()

    cpu_before, before = time.process_time(), time.perf_counter()
    found: dict[str, Any] = rate(batch, work, context.seconds)
    found["cores_used"] = (time.process_time() - cpu_before) / (time.perf_counter() - before)
    return found
