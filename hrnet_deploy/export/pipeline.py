"""What surrounds the network in the graph: normalisation, flip-test and decoding.

Every operator is one that TensorRT 8.6 to 11 take; shapes are constants but for the batch.
"""

from __future__ import annotations

import numpy as np

from hrnet_deploy.export.graph import GraphWriter
from hrnet_deploy.spec import KEYPOINTS_NAME, SCORES_NAME, ModelSpec

IMAGES, MIRRORED, HALVES, REVERSED = "normalise", "mirror.batch", "flip.halves", "crops.rgb"
"""Nodes by which ``export/bare.py`` finds the network in a file: its input without and with mirror
images, the two halves of its output, and the crops with their channels turned round.
"""

PIXEL_RANGE = 255.0

QUARTER_OFFSET = 0.25
"""Sub-pixel step towards the higher neighbour (official HRNet, ``lib/core/inference.py``)."""

DARK_FLOOR = 1e-10
"""Lower bound under the logarithm (Zhang et al., CVPR 2020, official DARK ``inference.py``)."""

DARK_KERNELS = {False: 11, True: 17}
"""Side of the smoothing kernel for heatmaps below and from ``DARK_LARGE`` rows on (mmpose)."""

DARK_LARGE = 96


def normalise(graph: GraphWriter, crops: str, spec: ModelSpec, *, reverse: bool) -> str:
    """Crops (N, h, w, 3) uint8 BGR to images (N, 3, h, w) float32, normalised.

    With ``reverse`` the channels come out as RGB; otherwise they stay BGR, with the statistics
    in that order.
    """
    x = graph.cast(crops, np.float32, "crops.float")
    x = graph.node("Transpose", [x], "crops.planes", perm=[0, 3, 1, 2])
    mean, std = np.array(spec.mean_rgb[::-1]), np.array(spec.std_rgb[::-1])
    if reverse:
        x = graph.node("Gather", [x, graph.integers(2, 1, 0)], REVERSED, axis=1)
        mean, std = mean[::-1], std[::-1]
    factor = graph.constant("normalise.factor", _channels(1 / (PIXEL_RANGE * std)))
    offset = graph.constant("normalise.offset", _channels(-mean / std))
    x = graph.node("Mul", [x, factor], "normalise.scaled")
    return graph.node("Add", [x, offset], IMAGES)


def _channels(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32).reshape(1, 3, 1, 1)


def with_mirrored(graph: GraphWriter, images: str, spec: ModelSpec) -> str:
    """Images (N, 3, h, w) and their mirror images as one batch of 2N, the originals first."""
    width = spec.input_size_hw[1]
    columns = graph.constant("mirror.columns", np.arange(width - 1, -1, -1, dtype=np.int64))
    mirrored = graph.node("Gather", [images, columns], "mirror", axis=3)
    return graph.node("Concat", [images, mirrored], MIRRORED, axis=0)


def merge_mirrored(graph: GraphWriter, heatmaps: str, spec: ModelSpec, name: str) -> str:
    """Heatmaps (2N, K, h, w) of a mirrored batch to their flip-test average (N, K, h, w).

    The mirrored half is turned back, left and right channels swap, and with ``shift_heatmap``
    it moves right by one pixel while column 0 keeps its own value (official HRNet,
    ``lib/core/function.py``). One Gather does the turning and the shift.
    """
    height, width = spec.heatmap_size_hw
    shape = graph.integers(2, -1, spec.joints, height, width)
    halves = graph.node("Reshape", [heatmaps, shape], HALVES)
    straight, mirrored = (
        graph.node("Gather", [halves, graph.constant(f"flip.half{i}", np.array(i))], n, axis=0)
        for i, n in enumerate(("flip.straight", "flip.mirrored"))
    )
    columns = np.arange(width - 1, -1, -1, dtype=np.int64)
    if spec.shift_heatmap:
        columns = np.concatenate([columns[:1], columns[:-1]])
    swapped = graph.constant("flip.channels", flip_order(spec))
    back = graph.constant("flip.columns", columns)
    turned = graph.node("Gather", [mirrored, swapped], "flip.swapped", axis=1)
    turned = graph.node("Gather", [turned, back], "flip.turned", axis=3)
    total = graph.node("Add", [straight, turned], "flip.sum")
    half = graph.constant("flip.weight", np.array(0.5, np.float32))
    return graph.node("Mul", [total, half], name)


def flip_order(spec: ModelSpec) -> np.ndarray:
    """The channel (K,) int64 that each channel of a mirrored person came from."""
    order = np.arange(spec.joints, dtype=np.int64)
    for left, right in spec.flip_pairs or ():
        order[left], order[right] = right, left
    return order


def decode(graph: GraphWriter, heatmaps: str, spec: ModelSpec) -> None:
    """Write the nodes of ``keypoints`` (N, K, 2) and ``scores`` (N, K) from the heatmaps.

    The place of the first maximum, zero where the maximum is not positive, refined to a fraction
    of a pixel by the spec's rule where the peak lies far enough from the border.
    """
    height, width = spec.heatmap_size_hw
    cells = graph.integers(-1, spec.joints, height * width)
    flat = graph.node("Reshape", [heatmaps, cells], "decode.flat")
    peak = graph.node("ArgMax", [flat], "decode.peak", axis=2, keepdims=1)
    maximum = graph.node("GatherElements", [flat, peak], "decode.maximum", axis=2)
    row = graph.node("Div", [peak, graph.integers(width)], "decode.row")
    above = graph.node("Mul", [row, graph.integers(width)], "decode.above")
    column = graph.node("Sub", [peak, above], "decode.column")
    zero = graph.constant("decode.zero", np.array(0, np.float32))
    positive = graph.node("Greater", [maximum, zero], "decode.positive")
    offsets = _offsets(graph, flat, heatmaps, spec, peak, column, row, positive)
    axes = []
    for axis, cell in (("x", column), ("y", row)):
        place = graph.cast(cell, np.float32, f"decode.{axis}.cell")
        if axis in offsets:
            place = graph.node("Add", [place, offsets[axis]], f"decode.{axis}.refined")
        axes.append(graph.node("Where", [positive, place, zero], f"decode.{axis}"))
    graph.node("Concat", axes, KEYPOINTS_NAME, axis=2)
    graph.node("Reshape", [maximum, graph.integers(-1, spec.joints)], SCORES_NAME)


def _offsets(
    graph: GraphWriter,
    flat: str,
    heatmaps: str,
    spec: ModelSpec,
    peak: str,
    column: str,
    row: str,
    positive: str,
) -> dict[str, str]:
    """Sub-pixel offsets (N, K, 1) for x and y; empty for plain arg-max."""
    if spec.decode == "none":
        return {}
    margin = 2 if spec.decode == "dark" else 1
    inside = _inside(graph, spec, column, row, positive, margin)
    # A peak outside is replaced by a cell whose neighbours all exist; its offset is dropped below.
    width = spec.heatmap_size_hw[1]
    cell = graph.node("Where", [inside, peak, graph.integers(2 * width + 2)], "decode.cell")
    around = _Neighbours(graph, flat, cell, width)
    if spec.decode == "dark":
        around.flat = _log_smoothed(graph, heatmaps, flat, spec)
        offsets = _newton_step(graph, around)
    else:
        offsets = _quarter_step(graph, around)
    zero = "decode.zero"
    return {
        axis: graph.node("Where", [inside, value, zero], f"decode.{axis}.offset")
        for axis, value in offsets.items()
    }


def _inside(
    graph: GraphWriter, spec: ModelSpec, column: str, row: str, positive: str, margin: int
) -> str:
    """Where 1 < x < w - margin and 1 < y < h - margin hold jointly and the peak is positive."""
    height, width = spec.heatmap_size_hw
    inside = positive
    for name, cell, side in (("x", column, width), ("y", row, height)):
        low = graph.node("Greater", [cell, graph.integers(1)], f"decode.{name}.low")
        high = graph.node("Less", [cell, graph.integers(side - margin)], f"decode.{name}.high")
        inside = graph.node("And", [inside, low], f"decode.{name}.from")
        inside = graph.node("And", [inside, high], f"decode.{name}.inside")
    return inside


class _Neighbours:
    """Reads the cells around each peak from a flat heatmap (N, K, h*w)."""

    def __init__(self, graph: GraphWriter, flat: str, cell: str, width: int) -> None:
        self.graph, self.flat, self.cell, self.width = graph, flat, cell, width
        self._read: dict[tuple[int, int], str] = {}

    def at(self, dx: int, dy: int) -> str:
        """The value (N, K, 1) ``dx`` columns right of and ``dy`` rows below the peak."""
        if (dx, dy) not in self._read:
            name = f"decode.at_{dx}_{dy}".replace("-", "m")
            place = self.cell
            if step := dx + dy * self.width:
                place = self.graph.node(
                    "Add", [self.cell, self.graph.integers(step)], f"{name}.place"
                )
            self._read[dx, dy] = self.graph.node("GatherElements", [self.flat, place], name, axis=2)
        return self._read[dx, dy]


def _quarter_step(graph: GraphWriter, around: _Neighbours) -> dict[str, str]:
    """A quarter of a pixel towards the higher neighbour, zero where they are equal."""
    quarter = graph.constant("decode.quarter", np.array(QUARTER_OFFSET, np.float32))
    offsets = {}
    for axis, (dx, dy) in (("x", (1, 0)), ("y", (0, 1))):
        slope = graph.node("Sub", [around.at(dx, dy), around.at(-dx, -dy)], f"decode.{axis}.slope")
        sign = graph.node("Sign", [slope], f"decode.{axis}.sign")
        offsets[axis] = graph.node("Mul", [sign, quarter], f"decode.{axis}.quarter")
    return offsets


def _log_smoothed(graph: GraphWriter, heatmaps: str, flat: str, spec: ModelSpec) -> str:
    """The logarithm (N, K, h*w) of heatmaps smoothed at unchanged peak height (DARK)."""
    import cv2

    height, width = spec.heatmap_size_hw
    side = DARK_KERNELS[height >= DARK_LARGE]
    line = cv2.getGaussianKernel(side, 0)
    planes = graph.node("Reshape", [heatmaps, graph.integers(-1, 1, height, width)], "dark.planes")
    for name, kernel in (("dark.rows", line), ("dark.smooth", line.T)):
        weight = graph.constant(f"{name}.weight", kernel.astype(np.float32)[None, None])
        rows, columns = kernel.shape
        pads = [rows // 2, columns // 2] * 2
        planes = graph.node("Conv", [planes, weight], name, kernel_shape=[rows, columns], pads=pads)
    cells = graph.integers(-1, spec.joints, height * width)
    smooth = graph.node("Reshape", [planes, cells], "dark.flat")
    before = graph.maximum(flat, "dark.before", axis=2)
    after = graph.maximum(smooth, "dark.after", axis=2)
    ratio = graph.node("Div", [before, after], "dark.ratio")
    smooth = graph.node("Mul", [smooth, ratio], "dark.rescaled")
    floor = graph.constant("dark.floor", np.array(DARK_FLOOR, np.float32))
    return graph.node("Log", [graph.node("Max", [smooth, floor], "dark.floored")], "dark.log")


def _newton_step(graph: GraphWriter, around: _Neighbours) -> dict[str, str]:
    """One Newton step on the logarithm: minus inverse Hessian times gradient (DARK, eq. 7)."""
    at = around.at

    def constant(value: float) -> str:
        return graph.constant(f"dark.{value}", np.array(value, np.float32))

    def combine(name: str, plus: list[str], minus: list[str], factor: float) -> str:
        total = plus[0]
        for index, term in enumerate(plus[1:]):
            total = graph.node("Add", [total, term], f"{name}.plus{index}")
        for index, term in enumerate(minus):
            total = graph.node("Sub", [total, term], f"{name}.minus{index}")
        return graph.node("Mul", [total, constant(factor)], name)

    here = at(0, 0)
    dx = combine("dark.dx", [at(1, 0)], [at(-1, 0)], 0.5)
    dy = combine("dark.dy", [at(0, 1)], [at(0, -1)], 0.5)
    dxx = combine("dark.dxx", [at(2, 0), at(-2, 0)], [here, here], 0.25)
    dyy = combine("dark.dyy", [at(0, 2), at(0, -2)], [here, here], 0.25)
    dxy = combine("dark.dxy", [at(1, 1), at(-1, -1)], [at(1, -1), at(-1, 1)], 0.25)

    def product(name: str, a: str, b: str) -> str:
        return graph.node("Mul", [a, b], name)

    determinant = graph.node(
        "Sub", [product("dark.dxx_dyy", dxx, dyy), product("dark.dxy_dxy", dxy, dxy)], "dark.det"
    )
    size = graph.node("Abs", [determinant], "dark.det.size")
    regular = graph.node("Greater", [size, "decode.zero"], "dark.regular")
    divisor = graph.node("Where", [regular, determinant, constant(1.0)], "dark.divisor")
    steps = {
        "x": (product("dark.dxy_dy", dxy, dy), product("dark.dyy_dx", dyy, dx)),
        "y": (product("dark.dxy_dx", dxy, dx), product("dark.dxx_dy", dxx, dy)),
    }
    offsets = {}
    for axis, (plus, minus) in steps.items():
        numerator = graph.node("Sub", [plus, minus], f"dark.{axis}.numerator")
        step = graph.node("Div", [numerator, divisor], f"dark.{axis}.step")
        offsets[axis] = graph.node("Where", [regular, step, "decode.zero"], f"dark.{axis}")
    return offsets
