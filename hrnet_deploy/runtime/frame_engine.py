"""Engines that cut crops themselves: whole pictures go up, keypoints come back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeGuard

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.engines import Engine, EngineInfo, EngineOutput
from hrnet_deploy.engines.cuda.crops import NO_FRAME
from hrnet_deploy.runtime.crops import crop_into, out_of_reach
from hrnet_deploy.runtime.geometry import CropGeometry
from hrnet_deploy.spec import ModelSpec

CUT_COST = 32
"""To cut a byte of a crop takes as long as to copy so many bytes of pictures.

cv2.warpAffine against memcpy, one thread each, x86-64: 25 to 37 for crops of 256x192 and 384x288
of pictures of 640x480 and 1920x1080.
"""

Images = Sequence[NDArray[np.uint8] | None]

Persons = tuple[list[NDArray[np.uint8]], NDArray[np.float64], NDArray[np.int32]]
"""The first three arguments of ``FrameEngine.submit_frames``."""


class Pending(Protocol):
    """A batch on its way; ``output`` is set once it arrived, also where it has NaN in it."""

    output: EngineOutput | None

    def result(self) -> EngineOutput:
        """Wait for it."""


class FrameEngine(Protocol):
    """TensorRTEngine, and FramePool for several GPUs; ``gpus`` says how many share a batch."""

    gpus: int
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
    images_bgr: Images,
    geometries: Sequence[CropGeometry],
    *,
    heatmaps: bool = False,
) -> Pending:
    """Start one batch: the persons of each picture, one picture after the other.

    Each picture (H, W, 3) uint8 BGR has persons; where it is None their crops are black, as are
    those of persons too far outside of theirs. A pool is given crops instead of pictures where
    that is less work here; the crops are the same.
    """
    laid_out = _cut_here if _is_cheaper_cut_here(engine, images_bgr, geometries) else _whole
    persons = laid_out(images_bgr, geometries, engine.spec.input_size_wh)
    return engine.submit_frames(*persons, heatmaps=heatmaps)


def _is_cheaper_cut_here(
    engine: FrameEngine, images_bgr: Images, geometries: Sequence[CropGeometry]
) -> bool:
    """Whether to cut crops takes less time than to copy pictures to the processes of a pool."""
    width, height = engine.spec.input_size_wh
    crop_bytes = 3 * width * height * sum(len(geometry) for geometry in geometries)
    frame_bytes = sum(image.nbytes for image in images_bgr if image is not None)
    return engine.gpus > 1 and CUT_COST * crop_bytes < frame_bytes


def _whole(
    images_bgr: Images, geometries: Sequence[CropGeometry], input_size_wh: tuple[int, int]
) -> Persons:
    """The pictures as they are."""
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
    whole = CropGeometry.concatenate(geometries, input_size_wh)
    return frames, whole.image_to_input, np.concatenate(frame_of_crop).astype(np.int32)


def _cut_here(
    images_bgr: Images, geometries: Sequence[CropGeometry], input_size_wh: tuple[int, int]
) -> Persons:
    """Crops in place of pictures: a frame for each person, of which nothing has to be cut."""
    width, height = input_size_wh
    frames: list[NDArray[np.uint8]] = []
    frame_of_crop: list[int] = []
    for image, geometry in zip(images_bgr, geometries, strict=True):
        if image is None:
            frame_of_crop += [NO_FRAME] * len(geometry)
            continue
        crops = np.empty((len(geometry), height, width, 3), np.uint8)
        crop_into(image, geometry, crops)
        frame_of_crop += range(len(frames), len(frames) + len(crops))
        frames += list(crops)
    as_they_are = np.tile(np.eye(2, 3), (len(frame_of_crop), 1, 1))
    return frames, as_they_are, np.array(frame_of_crop, np.int32)
