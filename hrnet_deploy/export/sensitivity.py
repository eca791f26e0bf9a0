"""What each block of a network loses in 8 bit, in keypoint pixels."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.engines import EngineOutput, load_engine
from hrnet_deploy.export.gates import CONFIDENT_SCORE
from hrnet_deploy.files import write_scratch
from hrnet_deploy.spec import ModelSpec

if TYPE_CHECKING:
    import onnx

_BLOCK = re.compile(
    r"layer1\.\d+|stage\d+\.\d+\.branches\.\d+\.\d+|stage\d+\.\d+\.fuse_layers\.\d+|transition\d+"
)

BuildWith = Callable[[frozenset[str]], "onnx.ModelProto"]
"""The network with these convolutions in 8 bit, without flip-test."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class BlockLoss:
    """What happens when only this block is quantised; ``layers`` are its convolutions.

    ``mean_px`` and ``p95_px`` are distances in input pixels over the keypoints that float32 is
    sure of (all, where it is sure of none); ``heatmap_mean`` is the mean absolute error.
    """

    block: str
    layers: tuple[str, ...]
    mean_px: float
    p95_px: float
    heatmap_mean: float


def blocks_of(convolutions: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Convolutions by residual block, fused output or transition, in the order of the network."""
    blocks: dict[str, tuple[str, ...]] = {}
    for name in convolutions:
        match = _BLOCK.match(name)
        block = match[0] if match else name
        blocks[block] = (*blocks.get(block, ()), name)
    return blocks


def measure_blocks(
    blocks: dict[str, tuple[str, ...]],
    build: BuildWith,
    crops_nhwc: NDArray[np.uint8],
    *,
    threads: int | None = None,
    progress: Progress = lambda done, total: None,
) -> list[BlockLoss]:
    """Quantise one block at a time and compare with float32, the worst first.

    ``crops_nhwc`` (N >= 1, h, w, 3) uint8 BGR. Blocks that move no keypoint are ranked by the
    heatmaps, equal ones by name.
    """
    expected, spec = _run(build(frozenset()), crops_nhwc, threads)
    losses = []
    for done, (block, layers) in enumerate(blocks.items(), start=1):
        got, _ = _run(build(frozenset(layers)), crops_nhwc, threads)
        losses.append(_loss(block, layers, expected, got, spec))
        progress(done, len(blocks))
    return sorted(losses, key=lambda loss: (-loss.mean_px, -loss.heatmap_mean, loss.block))


def _run(
    model: onnx.ModelProto, crops_nhwc: NDArray[np.uint8], threads: int | None
) -> tuple[EngineOutput, ModelSpec]:
    with tempfile.TemporaryDirectory(prefix="hrnet-deploy-") as folder:
        path = Path(folder) / "block.onnx"
        write_scratch(path, model.SerializeToString())
        with load_engine(path, backend="onnxruntime", threads=threads) as engine:
            return engine.run(crops_nhwc, heatmaps=True), engine.spec


def _loss(
    block: str, layers: tuple[str, ...], expected: EngineOutput, got: EngineOutput, spec: ModelSpec
) -> BlockLoss:
    stride = np.divide(spec.input_size_wh, spec.heatmap_size_wh)
    moved = (got.keypoints_heatmap - expected.keypoints_heatmap) * stride
    distance_px = np.linalg.norm(moved, axis=2)
    confident = expected.scores > CONFIDENT_SCORE
    chosen = distance_px[confident] if confident.any() else distance_px.ravel()
    maps = [output.heatmaps_nkhw for output in (got, expected)]
    error = 0.0 if maps[0] is None or maps[1] is None else float(np.abs(maps[0] - maps[1]).mean())
    p95 = float(np.percentile(chosen, 95))
    return BlockLoss(block, layers, float(chosen.mean()), p95, error)
