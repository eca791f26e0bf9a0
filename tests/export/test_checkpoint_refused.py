"""Files that are no HRNet pose checkpoint: each is refused in one line that says what it is."""

from __future__ import annotations

import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch")

from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from hrnet_deploy.errors import DeployError, InputError  # noqa: E402
from hrnet_deploy.export.checkpoint import read_checkpoint  # noqa: E402

State = dict[str, Any]


@pytest.fixture
def state(small: ModuleType) -> State:
    return {name: torch.from_numpy(np.array(v)) for name, v in small.weights().items()}


@pytest.fixture
def refuse(tmp_path: Path) -> Callable[[object], str]:
    """Save an object and give the sentence with which it is refused."""

    def refuse(content: object) -> str:
        path = tmp_path / "w32.pth"
        torch.save(content, path)
        return refusal(path)

    return refuse


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert message.endswith((".", "Run: git lfs pull"))
    return message


ONNX_HEAD = b"\x08\x08\x12\x07pytorch\x1a\x05" + bytes(64)
PNG_HEAD = b"\x89PNG\r\n\x1a\n" + bytes(64)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is empty (0 bytes)"),
        (b"<!DOCTYPE html><html><head>Google Drive", "is an HTML page, not a checkpoint; the down"),
        (b"\xef\xbb\xbf\n<HTML><body>", "is an HTML page"),
        (b"<!-- x --><html>", "is an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "is a Git LFS pointer"),
        (b'{"error": "no access"}', "is not a PyTorch checkpoint (looks like JSON)"),
        (b"<?xml version='1.0'?><Error/>", "is not a PyTorch checkpoint (looks like XML)"),
        (PNG_HEAD, "is not a PyTorch checkpoint (looks like a PNG picture)"),
        (ONNX_HEAD, "is not a PyTorch checkpoint (looks like ONNX)"),
        (b"\x1f\x8b\x08" + bytes(64), "(looks like gzip: unpack it first)"),
        (bytes(257) + b"ustar" + bytes(300), "(looks like a tar archive: unpack it first)"),
        (b"\x93NUMPY\x01\x00" + bytes(64), "(looks like a NumPy array)"),
        (b"ftrt" + bytes(64), "(looks like a TensorRT plan)"),
        (bytes(range(7, 250)), "is not a PyTorch checkpoint"),
        (b"hello world, this is a text file", "is not a PyTorch checkpoint"),
        (b"PK\x03\x04" + bytes(100), "is truncated or damaged (104 bytes"),
        (b"\x80\x02}q\x00.", "is not a PyTorch checkpoint (a pickle that torch.save did not"),
        (b"\x80\x02}q\x00", "is truncated or damaged (5 bytes"),
        (struct.pack("<Q", 4) + b"{not" + bytes(9), "is truncated or damaged (21 bytes"),
    ],
)
def test_other_files(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "w32.pth"
    path.write_bytes(content)
    assert expected in refusal(path)


def test_missing_and_directory(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "w32.pth")
    assert "is a directory. Give the path of a .pth checkpoint." in refusal(tmp_path)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs /dev/zero")
def test_devices_are_not_read() -> None:
    assert "(not a regular file)" in refusal(Path("/dev/zero"))


def test_other_files_are_told_before_torch_is_loaded(tmp_path: Path) -> None:
    import subprocess

    (tmp_path / "w32.pth").write_bytes(b"<html>")
    code = (
        "import sys\n"
        "from hrnet_deploy.export.checkpoint import read_checkpoint\n"
        "try:\n    read_checkpoint('w32.pth')\n"
        "except ValueError as error:\n    print(error)\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "is an HTML page" in done.stdout


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kept", [0.02, 0.3, 0.9, 0.999])
def test_truncated(state: State, tmp_path: Path, legacy: bool, kept: float) -> None:
    path = tmp_path / "w32.pth"
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    message = refusal(path)
    assert f"is truncated or damaged ({int(len(content) * kept)} bytes" in message
    assert message.endswith("Download it again.")


def test_a_flipped_byte_in_a_weight_is_noticed(state: State, tmp_path: Path) -> None:
    """PyTorch itself loads it silently."""
    path = tmp_path / "w32.pth"
    torch.save(state, path)
    content = bytearray(path.read_bytes())
    weight = state["conv2.weight"].numpy().tobytes()
    place = content.find(weight)
    assert place > 0
    content[place + len(weight) // 2] ^= 0x10
    path.write_bytes(content)
    assert not torch.equal(
        torch.load(path, weights_only=True)["conv2.weight"], state["conv2.weight"]
    )
    assert "is truncated or damaged" in refusal(path)


def test_other_zips(tmp_path: Path) -> None:
    path = tmp_path / "w32.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("pose/w32.pth", b"x")
    assert "a zip archive without data.pkl; a .pth lies inside: unpack it" in refusal(path)
    np.savez(tmp_path / "w32.npz", a=np.zeros(3))
    path.write_bytes((tmp_path / "w32.npz").read_bytes())
    assert "looks like a NumPy .npz" in refusal(path)


def test_torchscript(tmp_path: Path) -> None:
    path = tmp_path / "w32.pth"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("w32/data.pkl", "w32/constants.pkl", "w32/code/model.py"):
            archive.writestr(name, b"\x80\x02}q\x00.")
    assert "is a TorchScript program, which is code" in refusal(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_whole_model(tmp_path: Path, legacy: bool) -> None:
    path = tmp_path / "w32.pth"
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    torch.save(model, path, _use_new_zipfile_serialization=not legacy)
    message = refusal(path)
    assert "contains a whole model, not weights" in message
    assert "model.state_dict()" in message


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([1, 2], "holds a list, not weights by name"),
        ({}, "holds no weights at all"),
        ({"epoch": 3}, "holds int under 'epoch', not a tensor"),
        ({"conv1.weight": np.float32(1)}, "holds a stand-in under 'conv1.weight', not a tensor"),
    ],
)
def test_other_contents(refuse: Callable[[object], str], content: object, expected: str) -> None:
    assert expected in refuse(content)


def resnet_state() -> State:
    layers = {
        f"layer{stage}.{block}.conv{conv}.weight": torch.zeros(4, 4, 1, 1)
        for stage in range(1, 5)
        for block in range(2)
        for conv in range(1, 4)
    }
    return {"conv1.weight": torch.zeros(4, 3, 7, 7), **layers, "fc.weight": torch.zeros(10, 4)}


def test_resnet(refuse: Callable[[object], str]) -> None:
    message = refuse(resnet_state())
    assert "is not a top-down HRNet pose model (looks like a ResNet): missing 1" in message
    assert "e.g. stage4.0.branches.0.0.conv1.weight, stage4.0" in message
    assert "it has 26, e.g. conv1.weight, layer1.0.conv1.weight" in message


def test_hrnet_classifier(state: State, refuse: Callable[[object], str]) -> None:
    other = {name: v for name, v in state.items() if not name.startswith("final_layer")}
    other |= {"incre_modules.0.0.conv1.weight": torch.zeros(4), "classifier.weight": torch.zeros(4)}
    message = refuse(other)
    assert "is not a top-down HRNet pose model (looks like an HRNet classifier)" in message
    assert "final_layer.weight" in message


def test_higher_hrnet(state: State, refuse: Callable[[object], str]) -> None:
    other = {name.replace("final_layer", "final_layers.0"): v for name, v in state.items()}
    assert "looks like HigherHRNet" in refuse(other)


def test_missing_and_unexpected_keys_are_named(
    state: State, refuse: Callable[[object], str]
) -> None:
    del state["stage3.0.branches.1.0.bn2.running_var"]
    assert (
        "does not fit its own architecture: 1 missing, e.g. stage3.0.branches.1.0.bn2.running_var"
        in refuse(state)
    )
    state["stage3.0.branches.1.0.bn2.running_var"] = torch.ones(16)
    state |= {f"aux.{index}": torch.zeros(1) for index in range(5)}
    assert "5 unexpected, e.g. aux.0, aux.1, aux.2 (and 2 more)" in refuse(state)


def test_a_wrong_shape_is_named(state: State, refuse: Callable[[object], str]) -> None:
    state["final_layer.weight"] = torch.zeros(17, 9, 1, 1)
    expected = "final_layer.weight has shape (17, 9, 1, 1), its architecture needs (17, 8, 1, 1)"
    assert expected in refuse(state)


def test_a_branch_that_closes_is_no_hrnet(state: State, refuse: Callable[[object], str]) -> None:
    other = {name: v for name, v in state.items() if "stage4.0.branches.3" not in name}
    other = {name: v for name, v in other.items() if "stage4.0.branches.2" not in name}
    assert "is not a top-down HRNet pose model" in refuse(other)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_weights(state: State, refuse: Callable[[object], str], value: float) -> None:
    state["stage2.0.branches.0.0.conv1.weight"].view(-1)[:3] = value
    expected = "stage2.0.branches.0.0.conv1.weight holds 3 NaN or infinite values"
    assert expected in refuse(state)


def test_doubles_beyond_float32_are_infinite(state: State, refuse: Callable[[object], str]) -> None:
    state["conv1.weight"] = state["conv1.weight"].double()
    state["conv1.weight"][0, 0, 0, 0] = 1e300
    assert "conv1.weight holds 1 NaN or infinite values" in refuse(state)


def test_negative_variances(state: State, refuse: Callable[[object], str]) -> None:
    state["bn1.running_var"][0] = -1
    assert "bn1.running_var holds negative values, variances have none" in refuse(state)


def test_integer_weights(state: State, refuse: Callable[[object], str]) -> None:
    state["conv1.weight"] = state["conv1.weight"].to(torch.int8)
    assert "conv1.weight holds int8 values" in refuse(state)


def test_two_tensors_under_one_name(state: State, refuse: Callable[[object], str]) -> None:
    state |= {f"backbone.{name}": value for name, value in state.items()}
    assert "holds two tensors under one name" in refuse(state)


@pytest.fixture(scope="module")
def whole_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[bytes]]:
    """The bytes of small good checkpoints in every container."""
    safetensors = pytest.importorskip("safetensors.torch")
    folder = tmp_path_factory.mktemp("fuzz")
    state = {"conv1.weight": torch.zeros(2, 3, 3, 3), "bn1.bias": torch.ones(2)}
    torch.save({"state_dict": state, "perf": np.float64(1)}, folder / "a")
    torch.save(state, folder / "b", _use_new_zipfile_serialization=False)
    safetensors.save_file(state, folder / "c")
    return folder, [(folder / name).read_bytes() for name in "abc"]


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_mutated_files_raise_nothing_but_our_errors(
    whole_files: tuple[Path, list[bytes]], data: st.DataObject
) -> None:
    folder, contents = whole_files
    content = bytearray(data.draw(st.sampled_from(contents)))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        kind = data.draw(st.sampled_from(("flip", "cut", "insert", "zero")))
        if kind == "flip":
            content[place] ^= data.draw(st.integers(1, 255))
        elif kind == "cut" and len(content) > 2:
            del content[place : place + data.draw(st.integers(1, 64))]
        elif kind == "insert":
            content[place:place] = data.draw(st.binary(min_size=1, max_size=16))
        else:
            content[place : place + 8] = bytes(len(content[place : place + 8]))
        if not content:
            content = bytearray(b"x")
    path = folder / "mutated.pth"
    path.write_bytes(content)
    with pytest.raises(DeployError) as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=300))
def test_random_bytes_raise_nothing_but_our_errors(content: bytes) -> None:
    import tempfile

    with tempfile.NamedTemporaryFile(suffix=".pth") as file:
        file.write(content)
        file.flush()
        with pytest.raises(DeployError):
            read_checkpoint(file.name)
