"""The network inside an exported engine file, without the flip-test and decoding around it.

What stands inside the graph cannot be switched off from outside. For questions such as "would
the one-pixel shift help" the network is cut out of the file and all the rest done in numpy.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.engines import EngineInfo
from hrnet_deploy.engines.signature import read_engine_file
from hrnet_deploy.errors import InputError, require
from hrnet_deploy.export.cpu_session import CpuSession
from hrnet_deploy.export.pipeline import HALVES, IMAGES, MIRRORED, REVERSED
from hrnet_deploy.export.reference import Heatmaps, ReferenceEngine
from hrnet_deploy.files import sha256_bytes
from hrnet_deploy.spec import HEATMAPS_NAME, ModelSpec

if TYPE_CHECKING:
    import onnx

MAX_PIXELS_PER_RUN = 8 * 256 * 192


class BareEngine(ReferenceEngine):
    """The network of an engine file at any input size; ``spec`` says what is done around it."""

    def __init__(self, session: CpuSession, spec: ModelSpec, info: EngineInfo, *, reverse: bool):
        super().__init__(spec, info, max(1, MAX_PIXELS_PER_RUN // int(np.prod(spec.input_size_hw))))
        self._session = session
        self._reverse = reverse

    def raw_heatmaps(self, crops_nhwc: NDArray[np.uint8]) -> Heatmaps:
        """Heatmaps (N, K, h/4, w/4) of crops (N, h, w, 3) of any size, without flip-test."""
        height, width = crops_nhwc.shape[1:3]
        step = max(1, MAX_PIXELS_PER_RUN // (height * width))
        parts = [
            self._forward(self._normalised(crops_nhwc[start : start + step]))
            for start in range(0, max(1, len(crops_nhwc)), step)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _forward(self, images_nchw: NDArray[np.float32]) -> Heatmaps:
        if self._reverse:  # its first convolution was turned to the order of the crops
            images_nchw = np.ascontiguousarray(images_nchw[:, ::-1])
        heatmaps: Heatmaps = self._session.run({IMAGES: images_nchw})[0]
        return heatmaps.astype(np.float32, copy=False)


def bare_engine(path: Path) -> BareEngine:
    """Cut the network out of a ``.onnx`` file that ``export`` or ``adopt`` wrote.

    Raises InputError for a graph in which it is not found.
    """
    onnx = require("onnx", extra="export", purpose="eval --explain")
    content, spec = read_engine_file(path)
    model = onnx.load_model_from_string(content)
    names = {node.name for node in model.graph.node}
    if IMAGES not in names or (spec.flip_test and not {MIRRORED, HALVES} <= names):
        raise InputError(
            path, "holds no network that can be taken out", "Export the checkpoint again"
        )
    cut = _cut(model, flip_test=spec.flip_test)
    runtime = require("onnxruntime", extra="cpu", purpose="eval --explain")
    info = EngineInfo(
        "onnxruntime",
        "cpu",
        str(path),
        sha256_bytes(content),
        spec.precision,
        {"onnxruntime": runtime.__version__},
    )
    reverse = spec.network_color_order != spec.color_order and REVERSED not in names
    spec = dataclasses.replace(spec, has_heatmaps=True, static_batch=None)
    session = CpuSession(cut.SerializeToString(), path, purpose="eval --explain")
    return BareEngine(session, spec, info, reverse=reverse)


def _cut(model: onnx.ModelProto, *, flip_test: bool) -> onnx.ModelProto:
    """The part from normalised images (B, 3, h, w) to raw heatmaps, of any size."""
    tools = require("onnx", extra="export", purpose="eval --explain")
    by_output = {name: node for node in model.graph.node for name in node.output}
    last = by_output[HALVES if flip_test else HEATMAPS_NAME].input[0]
    needed: set[str] = set()
    waiting = [last]
    while waiting:
        name = waiting.pop()
        if name in needed:
            continue
        needed.add(name)
        if name in by_output and name not in (IMAGES, MIRRORED):
            waiting.extend(by_output[name].input)
    nodes = [
        node
        for node in model.graph.node
        if set(node.output) & needed and node.name not in (IMAGES, MIRRORED)
    ]
    for node in nodes:
        for index, name in enumerate(node.input):
            if name == MIRRORED:
                node.input[index] = IMAGES
    value, kind = tools.helper.make_tensor_value_info, tools.TensorProto.FLOAT
    graph = tools.helper.make_graph(
        nodes,
        "bare",
        [value(IMAGES, kind, ["B", 3, "h", "w"])],
        [value(last, kind, None)],
        initializer=[tensor for tensor in model.graph.initializer if tensor.name in needed],
    )
    bare: onnx.ModelProto = tools.helper.make_model(
        graph, opset_imports=list(model.opset_import), ir_version=model.ir_version
    )
    return bare
