"""Hand-made detectors with the outputs of every family: each finds the one bright red rectangle.

The rectangle's edges come from the picture by reductions; what follows puts them into the form of
the family. Grid families say the same box in every cell, so that a cell that is decoded wrongly
shows up as a second box.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, compose, helper, numpy_helper

F, I = TensorProto.FLOAT, TensorProto.INT64  # noqa: E741
SIZE_HW = (128, 192)


class Graph:
    """Collects nodes; methods named after operators return the name of their output."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def const(self, value: Any, kind: Any = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, kind), name))
        return name

    def op(self, kind: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        name = out or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def save(self, path: Path, inputs: list[Any], outputs: list[Any]) -> Path:
        graph = helper.make_graph(self.nodes, "detector", inputs, outputs, self.constants)
        opsets = [helper.make_opsetid("", 17)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        path.write_bytes(model.SerializeToString())
        return path


def edges(g: Graph, red: int, threshold: float, *, last: bool = False) -> tuple[str, str]:
    """Edges (4,) of the pixels whose red is above ``threshold``, and whether there are any (1,)."""
    image = g.op("Cast", "images", to=F)
    plane = g.op("Gather", image, g.const(red, np.int64), axis=3 if last else 1)
    mask = g.op("Cast", g.op("Greater", plane, g.const(threshold)), to=F)  # (1, H, W)
    found = g.op("Reshape", g.op("ReduceMax", mask, keepdims=0), g.const([1], np.int64))
    low, high = [], []
    for axis in (1, 2):
        line = g.op("ReduceMax", mask, axes=[0, axis], keepdims=0)
        size = g.op("Shape", line)
        stop = g.op("Squeeze", size)
        index = g.op("Cast", g.op("Range", g.const(0, I_), stop, g.const(1, I_)), to=F)
        far = g.op("Mul", g.op("Sub", g.const(1.0), line), g.const(1e4))
        low.append(g.op("ReduceMin", g.op("Add", index, far), keepdims=1))
        one_more = g.op("Mul", g.op("Add", index, g.const(1.0)), line)
        high.append(g.op("ReduceMax", one_more, keepdims=1))
    return g.op("Concat", *low, *high, axis=0), found


I_ = np.int64


def centers(g: Graph, xyxy: str) -> str:
    """Centre and size (4,) of edges (4,)."""
    matrix = [[0.5, 0, -1, 0], [0, 0.5, 0, -1], [0.5, 0, 1, 0], [0, 0.5, 0, 1]]
    return g.op("MatMul", xyxy, g.const(matrix))


def image_input(kind: int = F, shape: Any = (1, 3, *SIZE_HW)) -> Any:
    return helper.make_tensor_value_info("images", kind, shape)


def value(name: str, shape: Any) -> Any:
    return helper.make_tensor_value_info(name, F, shape)


def cell_grid(strides: tuple[int, ...], *, ceil: bool) -> tuple[np.ndarray, np.ndarray]:
    cells, steps = [], []
    for stride in strides:
        rows, columns = ((s + stride - 1) // stride if ceil else s // stride for s in SIZE_HW)
        for row in range(rows):
            for column in range(columns):
                cells.append((column, row))
                steps.append(stride)
    return np.array(cells, np.float32), np.array(steps, np.float32)[:, None]


def yolox(path: Path, *, decoded: bool = False) -> Path:
    g = Graph()
    xyxy, found = edges(g, red=2, threshold=200)
    cells, steps = cell_grid((8, 16, 32), ceil=False)
    box = centers(g, xyxy)
    xy, wh = (g.op("Slice", box, g.const([a], I_), g.const([a + 2], I_)) for a in (0, 2))
    if decoded:
        low, high = cells * steps, (cells + 1) * steps
        near = g.op("Min", g.op("Max", xy, g.const(low)), g.const(high))
        off = g.op("ReduceMax", g.op("Abs", g.op("Sub", near, xy)), axes=[1], keepdims=1)
        inside = g.op("Cast", g.op("Less", off, g.const(0.01)), to=F)
        place, size = near, g.op("Add", wh, g.const(np.zeros_like(cells)))
        score = g.op("Mul", inside, found)
    else:
        place = g.op("Sub", g.op("Div", xy, g.const(steps)), g.const(cells))
        size = g.op("Log", g.op("Max", g.op("Div", wh, g.const(steps)), g.const(1e-6)))
        score = g.op("Mul", g.const(np.ones_like(steps)), found)
    zeros = g.const(np.zeros((len(steps), 1)))
    person = g.op("Mul", score, g.const(0.9))
    table = g.op("Concat", place, size, score, person, zeros, axis=1)
    g.op("Unsqueeze", table, g.const([0], I_), out="output")
    return g.save(path, [image_input()], [value("output", (1, len(steps), 7))])


def nanodet(path: Path) -> Path:
    """The distributions are two neighbouring bins, whose mean is the distance."""
    g = Graph()
    mean, std = 123.675, 58.395
    xyxy, found = edges(g, red=2, threshold=(200 - mean) / std)
    cells, steps = cell_grid((8, 16, 32, 64), ceil=True)
    corner = cells * steps
    signs = np.array([-1, -1, 1, 1], np.float32)
    origin = np.concatenate([corner, corner], axis=1)
    far = g.op("Mul", g.op("Sub", xyxy, g.const(origin)), g.const(signs / steps))  # (M, 4)
    reach = g.op("Min", g.op("Max", far, g.const(0.0)), g.const(7.0))
    wrong = g.op("ReduceMax", g.op("Abs", g.op("Sub", reach, far)), axes=[1], keepdims=1)
    fits = g.op("Cast", g.op("Less", wrong, g.const(0.001)), to=F)
    score = g.op("Mul", g.op("Mul", fits, found), g.const(0.9))
    wide = g.op("Unsqueeze", reach, g.const([2], I_))  # (M, 4, 1)
    gap = g.op("Abs", g.op("Sub", wide, g.const(np.arange(8))))
    weight = g.op("Max", g.op("Sub", g.const(1.0), gap), g.const(1e-9))
    logits = g.op("Reshape", g.op("Log", weight), g.const([len(steps), 32], I_))
    zeros = g.const(np.zeros((len(steps), 1)))
    table = g.op("Concat", score, zeros, logits, axis=1)
    g.op("Unsqueeze", table, g.const([0], I_), out="output")
    return g.save(path, [image_input()], [value("output", (1, len(steps), 34))])


def detr(path: Path) -> Path:
    """Two queries: the person, and a box of another class that scores higher."""
    g = Graph()
    xyxy, found = edges(g, red=0, threshold=200 / 255)
    height, width = SIZE_HW
    scale = g.op("Div", g.op("Cast", "orig_target_sizes", to=F), g.const([[width, height]]))
    both = g.op("Concat", scale, scale, axis=1)
    box = g.op("Mul", xyxy, both)  # (1, 4)
    other = g.op("Add", box, g.const([[0, 0, 5, 5]]))
    g.op("Unsqueeze", g.op("Concat", box, other, axis=0), g.const([0], I_), out="boxes")
    g.op("Unsqueeze", g.op("Mul", found, g.const([0.8, 0.9])), g.const([0], I_), out="scores")
    g.op("Cast", g.const([[0, 5]]), to=I, out="labels")
    sizes = helper.make_tensor_value_info("orig_target_sizes", I, (1, 2))
    labels = helper.make_tensor_value_info("labels", I, (1, 2))
    outputs = [labels, value("boxes", (1, 2, 4)), value("scores", (1, 2))]
    return g.save(path, [image_input(), sizes], outputs)


def hf_detr(path: Path) -> Path:
    g = Graph()
    xyxy, found = edges(g, red=0, threshold=200 / 255)
    height, width = SIZE_HW
    unit = g.op("Div", centers(g, xyxy), g.const([width, height, width, height]))
    g.op("Reshape", unit, g.const([1, 1, 4], I_), out="pred_boxes")
    logits = np.full((1, 1, 80), -9.0)
    logits[..., 0] = 9.0
    sign = g.op("Sub", g.op("Mul", found, g.const(2.0)), g.const(1.0))
    g.op("Mul", g.const(logits), sign, out="logits")
    outputs = [value("logits", (1, 1, 80)), value("pred_boxes", (1, 1, 4))]
    return g.save(path, [image_input()], outputs)


def tensorflow_ssd(path: Path) -> Path:
    """uint8, channels last, any size, edges as y, x in fractions, classes from 1."""
    g = Graph()
    xyxy, found = edges(g, red=0, threshold=200, last=True)
    sides = g.op("Cast", g.op("Shape", "images", start=1, end=3), to=F)  # height, width
    swapped = g.op("Gather", xyxy, g.const([1, 0, 3, 2], I_))
    unit = g.op("Div", swapped, g.op("Concat", sides, sides, axis=0))
    g.op("Reshape", unit, g.const([1, 1, 4], I_), out="detection_boxes")
    g.op("Unsqueeze", g.op("Mul", found, g.const([0.9])), g.const([0], I_), out="detection_scores")
    g.op("Identity", g.const([[1.0]]), out="detection_classes")
    g.op("Identity", g.const([1.0]), out="num_detections")
    outputs = [
        value("detection_boxes", (1, 1, 4)),
        value("detection_scores", (1, 1)),
        value("detection_classes", (1, 1)),
        value("num_detections", (1,)),
    ]
    return g.save(path, [image_input(TensorProto.UINT8, (1, "H", "W", 3))], outputs)


def caffe_ssd(path: Path) -> Path:
    """label 15 and edges in fractions; an unused row has the image -1."""
    g = Graph()
    xyxy, found = edges(g, red=2, threshold=200)
    height, width = SIZE_HW
    unit = g.op("Div", xyxy, g.const([width, height, width, height]))
    score = g.op("Mul", found, g.const(0.9))
    row = g.op("Concat", g.const([0.0, 15.0]), score, unit, axis=0)
    empty = g.const([-1.0, 15.0, 1.0, 0.0, 0.0, 1.0, 1.0])
    both = g.op("Concat", row, empty, axis=0)
    g.op("Reshape", both, g.const([1, 1, 2, 7], I_), out="detection_out")
    return g.save(path, [image_input()], [value("detection_out", (1, 1, 2, 7))])


def end_to_end(path: Path, form: str) -> Path:
    g = Graph()
    xyxy, found = edges(g, red=0, threshold=200 / 255)
    score = g.op("Mul", found, g.const([0.9]))
    zero = g.const([0.0])
    if form == "nms":
        g.op("Reshape", xyxy, g.const([1, 1, 4], I_), out="det_boxes")
        g.op("Reshape", score, g.const([1, 1], I_), out="det_scores")
        g.op("Identity", g.const([[0.0]]), out="det_classes")
        g.op("Reshape", found, g.const([1, 1], I_), out="num_dets")
        outputs = [value("num_dets", (1, 1)), value("det_boxes", (1, 1, 4))]
        outputs += [value("det_scores", (1, 1)), value("det_classes", (1, 1))]
    elif form == "mm":
        row = g.op("Concat", xyxy, score, axis=0)
        g.op("Reshape", row, g.const([1, 1, 5], I_), out="dets")
        g.op("Identity", g.const([[0.0]]), out="labels")
        outputs = [value("dets", (1, 1, 5)), value("labels", (1, 1))]
    elif form == "six":
        row = g.op("Concat", xyxy, score, zero, axis=0)
        g.op("Reshape", row, g.const([1, 1, 6], I_), out="output0")
        outputs = [value("output0", (1, 1, 6))]
    else:
        row = g.op("Concat", zero, xyxy, zero, score, axis=0)
        g.op("Reshape", row, g.const([1, 7], I_), out="output")
        outputs = [value("output", (1, 7))]
    return g.save(path, [image_input()], outputs)


def batched(path: Path, batch: int | None) -> Path:
    """The same detector for ``batch`` pictures at once (None: any number), each on its own."""
    model = onnx.load(path)
    graph = model.graph
    body = compose.add_prefix_graph(graph, "one_")
    axis = numpy_helper.from_array(np.array([0], np.int64), "first_axis")
    for item in body.input:
        node = helper.make_node("Unsqueeze", [f"of_{item.name}", "first_axis"], [item.name])
        body.node.insert(0, node)
    for item in body.output:
        node = helper.make_node("Squeeze", [item.name, "first_axis"], [f"of_{item.name}"])
        body.node.append(node)
    for item in (*body.input, *body.output):
        item.name = f"of_{item.name}"
        del item.type.tensor_type.shape.dim[0]
    body.initializer.append(axis)
    names = [value.name for value in graph.input], [value.name for value in graph.output]
    scan = helper.make_node("Scan", *names, body=body, num_scan_inputs=len(names[0]))
    for item in (*graph.input, *graph.output):
        first = item.type.tensor_type.shape.dim[0]
        first.Clear()
        if batch is None:
            first.dim_param = "N"
        else:
            first.dim_value = batch
    whole = helper.make_graph([scan], "batched", graph.input, graph.output)
    model.graph.CopyFrom(whole)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())
    return path
