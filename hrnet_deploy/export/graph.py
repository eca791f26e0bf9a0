"""A small writer of ONNX graphs: named nodes and constants, the same bytes on every run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy import __version__
from hrnet_deploy.errors import require
from hrnet_deploy.spec import METADATA_KEY, ModelSpec

if TYPE_CHECKING:
    import onnx

OPSET = 17
"""The newest opset that TensorRT 8.6 parses."""

OPSET_TYPED_PAIRS = 19
"""The first opset whose Q/DQ pairs take float16 and give float8; TensorRT parses it from 10 on."""

FLOAT8 = "float8_e4m3fn"
"""The name of FP8's numpy type (package ml_dtypes)."""

REDUCE_BY_INPUT = 18
"""The opset in which ``ReduceMax`` takes its axes as an input."""

IR_VERSIONS = {OPSET: 8, OPSET_TYPED_PAIRS: 9}
"""The intermediate representation that belongs to each opset that we write."""


class GraphWriter:
    """Collects nodes and constants in order; ``node`` returns the name of its output."""

    def __init__(self, opset: int = OPSET) -> None:
        self.onnx = require("onnx", extra="export", purpose="export")
        self.opset = opset
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._names: set[str] = set()

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Add ``value`` as an initialiser; a second call with the same name is the same one."""
        if name not in self._constants:
            self._constants[name] = self._tensor(name, np.asarray(value, order="C"))
        return name

    def _tensor(self, name: str, value: NDArray[Any]) -> onnx.TensorProto:
        if value.dtype.name != FLOAT8:
            tensor: onnx.TensorProto = self.onnx.numpy_helper.from_array(value, name)
            return tensor
        # Older versions of the onnx package do not know that numpy type.
        kind = self.onnx.TensorProto.FLOAT8E4M3FN
        tensor = self.onnx.helper.make_tensor(name, kind, value.shape, value.tobytes(), raw=True)
        return tensor

    def integers(self, *values: int) -> str:
        """A one-dimensional int64 constant, named after its values."""
        name = "int_" + "_".join(str(value).replace("-", "m") for value in values)
        return self.constant(name, np.array(values, np.int64))

    def node(self, operator: str, inputs: list[str], name: str, **attributes: Any) -> str:
        """Append a node with one output; both are called ``name``."""
        if name in self._names:
            raise ValueError(f"two nodes are called {name}")
        self._names.add(name)
        node = self.onnx.helper.make_node(operator, inputs, [name], name=name, **attributes)
        self._nodes.append(node)
        return name

    def has(self, name: str) -> bool:
        """Whether a node of this name was written."""
        return name in self._names

    def extend(self, nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto]) -> None:
        """Take over finished nodes and initialisers whose names do not clash with ours."""
        self._nodes.extend(nodes)
        self._constants.update({tensor.name: tensor for tensor in constants})

    def maximum(self, value: str, name: str, axis: int) -> str:
        """The largest along ``axis``, which is kept; the axis is an input from opset 18 on."""
        if self.opset >= REDUCE_BY_INPUT:
            return self.node("ReduceMax", [value, self.integers(axis)], name, keepdims=1)
        return self.node("ReduceMax", [value], name, axes=[axis], keepdims=1)

    def cast(self, value: str, dtype: type[np.generic], name: str) -> str:
        """Convert ``value`` to a numpy type."""
        kind = self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.node("Cast", [value], name, to=kind)

    def finish(
        self,
        spec: ModelSpec,
        inputs: list[onnx.ValueInfoProto],
        outputs: list[onnx.ValueInfoProto],
    ) -> onnx.ModelProto:
        """The checked model with ``spec`` in its metadata."""
        helper = self.onnx.helper
        graph = helper.make_graph(
            self._nodes,
            spec.architecture,
            inputs,
            outputs,
            initializer=list(self._constants.values()),
        )
        model: onnx.ModelProto = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", self.opset)],
            ir_version=IR_VERSIONS[self.opset],
            producer_name="hrnet-deploy",
            producer_version=__version__,
        )
        helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
        self.onnx.checker.check_model(model, full_check=True)
        return model
