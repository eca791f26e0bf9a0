"""An engine in numpy: keypoints are the brightest blocks of a colour, as in ``tests.tiny``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from hrnet_deploy.engines import Engine, EngineInfo, EngineOutput
from hrnet_deploy.spec import ModelSpec


class ColourEngine(Engine):
    """``before`` is called with the number of each batch, and may raise or wait.

    ``batches`` records what came in. Keypoint k is the peak of colour k % 3.
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        before: Callable[[int], None] = lambda number: None,
        max_batch: int | None = None,
        **info: Any,
    ) -> None:
        known = EngineInfo("numpy", "cpu", "colour.onnx", "c" * 64, "fp32", {"numpy": "1"})
        super().__init__(spec, dataclasses.replace(known, **info), max_batch)
        self.batches: list[np.ndarray] = []
        self._before = before

    def _infer(self, crops_nhwc: np.ndarray, *, heatmaps: bool) -> EngineOutput:
        self._before(len(self.batches))
        self.batches.append(crops_nhwc.copy())
        height, width = self.spec.heatmap_size_hw
        pooled = crops_nhwc.reshape(len(crops_nhwc), height, 4, width, 4, 3).mean((2, 4)) / 255
        flat = pooled.transpose(0, 3, 1, 2).reshape(len(crops_nhwc), 3, -1).astype(np.float32)
        chosen = flat[:, np.arange(self.spec.joints) % 3]
        peak = chosen.argmax(axis=2)
        keypoints = np.stack([peak % width, peak // width], axis=2).astype(np.float32)
        return EngineOutput(keypoints, chosen.max(axis=2))
