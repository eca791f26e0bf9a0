"""The variations that `graph_experiments.py` measures, and the network that they vary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from stand_in import coco_spec

from hrnet_deploy.export.architecture import published_architecture
from hrnet_deploy.export.graph import GraphWriter
from hrnet_deploy.export.model import DTYPES, build_model
from hrnet_deploy.export.network import HRNetWriter
from hrnet_deploy.spec import ModelSpec

REFERENCE = "as exported"


def seeded_spec() -> ModelSpec:
    """W32 at 256x192 with flip-test."""
    return coco_spec(published_architecture(32, 17).name)


class Coarsest(HRNetWriter):
    """Sums are formed from the coarsest branch upwards: up2(up2(a) + b) + c."""

    def _fuse(self, features: list[str], prefix: str, target: int) -> str:
        terms, low = [], ""
        for source in range(len(features) - 1, target, -1):
            name = f"{prefix}.{source}"
            x = self._conv(features[source], f"{name}.0", f"{name}.1")
            if low:
                x = self.graph.node("Add", [x, low], f"{name}.sum")
            low = self._upsample(x, f"{name}.2", 2)
        for source, x in enumerate(features[: target + 1]):
            for step in range(target - source):
                last = step == target - source - 1
                conv = f"{prefix}.{source}.{step}"
                x = self._conv(x, f"{conv}.0", f"{conv}.1", stride=2, relu=not last)
            terms.append(x)
        return self._sum_relu([*terms, low] if low else terms, prefix)


def written(writer: type[HRNetWriter], spec: ModelSpec, weights: dict[str, Any]) -> Any:
    """The whole graph with the network as ``writer`` writes it."""

    def write(graph: GraphWriter, images: str) -> str:
        dtype = DTYPES[spec.precision]
        network = writer(graph, weights, dtype, "seeded", reverse_input=True)
        return network.heatmaps(images, published_architecture(32, 17))

    return build_model(spec, write, reverse_channels=False)


def by_enlarging_in_the_sum(model: Any) -> None:
    """No ``Resize``: the sum repeats the small summand by broadcasting over split axes."""
    nodes = {node.output[0]: node for node in model.graph.node}
    inferred = onnx.shape_inference.infer_shapes(model)
    shapes = {v.name: v.type.tensor_type.shape.dim for v in inferred.graph.value_info}
    changed = []
    for node in model.graph.node:
        resized = nodes.get(node.input[1]) if node.op_type == "Add" else None
        if resized is None or resized.op_type != "Resize":
            changed.append(node)
            continue
        channels, height, width = (d.dim_value for d in shapes[resized.input[0]][1:])
        factor = shapes[node.output[0]][2].dim_value // height
        parts = {
            "split": [0, channels, height, factor, width, factor],
            "small": [0, channels, height, 1, width, 1],
            "whole": [0, channels, height * factor, width * factor],
        }
        for part, shape in parts.items():
            name = f"{node.name}.{part}.shape"
            model.graph.initializer.append(numpy_helper.from_array(np.array(shape), name))
        split, small, total = (f"{node.name}.{part}" for part in ("split", "small", "total"))
        make = onnx.helper.make_node
        changed += [
            make("Reshape", [node.input[0], f"{split}.shape"], [split]),
            make("Reshape", [resized.input[0], f"{small}.shape"], [small]),
            make("Add", [split, small], [total]),
            make("Reshape", [total, f"{node.name}.whole.shape"], [node.output[0]]),
        ]
    kept = [node for node in changed if node.op_type != "Resize"]
    del model.graph.node[:]
    model.graph.node.extend(kept)


def with_the_scale_in_the_weights(model: Any) -> None:
    """Pixels minus their mean; the division stands in the first convolution. Zero padding stays."""
    constants = {c.name: c for c in model.graph.initializer}
    factor, offset, weight = (
        numpy_helper.to_array(constants[name]).astype(np.float64)
        for name in ("normalise.factor", "normalise.offset", "conv1.weight")
    )
    replace(constants, "normalise.offset", (offset / factor).astype(np.float32))
    scaled = weight * factor.reshape(1, 3, 1, 1)
    replace(constants, "conv1.weight", scaled.astype(constant_dtype(constants["conv1.weight"])))
    drop(model, "normalise.scaled", "crops.planes")


def with_four_channels(model: Any) -> None:
    """A black fourth plane, which some convolutions want."""
    constants = {c.name: c for c in model.graph.initializer}
    weight = numpy_helper.to_array(constants["conv1.weight"])
    replace(constants, "conv1.weight", np.pad(weight, [(0, 0), (0, 1), (0, 0), (0, 0)]))
    pads = numpy_helper.from_array(np.array([0, 0, 0, 0, 0, 1, 0, 0]), "plane.pads")
    model.graph.initializer.append(pads)
    index = position(model, "conv1")
    convolution = model.graph.node[index]
    node = onnx.helper.make_node("Pad", [convolution.input[0], "plane.pads"], ["plane"])
    convolution.input[0] = "plane"
    model.graph.node.insert(index, node)


def with_bytes_transposed(model: Any) -> None:
    """First the transposition, of bytes, then the conversion. TensorRT has none of bytes."""
    cast, planes = (model.graph.node[position(model, n)] for n in ("crops.float", "crops.planes"))
    cast.op_type, planes.op_type = "Transpose", "Cast"
    attributes = list(cast.attribute), list(planes.attribute)
    for node, other in zip((planes, cast), attributes, strict=True):
        del node.attribute[:]
        node.attribute.extend(other)


def replace(constants: dict[str, Any], name: str, value: Any) -> None:
    """Give a constant another value."""
    constants[name].CopyFrom(numpy_helper.from_array(value, name))


def constant_dtype(tensor: Any) -> Any:
    """Its numpy type."""
    return onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)


def position(model: Any, name: str) -> int:
    """The index of the node that writes ``name``."""
    return next(i for i, node in enumerate(model.graph.node) if name in node.output)


def drop(model: Any, name: str, instead: str) -> None:
    """Leave a node out; its readers read ``instead``."""
    del model.graph.node[position(model, name)]
    for node in model.graph.node:
        node.input[:] = [instead if value == name else value for value in node.input]


Change = Callable[[Any], None]
VARIATIONS: dict[str, tuple[type[HRNetWriter], Change | None]] = {
    REFERENCE: (HRNetWriter, None),
    "sums from the coarsest branch": (Coarsest, None),
    "sums that broadcast": (HRNetWriter, by_enlarging_in_the_sum),
    "scale in the first weights": (HRNetWriter, with_the_scale_in_the_weights),
    "four input channels": (HRNetWriter, with_four_channels),
    "bytes transposed": (HRNetWriter, with_bytes_transposed),
}


def variations(spec: ModelSpec, weights: dict[str, Any]) -> dict[str, bytes]:
    """Every variation as a file."""
    files = {}
    for name, (writer, change) in VARIATIONS.items():
        model = written(writer, spec, weights)
        if change is not None:
            change(model)
            onnx.checker.check_model(model, full_check=True)
        files[name] = model.SerializeToString()
    return files
