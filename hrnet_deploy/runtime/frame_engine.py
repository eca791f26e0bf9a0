"""Engines that cut crops themselves: whole pictures go up, keypoints come back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeGuard

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.engines import Engine, EngineInfo, EngineOutput
from hrnet_deploy.engines.cuda.crops import NO_FRAME
from hrnet_deploy.runtime.crops import out_of_reach
from hrnet_deploy.runtime.geometry import CropGeometry
from hrnet_deploy.spec import ModelSpec


class Pending(Protocol):
    """A batch on its way; ``output`` is set once it arrived, also where it has NaN in it."""

    output: EngineOutput | None

    def result(self) -> EngineOutput:
        """Wait for it."""


class FrameEngine(Protocol):
    """TensorRTEngine, and FramePool for several GPUs."""

    spec: ModelSpec
    info: EngineInfo
    max_batch: int | None

    def submit_frames(
        self,
        frames_bgr: Sequence[Any],
        image_to_input: NDArray[np.float64],
        frame_of_crop: NDArray[np.integer],
        *,
        heatmaps: bool = False,
    ) -> Pending:
        """Start a batch."""


def takes_frames(engine: Engine) -> TypeGuard[FrameEngine]:
    """Whether ``engine`` cuts crops itself."""
    return hasattr(engine, "submit_frames")


def submit_persons(
    engine: FrameEngine,
    images_bgr: Sequence[NDArray[np.uint8] | None],
    geometries: Sequence[CropGeometry],
    *,
    heatmaps: bool = False,
) -> Pending:
    """Start one batch: the persons of each picture, one picture after the other.

    Each picture (H, W, 3) uint8 BGR has persons; where it is None their crops are black, as are
    those of persons too far outside of theirs.
    """
    frames: list[NDArray[np.uint8]] = []
    frame_of_crop = []
    for image, geometry in zip(images_bgr, geometries, strict=True):
        number = NO_FRAME
        black = np.zeros(len(geometry), np.bool_)
        if image is not None:
            number = len(frames)
            frames.append(image)
            black = out_of_reach(geometry, (image.shape[1], image.shape[0]))
        frame_of_crop.append(np.where(black, NO_FRAME, number))
    whole = CropGeometry.concatenate(geometries, engine.spec.input_size_wh)
    numbers = np.concatenate(frame_of_crop).astype(np.int32)
    return engine.submit_frames(frames, whole.image_to_input, numbers, heatmaps=heatmaps)
