"""TensorRT on the bare network, as one gets it without our graph: no flip-test, no decoding."""

from __future__ import annotations

import ctypes
from contextlib import closing
from typing import Any

import numpy as np

from gpu_suite import Context, Model, needed, needed_gpu
from gpu_suite.prepare import models, onnx_path
from gpu_suite.timing import rate


def run(context: Context) -> dict[str, Any]:
    """Rates for each model and batch, and the time of each layer at the largest one."""
    trt = needed("tensorrt")
    needed("cuda.bindings")
    needed_gpu(context)
    found: dict[str, Any] = {"tensorrt": trt.__version__, "models": {}}
    for model in models(context):
        found["models"][model.name] = _model(context, model)
        context.keep(found)
    return found


def _model(context: Context, model: Model) -> dict[str, Any]:
    from hrnet_deploy.engines.cuda.device import Device
    from hrnet_deploy.engines.trt_module import load_tensorrt

    onnx = onnx_path(context, model, "bare").read_bytes()
    index = int(context.device.partition(":")[2] or 0)
    tensorrt = load_tensorrt(index, subject="plain TensorRT")
    with closing(Device(index)) as device, device:
        return _measured(context, tensorrt, device, onnx, model)


def _measured(
    context: Context, tensorrt: Any, device: Any, onnx: bytes, model: Model
) -> dict[str, Any]:
    """A function of its own, so that TensorRT's objects go before the device is closed."""
    engine = _Plain(tensorrt, device, onnx, model, context.batches)
    rates = {str(n): rate(n, engine.repeated(n), context.seconds) for n in context.batches}
    return {"rates": rates, "layers_ms": engine.layer_times(context.batches[-1])}


class _Plain:
    """What a short script with TensorRT does: default settings, one stream, no graphs."""

    def __init__(
        self, tensorrt: Any, device: Any, onnx: bytes, model: Model, batches: tuple[int, ...]
    ) -> None:
        self.trt, self.device, self.model = tensorrt.module, device, model
        plan = self._build(tensorrt, onnx, batches)
        self.runtime = tensorrt.created(self.trt.Runtime, "plain TensorRT")
        self.engine = self.runtime.deserialize_cuda_engine(plan)
        self.context = self.engine.create_execution_context()
        self.stream = device.stream()
        pixels = int(np.prod(model.size_hw))
        for name, size in (("images", 3 * pixels), ("heatmaps", 17 * pixels // 16)):
            address = device.allocate(batches[-1] * size * ctypes.sizeof(ctypes.c_float))
            self.context.set_tensor_address(name, address)

    def _build(self, tensorrt: Any, onnx: bytes, batches: tuple[int, ...]) -> bytes:
        trt = self.trt
        kinds = trt.NetworkDefinitionCreationFlag
        names = ("EXPLICIT_BATCH", "STRONGLY_TYPED")
        flags = sum(1 << int(getattr(kinds, name)) for name in names if hasattr(kinds, name))
        builder = tensorrt.created(trt.Builder, "plain TensorRT")
        network = builder.create_network(flags)
        parser = trt.OnnxParser(network, tensorrt.log)
        if not parser.parse(onnx):
            raise tensorrt.fault("plain TensorRT", "cannot read the bare network", "Report it")
        config = builder.create_builder_config()
        sources = (trt.TacticSource.EDGE_MASK_CONVOLUTIONS, trt.TacticSource.JIT_CONVOLUTIONS)
        config.set_tactic_sources(sum(1 << int(source) for source in sources))
        if not hasattr(kinds, "STRONGLY_TYPED"):
            config.set_flag(trt.BuilderFlag.FP16)
        profile = builder.create_optimization_profile()
        size = self.model.size_hw
        shapes = [(n, 3, *size) for n in (1, max(1, batches[-1] // 2), batches[-1])]
        profile.set_shape("images", *shapes)
        config.add_optimization_profile(profile)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise tensorrt.fault("plain TensorRT", "built no plan", "Report it")
        return bytes(plan)

    def repeated(self, batch: int) -> Any:
        """A function that runs ``batch`` crops so many times and waits."""

        def work(count: int) -> None:
            self.context.set_input_shape("images", (batch, 3, *self.model.size_hw))
            for _ in range(count):
                if not self.context.execute_async_v3(int(self.stream)):
                    raise RuntimeError("TensorRT could not enqueue")
            self.device.drain(self.stream)

        return work

    def layer_times(self, batch: int) -> dict[str, float]:
        """Milliseconds of every layer by name."""
        times: dict[str, float] = {}

        class Profiler(self.trt.IProfiler):  # type: ignore[name-defined, misc]
            def __init__(self, base: Any) -> None:
                base.__init__(self)

            def report_layer_time(self, layer_name: str, ms: float) -> None:
                times[layer_name] = times.get(layer_name, 0.0) + ms

        self.context.profiler = Profiler(self.trt.IProfiler)
        self.repeated(batch)(1)
        return times
