"""What travels through a prediction: a frame, its boxes, and what was found in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.errors import DeployError
from hrnet_deploy.runtime.pose import Poses


@dataclass(frozen=True, eq=False)
class Frame:
    """A picture, or a frame of a video.

    ``source`` is the file (or camera) as the user named it, ``relative`` the name that outputs
    beside it take, ``place`` which of the sources it is. ``number`` counts the frames of a video
    from 0 and ``time_s`` is its time in seconds; both are None for a picture. ``orientation`` is
    the EXIF orientation of the file (1: as stored); ``turned`` whether the pixels were turned by
    it. ``image_bgr`` is (H, W, 3) uint8, None where it could not be read (``error`` says why) or
    is not needed; ``known_size_wh`` is its size then, where that is known.
    """

    source: str
    relative: PurePath
    image_bgr: NDArray[np.uint8] | None
    place: int = 0
    number: int | None = None
    time_s: float | None = None
    orientation: int = 1
    turned: bool = False
    error: DeployError | None = None
    known_size_wh: tuple[int, int] | None = None

    @property
    def size_wh(self) -> tuple[int, int] | None:
        """Width and height in pixels; None where they are not known."""
        if self.image_bgr is None:
            return self.known_size_wh
        return self.image_bgr.shape[1], self.image_bgr.shape[0]


@dataclass(frozen=True, eq=False)
class Boxes:
    """N persons of a frame: ``xyxy`` (N, 4) float64 pixels, ``scores`` (N,) float64 in 0..1.

    ``ids`` (N,) int64 are track numbers where the boxes came with them. N may be 0.
    """

    xyxy: NDArray[np.float64]
    scores: NDArray[np.float64]
    ids: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.xyxy)


def no_boxes() -> Boxes:
    """Nobody."""
    return Boxes(np.zeros((0, 4)), np.zeros(0))


class Finder(ABC):
    """Finds the persons of frames, ``at_once`` of them together."""

    at_once = 1

    @abstractmethod
    def many(self, frames: Sequence[Frame]) -> list[Boxes]:
        """The boxes of each frame, in pixels of it."""

    def __call__(self, frame: Frame) -> Boxes:
        """The boxes of one frame."""
        return self.many([frame])[0]


@dataclass(frozen=True, eq=False)
class Predicted:
    """The poses of a frame; with an ``error`` it has none.

    ``heatmaps_nkhw`` (N, K, h, w) float32 only where they were asked for. ``ids`` (N,) are track
    numbers, None without tracking. ``replayed`` results come from the journal of an earlier run.
    ``second_passes`` counts the persons that an adaptive flip-test looked at twice.
    """

    frame: Frame
    boxes: Boxes
    poses: Poses
    ids: NDArray[np.int64] | None = None
    heatmaps_nkhw: NDArray[np.float32] | None = field(default=None, repr=False)
    error: DeployError | None = None
    replayed: bool = False
    second_passes: int = 0
