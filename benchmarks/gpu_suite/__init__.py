"""The sections of ``benchmarks/gpu.py``: each module has ``run(context) -> findings``."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from sections import Missing

SECTIONS = {
    "prepare": "prepare",
    "machine": "machine",
    "tests": "gpu_tests",
    "crops": "crops",
    "torch": "torch_peers",
    "onnxruntime": "onnxruntime_peer",
    "tensorrt": "tensorrt_engine",
    "plain": "plain_tensorrt",
    "accuracy": "accuracy",
}
"""Names on the command line, and the modules behind them, in the order in which they run."""

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True)
class Model:
    """One network of the suite; ``width`` None is the small trained one that comes along."""

    name: str
    width: int | None
    size_hw: tuple[int, int]


MODELS = (
    Model("small-128x96", None, (128, 96)),
    Model("w32-256x192", 32, (256, 192)),
    Model("w32-384x288", 32, (384, 288)),
    Model("w48-256x192", 48, (256, 192)),
    Model("w48-384x288", 48, (384, 288)),
)


@dataclass(frozen=True)
class Context:
    """Where the suite keeps its files, whether it is in a hurry, and on what it measures.

    ``only`` names networks, none means all. ``keep`` takes what a section found so far: nothing
    is lost of it if the rest fails.
    """

    work: Path
    quick: bool
    device: str
    only: tuple[str, ...] = ()
    keep: Callable[[dict[str, Any]], None] = lambda found: None

    @property
    def batches(self) -> tuple[int, ...]:
        """Batch sizes to sweep."""
        return BATCHES[:4] if self.quick else BATCHES

    @property
    def seconds(self) -> float:
        """How long one figure is measured."""
        return 0.2 if self.quick else 2.0

    @property
    def on_gpu(self) -> bool:
        """Whether this is the real thing; "cpu" only tries the code."""
        return self.device.startswith("cuda")


def needed(module: str) -> ModuleType:
    """Import ``module``, or say that the section has to do without."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise Missing(f"{module} cannot be imported ({error})") from error


def needed_torch(context: Context) -> ModuleType:
    """PyTorch, on the device of the suite."""
    torch = needed("torch")
    if context.on_gpu and not torch.cuda.is_available():
        raise Missing(f"torch {torch.__version__} sees no CUDA device")
    return torch


def needed_gpu(context: Context) -> None:
    """Say that a section needs a GPU where there is none."""
    from hrnet_deploy.engines.cuda.probe import probe

    problem = probe().problem
    if context.on_gpu and problem is not None:
        raise Missing(problem)
