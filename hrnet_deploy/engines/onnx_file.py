"""The structure of an ONNX file, read from its bytes without the onnx package.

An untrusted file is judged here before ONNX Runtime sees it: that it is whole, that it is ours
and that it points at no other file. Field numbers are those of ``onnx.proto``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hrnet_deploy.errors import InputError, Subject, command_line
from hrnet_deploy.spec import METADATA_KEY, ModelSpec

Field = tuple[int, int | memoryview]

_MODEL_FIELDS = {1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26}
_GRAPH, _OPSETS, _METADATA = 7, 8, 14
_GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT = 5, 11, 12
_TENSOR_NAME, _TENSOR_EXTERNAL_DATA, _TENSOR_LOCATION = 8, 13, 14

_CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
"""Where tensors hide: message, field number, message inside."""

_MAX_DEPTH = 32
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class OnnxFile:
    """What a file says about itself.

    ``inputs`` are names with their shapes, for messages; ``outputs`` names, in the graph's order.
    """

    opset: int
    metadata: dict[str, str]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...] = ()


def read_onnx_file(content: bytes, subject: Subject) -> OnnxFile:
    """Check the structure of an ONNX file and return what it says about itself.

    Raises InputError for what is not a complete ONNX file and for one that keeps tensors in
    other files.
    """
    try:
        return _read(memoryview(content), subject)
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        kind = "an HTML page" if content[:64].lstrip()[:1] == b"<" else str(error)
        raise InputError(
            subject, f"is not a valid ONNX file ({kind})", "Export or download it again"
        ) from error


def spec_of(file: OnnxFile, subject: Subject) -> ModelSpec:
    """The spec in the file's metadata; InputError for a file that is not ours."""
    text = file.metadata.get(METADATA_KEY)
    if text is None:
        inputs = ", ".join(file.inputs[:3]) or "none"
        raise InputError(
            subject,
            f"was not written by hrnet-deploy export; its inputs are {inputs}",
            "A heatmap network can be taken over: "
            + command_line("adopt", subject, "--recipe", "RECIPE"),
        )
    return ModelSpec.from_json(text, source=subject)


def _read(model: memoryview, subject: Subject) -> OnnxFile:
    opset, metadata, graph = 0, {}, None
    for number, value in _fields(model):
        if number not in _MODEL_FIELDS:
            raise ValueError(f"it has a field {number} that no ONNX model has")
        if number == _GRAPH and isinstance(value, memoryview):
            graph = value
        elif number == _OPSETS and isinstance(value, memoryview):
            entry = dict(_fields(value))
            if _text(entry.get(1)) in ("", "ai.onnx"):
                version = entry.get(2)
                opset = version if isinstance(version, int) else 0
        elif number == _METADATA and isinstance(value, memoryview):
            entry = dict(_fields(value))
            metadata[_text(entry.get(1))] = _text(entry.get(2))
    if graph is None:
        raise ValueError("it holds no graph")
    for tensor in _external_tensors(model, "model", 0):
        raise InputError(
            subject,
            f"keeps its tensor '{tensor}' in another file (external data)",
            "Export it as one file: hrnet-deploy export CHECKPOINT",
        )
    return OnnxFile(opset, metadata, tuple(_inputs(graph)), tuple(_outputs(graph)))


def _fields(message: memoryview) -> Iterator[Field]:
    """Number and value of each field of a protobuf message; raises ValueError where it breaks."""
    position, end = 0, len(message)
    while position < end:
        tag, position = _varint(message, position)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise ValueError("its fields make no sense")
        if wire == _VARINT:
            value, position = _varint(message, position)
            yield number, value
            continue
        if wire == _BYTES:
            length, position = _varint(message, position)
        elif wire in (_FIXED64, _FIXED32):
            length = 8 if wire == _FIXED64 else 4
        else:
            raise ValueError("its fields make no sense")
        if position + length > end:
            raise ValueError("it is truncated or damaged")
        yield number, message[position : position + length]
        position += length


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            break
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("it is truncated or damaged")


def _external_tensors(message: memoryview, kind: str, depth: int) -> Iterator[str]:
    """Names of the tensors anywhere below ``message`` that lie in other files."""
    if depth > _MAX_DEPTH:
        raise ValueError("its graphs are nested too deeply")
    if kind == "tensor":
        if name := _external_name(message):
            yield name
        return
    children = _CHILDREN[kind]
    for number, value in _fields(message):
        if number in children and isinstance(value, memoryview):
            yield from _external_tensors(value, children[number], depth + 1)


def _external_name(tensor: memoryview) -> str | None:
    name, external = "(unnamed)", False
    for number, value in _fields(tensor):
        if number == _TENSOR_NAME:
            name = _text(value)
        elif number == _TENSOR_EXTERNAL_DATA or (number == _TENSOR_LOCATION and value != 0):
            external = True
    return name if external else None


def _outputs(graph: memoryview) -> Iterator[str]:
    for number, value in _fields(graph):
        if number == _GRAPH_OUTPUT and isinstance(value, memoryview):
            yield _text(dict(_fields(value)).get(1))


def _inputs(graph: memoryview) -> Iterator[str]:
    """``name (shape)`` of each graph input that is no initialiser."""
    initializers: set[str] = set()
    inputs: list[memoryview] = []
    for number, value in _fields(graph):
        if isinstance(value, memoryview):
            if number == _GRAPH_INITIALIZER:
                initializers.add(_first_text(value, _TENSOR_NAME))
            elif number == _GRAPH_INPUT:
                inputs.append(value)
    for info in inputs:
        name = _first_text(info, 1)
        if name not in initializers:
            yield f"{name} ({', '.join(_dimensions(info))})"


def _dimensions(info: memoryview) -> Iterator[str]:
    """The dimensions of a ValueInfoProto's tensor, names for the free ones."""
    for shape in _nested(info, (2, 1, 2, 1)):
        entry = dict(_fields(shape))
        size = entry.get(1)
        yield str(size) if isinstance(size, int) else _text(entry.get(2)) or "?"


def _nested(message: memoryview, path: tuple[int, ...]) -> Iterator[memoryview]:
    for number, value in _fields(message):
        if number == path[0] and isinstance(value, memoryview):
            if len(path) == 1:
                yield value
            else:
                yield from _nested(value, path[1:])


def _first_text(message: memoryview, wanted: int) -> str:
    return next((_text(value) for number, value in _fields(message) if number == wanted), "")


def _text(value: int | memoryview | None) -> str:
    """UTF-8 text of a field; raises ValueError (UnicodeDecodeError) where it is none."""
    return str(value, "utf-8") if isinstance(value, memoryview) else ""
