"""ONNX Runtime with its CUDA provider on our float32 file, flip-test and decoding included."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpu_suite import Context, Missing, needed, needed_gpu
from gpu_suite.prepare import models, onnx_path
from gpu_suite.timing import rate


def run(context: Context) -> dict[str, Any]:
    """Rates for each model and batch, as a user gets them: crops in host memory to keypoints."""
    ort = needed("onnxruntime")
    needed_gpu(context)
    if context.on_gpu and "CUDAExecutionProvider" not in ort.get_available_providers():
        raise Missing(f"onnxruntime {ort.__version__} has no CUDA provider")
    if hasattr(ort, "preload_dlls"):
        ort.preload_dlls()
    found: dict[str, Any] = {"onnxruntime": ort.__version__, "models": {}}
    for model in models(context):
        from hrnet_deploy.engines import load_engine

        path = onnx_path(context, model, "fp32")
        rng = np.random.default_rng(0)
        rates = found["models"].setdefault(model.name, {})
        with load_engine(path, device=context.device) as engine:
            for batch in context.batches:
                crops = rng.integers(0, 256, (batch, *model.size_hw, 3), dtype=np.uint8)

                def work(count: int, crops: np.ndarray = crops) -> None:
                    for _ in range(count):
                        engine.run(crops)

                rates[str(batch)] = rate(batch, work, context.seconds)
        context.keep(found)
    return found
