"""A slot holds the buffers and events of one batch on its way through the GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.engines import EngineOutput
from hrnet_deploy.engines.cuda.device import Device, PinnedArray
from hrnet_deploy.engines.cuda.frames import FrameUpload
from hrnet_deploy.spec import HEATMAPS_NAME, KEYPOINTS_NAME, SCORES_NAME, ModelSpec

FLOAT_BYTES = 4


class Slot:
    """Device and pinned memory for ``max_batch`` crops and their results."""

    def __init__(self, device: Device, spec: ModelSpec, max_batch: int) -> None:
        self._device = device
        self._spec = spec
        self._max_batch = max_batch
        self.crop_shape = (*spec.input_size_hw, 3)
        self.crop_bytes = int(np.prod(self.crop_shape))
        self.crops = device.allocate(max_batch * self.crop_bytes)
        self.staging = device.pinned((max_batch, *self.crop_shape), np.uint8)
        self.frames = FrameUpload(device)
        self.uploaded, self.computed, self.done = (device.event() for _ in range(3))
        self.owner: object | None = None
        self.borrowed: object | None = None
        """Somebody else's arrays that the GPU still reads."""
        self.outputs = {
            name: device.allocate(max_batch * int(np.prod(shape)) * FLOAT_BYTES)
            for name, shape in output_shapes(spec).items()
        }
        self._results: dict[str, PinnedArray] = {}

    def download(self, count: int, *, heatmaps: bool, stream: Any) -> None:
        """Enqueue the copy of ``count`` results; heatmaps only where they are asked for."""
        shapes = output_shapes(self._spec)
        for name in wanted(heatmaps):
            if name not in self._results:
                shape = (self._max_batch, *shapes[name])
                self._results[name] = self._device.pinned(shape, np.float32)
            size = count * int(np.prod(shapes[name])) * FLOAT_BYTES
            self._device.download(self._results[name].address, self.outputs[name], size, stream)

    def results(self, count: int, *, heatmaps: bool) -> EngineOutput:
        """Copies of what ``download`` brought, once ``done`` has passed."""
        found: dict[str, NDArray[np.float32]] = {
            name: self._results[name].array[:count].copy() for name in wanted(heatmaps)
        }
        return EngineOutput(found[KEYPOINTS_NAME], found[SCORES_NAME], found.get(HEATMAPS_NAME))


def output_shapes(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """The shape of each output of one crop."""
    shapes: dict[str, tuple[int, ...]] = {
        KEYPOINTS_NAME: (spec.joints, 2),
        SCORES_NAME: (spec.joints,),
    }
    if spec.has_heatmaps:
        shapes[HEATMAPS_NAME] = (spec.joints, *spec.heatmap_size_hw)
    return shapes


def wanted(heatmaps: bool) -> tuple[str, ...]:
    """The outputs to bring back."""
    return (KEYPOINTS_NAME, SCORES_NAME) + ((HEATMAPS_NAME,) if heatmaps else ())
