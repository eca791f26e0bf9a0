"""What every family of detectors decodes to, and the signature by which it is recognised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int | None, ...]
Arrays = dict[str, NDArray[np.float64]]

_ONE_PICTURE = 3
"""Sides of an input without a batch."""
_IMAGE_ROW = 7
"""Columns of a table that begins with the picture's place in the batch."""


@dataclass(frozen=True)
class Signature:
    """Names with element types and shapes of a graph's inputs and outputs; free sides are None."""

    inputs: dict[str, tuple[str, Shape]]
    outputs: dict[str, Shape]

    @property
    def image(self) -> str:
        """The name of the input that takes the picture: the first with four or three sides."""
        named = (name for name, (_, shape) in self.inputs.items() if len(shape) in (3, 4))
        return next(named, next(iter(self.inputs), ""))

    @property
    def channels_last(self) -> bool:
        """Whether the picture goes in as (.., H, W, 3)."""
        return self.inputs[self.image][1][-1] == 3

    @property
    def size_hw(self) -> tuple[int | None, int | None]:
        """The picture's sides, None where they are free."""
        shape = self.inputs[self.image][1]
        return (shape[-3], shape[-2]) if self.channels_last else (shape[-2], shape[-1])

    @property
    def batch(self) -> int | None:
        """How many pictures go in at once; None where any number does."""
        shape = self.inputs[self.image][1]
        if len(shape) == _ONE_PICTURE:
            return 1
        if shape[0] is not None:
            return shape[0]
        free = all(_is_free(output) for output in self.outputs.values())
        return None if free else 1  # the exporter left it open at the entrance only


def _is_free(output: Shape) -> bool:
    return bool(output) and (output[0] is None or _names_pictures(output))


def _names_pictures(shape: Shape) -> bool:
    """Whether an output is one table over all pictures, whose first column says which."""
    flat = len(shape) == 2 or (len(shape) == 4 and shape[:2] == (1, 1))
    return flat and shape[-1] == _IMAGE_ROW


def of_picture(outputs: Arrays, index: int, batch: int) -> Arrays:
    """What a batch of ``batch`` pictures gave for the one at ``index``, as if it were alone."""
    if batch == 1:
        return outputs
    own = {}
    for name, array in outputs.items():
        if _names_pictures(array.shape):
            rows = array.reshape(-1, _IMAGE_ROW)
            rows = rows[rows[:, 0] == index]
            own[name] = rows if array.ndim == 2 else rows[None, None]
        else:
            own[name] = array[index : index + 1]
    return own


@dataclass(frozen=True, eq=False)
class Candidates:
    """M boxes of persons, before threshold and suppression.

    ``xyxy`` (M, 4) float64 in the ``frame`` "input" (pixels of the network's input), "unit"
    (fractions of it) or "image" (pixels of the picture); ``scores`` (M,).
    """

    xyxy: NDArray[np.float64]
    scores: NDArray[np.float64]
    frame: Literal["input", "unit", "image"]


def from_centers(cxcywh: NDArray[np.float64]) -> NDArray[np.float64]:
    """Boxes (M, 4) as centre and size to edges."""
    half = cxcywh[:, 2:] / 2
    return np.concatenate([cxcywh[:, :2] - half, cxcywh[:, :2] + half], axis=1)


def grid(
    size_hw: tuple[int, int], strides: tuple[int, ...], *, ceil: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cell indices (M, 2) as x, y and the stride (M,) of each, rows first, fine levels first."""
    cells, steps = [], []
    for stride in strides:
        rows, columns = (-(-s // stride) if ceil else s // stride for s in size_hw)
        y, x = np.divmod(np.arange(rows * columns, dtype=np.float64), columns)
        cells.append(np.stack([x, y], axis=1))
        steps.append(np.full(rows * columns, float(stride)))
    return np.concatenate(cells), np.concatenate(steps)


def cells(size_hw: tuple[int, int], strides: tuple[int, ...], *, ceil: bool) -> int:
    """How many there are."""
    return len(grid(size_hw, strides, ceil=ceil)[1])
