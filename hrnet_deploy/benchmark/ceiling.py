"""What the machine can do at all: its fastest matrix product and its copying, measured."""

from __future__ import annotations

import importlib.util
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.benchmark.measure import Task
from hrnet_deploy.engines.openvino_model import compile_for_cpu
from hrnet_deploy.errors import require

GEMM_SIDE = 1024
"""Square matrices whose operands stay in a second or third level cache, as convolutions' do."""

COPY_BYTES = 128 << 20
"""Larger than the caches of common processors."""

HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
"""What OpenVINO is told; in 8 bit is what the model says."""

_TRIALS = 5


@dataclass(frozen=True)
class Ceiling:
    """A task that runs at the machine's limit; ``amount`` is what one run does (flop or bytes)."""

    task: Task
    library: str
    amount: float

    def rate(self, seconds: float) -> float:
        """Flop or bytes per second."""
        return self.amount / seconds


def gemm_ceilings(precisions: set[str], threads: int) -> dict[str, Ceiling]:
    """The fastest matrix product at hand by precision ("fp32", "bf16", "int8"), on the CPU.

    A convolution of many channels is one as well, and the fastest of all with some libraries.
    """
    ceilings = {}
    for precision in sorted(precisions & set(HINTS)):
        makers = (_with_torch, _with_openvino, _with_convolution, _with_numpy)
        works = [made for made in (make(precision, threads) for make in makers) if made]
        if not works:
            continue
        library, work, amount = min(works, key=lambda item: _best(item[1]) / item[2])
        ceilings[precision] = Ceiling(Task(f"gemm {precision}", work), library, amount)
    return ceilings


def copy_ceiling() -> Ceiling:
    """Copying memory; reading and writing both count, as in the STREAM benchmark."""
    source = np.ones(COPY_BYTES // 8)
    target = np.zeros_like(source)
    return Ceiling(
        Task("copy", lambda: np.copyto(target, source)), f"numpy {np.__version__}", 2 * COPY_BYTES
    )


Made = tuple[str, Callable[[], object], float]
_FLOP = 2.0 * GEMM_SIDE**3


def _with_torch(precision: str, threads: int) -> Made | None:
    if importlib.util.find_spec("torch") is None or precision == "int8":
        return None
    import torch

    torch.set_num_threads(threads)
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.rand(GEMM_SIDE, GEMM_SIDE).to(kind) for _ in range(2))
    out = torch.empty(GEMM_SIDE, GEMM_SIDE, dtype=kind)

    def work() -> None:
        with torch.inference_mode():
            for _ in range(2):
                torch.mm(left, right, out=out)

    return f"torch {torch.__version__}", work, 2 * _FLOP


def _with_openvino(precision: str, threads: int) -> Made | None:
    """One product a thread, each in a stream of its own, as the engine works."""
    if importlib.util.find_spec("openvino") is None or precision == "int8":
        return None
    ov = _openvino()
    ops = ov.opset13
    rng = np.random.default_rng(0)
    values = rng.random((GEMM_SIDE, GEMM_SIDE), np.float32)
    left, right = ops.parameter(values.shape, ov.Type.f32), ops.constant(values)
    model = ov.Model([ops.matmul(left, right, False, False)], [left])
    work = _in_streams(model, values, precision, threads)
    return f"openvino {ov.__version__.split('-')[0]}", work, threads * _FLOP


def _with_convolution(precision: str, threads: int) -> Made | None:
    """Convolutions of 3x3 and 256 channels, one after another in each thread."""
    if importlib.util.find_spec("openvino") is None:
        return None
    ov = _openvino()
    work, amount = convolution_chain((256,) * 33, 3, (16, 12), precision, threads)
    return f"openvino {ov.__version__.split('-')[0]}, convolution", work, amount


def convolution_chain(
    channels: Sequence[int], side: int, size_hw: tuple[int, int], precision: str, threads: int
) -> tuple[Callable[[], object], float]:
    """Convolutions with ReLU from ``channels[0]`` to ``channels[-1]``, stride 1, by OpenVINO.

    Each thread runs the chain once; the second value is the flop of them all together.
    """
    ov = _openvino()
    ops = ov.opset13
    rng = np.random.default_rng(0)
    images = rng.random((1, channels[0], *size_hw), np.float32)
    parameter = value = ops.parameter(images.shape, ov.Type.f32)
    pairs = list(itertools.pairwise(channels))
    weights = {
        (before, after): ops.constant(
            rng.standard_normal((after, before, side, side), np.float32) / 16
        )
        for before, after in set(pairs)
    }
    pad, flop = [side // 2] * 2, 0.0
    for before, after in pairs:
        kernel = weights[before, after]
        if precision == "int8":
            kernel = ops.fake_quantize(kernel, *map(_scalar, (-1, 1, -1, 1)), 255)
            value = ops.fake_quantize(value, *map(_scalar, (0, 2, 0, 2)), 256)
        value = ops.relu(ops.convolution(value, kernel, [1, 1], pad, pad, [1, 1]))
        flop += 2.0 * side**2 * before * after * size_hw[0] * size_hw[1]
    work = _in_streams(ov.Model([value], [parameter]), images, precision, threads)
    return work, threads * flop


def _in_streams(
    model: Any, values: NDArray[Any], precision: str, threads: int
) -> Callable[[], object]:
    """Something that runs ``model`` on ``values`` once in each of ``threads`` streams."""
    ov = _openvino()
    settings = {
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        "NUM_STREAMS": str(threads),
        "INFERENCE_NUM_THREADS": str(threads),
        "ENABLE_CPU_PINNING": "NO",
    }
    compiled = compile_for_cpu(ov, model, settings)
    requests: list[Any] = [compiled.create_infer_request() for _ in range(threads)]
    for request in requests:
        request.set_input_tensor(ov.Tensor(values.copy()))

    def work() -> None:
        for request in requests:
            request.start_async()
        for request in requests:
            request.wait()

    return work


def _scalar(value: float) -> Any:
    return _openvino().opset13.constant(np.float32(value))


def _openvino() -> ModuleType:
    return require("openvino", extra="openvino", purpose="the ceiling")


def _with_numpy(precision: str, threads: int) -> Made | None:
    """NumPy's library takes all cores; with fewer threads asked for it would be unfair."""
    from hrnet_deploy.engines.cpu import physical_cores

    if precision != "fp32" or threads != physical_cores():
        return None
    rng = np.random.default_rng(0)
    left, right = (rng.random((GEMM_SIDE, GEMM_SIDE), np.float32) for _ in range(2))
    out = np.empty_like(left)
    return f"numpy {np.__version__}", lambda: np.matmul(left, right, out=out), _FLOP


def _best(work: Callable[[], object]) -> float:
    """Seconds of the best of a few runs."""
    work()
    taken = []
    for _ in range(_TRIALS):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return min(taken)
