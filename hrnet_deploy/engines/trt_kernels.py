"""The kernels of a plan, read from the text that TensorRT logs about one it has just built."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from hrnet_deploy.errors import EnvironmentFault

LISTING = "Layers:\n"
"""How the message begins that lists every kernel (detailed profiling verbosity, verbose log)."""

_NO_KERNELS = frozenset({"shape_call", "signal", "wait"})
"""Entries of the list that start nothing on the GPU: host code, and events between streams."""

_BITS = {
    "Float": 32,
    "Half": 16,
    "BFloat16": 16,
    "Int8": 8,
    "FP8": 8,
    "UInt8": 8,
    "Int32": 32,
    "Int64": 64,
    "Bool": 8,
}
_ENTRY = re.compile(
    r"Name: (?P<name>.+?), LayerType: (?P<kind>\w+), Inputs: \[(?P<inputs>.*)\], "
    r"Constants: \[(?P<constants>.*)\], Outputs: \[(?P<outputs>.*)\], TacticName: (?P<rest>.*)"
)
_TENSOR = re.compile(
    r"\{ Name: (\S+), Dimensions: \[([-\d,]*)\], .*?Datatype: (\w+), Format: [^}]*\}"
)
_SOURCE = re.compile(r"\[ONNX Layer: ([^\]]+)\]")


@dataclass(frozen=True)
class Tensor:
    """A tensor that a kernel reads or writes; -1 in ``shape`` is a dynamic axis."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def bytes(self) -> int:
        """Its size; a dynamic axis counts once."""
        return math.prod(abs(side) for side in self.shape) * _BITS[self.dtype] // 8


@dataclass(frozen=True)
class Kernel:
    """One launch: ``kind`` in TensorRT's words, ``sources`` the ONNX nodes that it computes."""

    name: str
    kind: str
    inputs: tuple[Tensor, ...]
    constants: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    sources: tuple[str, ...]

    @property
    def dtype(self) -> str:
        """The type of the largest tensor that it writes."""
        return max(self.outputs, key=lambda tensor: tensor.bytes).dtype

    @property
    def bytes(self) -> int:
        """Bytes of activations read and written; a tensor that is listed twice is read once."""
        return sum(tensor.bytes for tensor in {*self.inputs, *self.outputs})

    @property
    def weight_bytes(self) -> int:
        """Bytes of constants."""
        return sum(tensor.bytes for tensor in set(self.constants))


def read_kernels(listing: str) -> list[Kernel]:
    """The kernels of ``listing`` in the order in which they run.

    Raises EnvironmentFault for a type of a newer TensorRT, whose size is not known here.
    """
    entries = (_ENTRY.match(line) for line in listing.splitlines())
    return [_kernel(entry) for entry in entries if entry and entry["kind"] not in _NO_KERNELS]


def _kernel(entry: re.Match[str]) -> Kernel:
    return Kernel(
        name=entry["name"],
        kind=entry["kind"],
        inputs=_tensors(entry["inputs"]),
        constants=_tensors(entry["constants"]),
        outputs=_tensors(entry["outputs"]),
        sources=tuple(_SOURCE.findall(entry["rest"])),
    )


def _tensors(text: str) -> tuple[Tensor, ...]:
    return tuple(_tensor(*words) for words in _TENSOR.findall(text))


def _tensor(name: str, shape: str, dtype: str) -> Tensor:
    if dtype not in _BITS:
        problem = f"lists {name} with the type {dtype}, whose size is not known"
        raise EnvironmentFault("TensorRT", problem, "Report it with the version of TensorRT")
    return Tensor(name, tuple(int(side) for side in shape.split(",") if side), dtype)
