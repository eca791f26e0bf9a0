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

IR_VERSION = 8
"""The intermediate representation that belongs to opset 17."""


class GraphWriter:
    """Collects nodes and constants in order; ``node`` returns the name of its output."""

    def __init__(self) -> None:
        self.onnx = require("onnx", extra="export", purpose="export")
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._names: set[str] = set()

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Add ``value`` as an initialiser; a second call with the same name is the same one."""
        if name not in self._constants:
            tensor = self.onnx.numpy_helper.from_array(np.asarray(value, order="C"), name)
            self._constants[name] = tensor
        return name

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
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="hrnet-deploy",
            producer_version=__version__,
        )
        helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
        self.onnx.checker.check_model(model, full_check=True)
        return model
