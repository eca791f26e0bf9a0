"""PyTorch on the same GPU: eager, channels-last half precision, compiled, and from a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gpu_suite import Context, Model, needed_gpu, needed_torch
from gpu_suite.prepare import models, onnx_path
from gpu_suite.timing import rate

COMPILE_BATCH = 64
"""``torch.compile`` takes minutes a shape, so it is measured at one."""


def run(context: Context) -> dict[str, Any]:
    """Rates of the bare network (no flip-test) for each model, way and batch; and parity."""
    needed_gpu(context)
    torch = needed_torch(context)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    found: dict[str, Any] = {"torch": torch.__version__, "models": {}}
    for model in models(context):
        found["models"][model.name] = _model(context, torch, model)
        context.keep(found)
    return found


def _model(context: Context, torch: Any, model: Model) -> dict[str, Any]:
    onnx_path(context, model, "fp32")
    network = _network(torch, context, model)
    half = _network(torch, context, model).to(memory_format=torch.channels_last)
    half = half.half() if context.on_gpu else half
    compiled = torch.compile(half)
    found: dict[str, Any] = {"parity": _parity(context, model)}
    for batch in context.batches:
        images = torch.randn(batch, 3, *model.size_hw, device=context.device)
        typed = images.to(memory_format=torch.channels_last)
        typed = typed.half() if context.on_gpu else typed
        ways = {
            "eager fp32": lambda images=images: network(images),
            "channels-last fp16": lambda typed=typed: half(typed),
        }
        if context.on_gpu:
            ways["CUDA graph fp16"] = _captured(torch, half, typed)
            if batch == COMPILE_BATCH:
                ways["torch.compile fp16"] = lambda typed=typed: compiled(typed)
        for name, work in ways.items():
            found.setdefault(name, {})[str(batch)] = _rate(context, torch, batch, work)
    if context.on_gpu:
        found["peak_memory_bytes"] = torch.cuda.max_memory_allocated()
        torch.cuda.reset_peak_memory_stats()
    return found


def _rate(
    context: Context, torch: Any, batch: int, work: Callable[[], object]
) -> dict[str, float] | dict[str, str]:
    def repeated(count: int) -> None:
        with torch.inference_mode():
            for _ in range(count):
                work()
        if context.on_gpu:
            torch.cuda.synchronize()

    try:
        return rate(batch, repeated, context.seconds)
    except RuntimeError as error:  # out of memory, or no compiler for torch.compile
        return {"failed": (str(error).splitlines() or [type(error).__name__])[0]}


def _captured(torch: Any, network: Any, images: Any) -> Callable[[], object]:
    """The network as a CUDA graph on ``images``."""
    with torch.inference_mode():
        side = torch.cuda.Stream()
        with torch.cuda.stream(side):
            for _ in range(3):
                network(images)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            network(images)
    replay: Callable[[], object] = graph.replay
    return replay


def _network(torch: Any, context: Context, model: Model) -> Any:
    from hrnet_deploy.demo import CHECKPOINT
    from hrnet_deploy.export.checkpoint import read_checkpoint
    from hrnet_deploy.export.hrnet import HRNet

    path = CHECKPOINT if model.width is None else context.work / f"{model.name}.pth"
    checkpoint = read_checkpoint(path)
    network = HRNet(checkpoint.architecture)
    network.load_state_dict(checkpoint.state_dict)
    return network.eval().to(context.device)


def _parity(context: Context, model: Model) -> dict[str, float]:
    """PyTorch on the GPU against PyTorch on the CPU, with flip-test and decoding."""
    from hrnet_deploy.demo import CHECKPOINT
    from hrnet_deploy.engines.onnx_file import read_onnx_file, spec_of
    from hrnet_deploy.export.checkpoint import read_checkpoint
    from hrnet_deploy.export.run import reference_engine

    path = CHECKPOINT if model.width is None else context.work / f"{model.name}.pth"
    file = onnx_path(context, model, "fp32")
    spec = spec_of(read_onnx_file(file.read_bytes(), file), file)
    stored = np.load(context.work / f"{model.name}.npz")
    with reference_engine(read_checkpoint(path), spec, device=context.device) as engine:
        output = engine.run(stored["crops"], heatmaps=True)
    moved = np.linalg.norm(output.keypoints_heatmap - stored["keypoints"], axis=2)
    error = np.abs(output.heatmaps_nkhw - stored["heatmaps"]).max()
    return {"heatmap_max": float(error), "identical": float((moved < 0.0025).mean())}
