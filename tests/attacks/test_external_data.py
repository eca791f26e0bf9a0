"""ONNX files that point at other files: none of them is opened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from hrnet_deploy import load_engine
from hrnet_deploy.engines.onnx_file import read_onnx_file
from hrnet_deploy.errors import InputError
from hrnet_deploy.spec import METADATA_KEY

LOCATIONS = ["../secret.bin", "/etc/passwd", "weights.bin", "link.bin", "", "missing.bin"]


def external(name: str, location: str, length: int = 8) -> TensorProto:
    """A tensor whose bytes lie in the file ``location``."""
    tensor = TensorProto(name=name, data_type=TensorProto.INT64, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(length))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return tensor


@pytest.fixture
def ours(tiny: ModuleType) -> Any:
    model = tiny.tiny_model(tiny.tiny_spec())
    helper.set_model_props(model, {METADATA_KEY: tiny.tiny_spec().to_json()})
    return model


@pytest.mark.parametrize("location", LOCATIONS)
@pytest.mark.parametrize("length", [8, 2**62])
def test_an_initialiser_elsewhere_is_refused_by_name(
    ours: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, location: str, length: int
) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    secret = np.array([12], np.int64).tobytes()  # what the graph needs there, so that it would load
    for file in (tmp_path / "secret.bin", folder / "weights.bin"):
        file.write_bytes(secret)
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    monkeypatch.chdir(folder)
    index = [t.name for t in ours.graph.initializer].index("width")
    ours.graph.initializer[index].CopyFrom(external("width", location, length))
    file = folder / "model.onnx"
    file.write_bytes(ours.SerializeToString())
    message = r"model\.onnx: keeps its tensor 'width' in another file \(external data\)"
    with pytest.raises(InputError, match=message):
        load_engine(file)


def _in_attribute(model: Any, tensor: TensorProto) -> None:
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor))


def _in_branch(model: Any, tensor: TensorProto) -> None:
    inner = helper.make_graph([], "inner", [], [], [tensor])
    node = helper.make_node("If", ["condition"], ["c"], then_branch=inner, else_branch=inner)
    model.graph.node.append(node)


def _in_sparse(model: Any, tensor: TensorProto) -> None:
    sparse = model.graph.sparse_initializer.add()
    sparse.values.CopyFrom(tensor)


def _in_function(model: Any, tensor: TensorProto) -> None:
    function = model.functions.add()
    function.name = "f"
    function.node.append(helper.make_node("Constant", [], ["c"], value=tensor))


def _without_location(model: Any, tensor: TensorProto) -> None:
    tensor.ClearField("data_location")
    model.graph.initializer.append(tensor)


@pytest.mark.parametrize(
    "hide", [_in_attribute, _in_branch, _in_sparse, _in_function, _without_location]
)
def test_a_tensor_hidden_deeper_is_found(
    ours: Any, hide: Callable[[Any, TensorProto], None]
) -> None:
    hide(ours, external("hidden", "/etc/passwd"))
    with pytest.raises(InputError, match="keeps its tensor 'hidden' in another file"):
        read_onnx_file(ours.SerializeToString(), "model.onnx")


def field(number: int, content: bytes) -> bytes:
    """A field of a protobuf message that holds ``content``."""
    length, size = b"", len(content)
    while size > 0x7F:
        length, size = length + bytes([size & 0x7F | 0x80]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def test_graphs_within_graphs_without_end_are_refused() -> None:
    graph = b""
    for _ in range(60):  # node, attribute, graph
        graph = field(1, field(5, field(6, graph)))
    with pytest.raises(InputError, match="its graphs are nested too deeply"):
        read_onnx_file(field(7, graph), "model.onnx")


def test_our_own_files_name_no_other(ours: Any) -> None:
    file = read_onnx_file(ours.SerializeToString(), "model.onnx")
    assert file.opset == 17
    assert file.inputs == ("crops (N, 64, 48, 3)",)
    assert METADATA_KEY in file.metadata
