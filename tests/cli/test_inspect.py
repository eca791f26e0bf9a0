"""``hrnet-deploy inspect``, through click and as a process."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch")

from hrnet_deploy.cli.inspect import command  # noqa: E402
from hrnet_deploy.errors import InputError  # noqa: E402
from hrnet_deploy.export.architecture import published_architecture  # noqa: E402
from hrnet_deploy.export.describe import multiply_adds  # noqa: E402


class Said(NamedTuple):
    exit_code: int
    stdout: str
    stderr: str


def inspect(*words: object) -> Said:
    """What the command says; click's own runner keeps stderr apart from 8.2 on only."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = command.main([str(word) for word in words], standalone_mode=False)
    return Said(code or 0, out.getvalue(), err.getvalue())


def facts(*words: object) -> dict[str, Any]:
    result = inspect(*words, "--json")
    assert result.exit_code == 0
    value: dict[str, Any] = json.loads(result.stdout)
    return value


def test_checkpoint_facts(small_checkpoint: Path) -> None:
    found = facts(small_checkpoint)
    assert found["kind"] == "checkpoint"
    assert found["flavour"] == "official"
    assert found["architecture"] == "hrnet_w8_m111"
    assert found["joints"] == 17
    assert found["input_size_hw"] == [256, 192]
    assert found["input_size_from"] == "assumed"
    assert found["keypoints"]["set"] == "coco_17"
    assert found["keypoints"]["from"] == "assumed"
    assert found["bytes"] == small_checkpoint.stat().st_size
    assert len(found["sha256"]) == 64
    assert len(found["assumptions"]) == 3
    assert found["gmac"] > 0


def test_what_tensorrt_makes_of_a_file(small_onnx: Path) -> None:
    pytest.importorskip("tensorrt_rtx_bindings", reason="needs TensorRT for RTX (extra rtx)")
    built = facts(small_onnx, "--tensorrt", "sm89")["tensorrt"]
    assert (built["target"], built["warnings"]) == ("SM89", [])
    assert built["kernels"] == sum(built["kinds"].values()) == sum(built["types"].values())
    assert built["kinds"]["correlation"] > 30
    table = inspect(small_onnx, "--tensorrt", "SM89").stdout
    assert "SM89: parsed and built" in table
    with pytest.raises(InputError, match="asks for 'SM13'"):
        inspect(small_onnx, "--tensorrt", "SM13")


def test_a_gpu_without_fp8_is_said_before_anything_is_built(
    small: ModuleType, tmp_path: Path
) -> None:
    pytest.importorskip("tensorrt_rtx_bindings", reason="needs TensorRT for RTX (extra rtx)")
    file = small.write_small_onnx(tmp_path / "w.fp8.onnx", precision="fp8", float_precision="fp16")
    with pytest.raises(InputError, match=r"is fp8, the SM75 has compute capability 7\.5"):
        inspect(file, "--tensorrt", "SM75")


def test_only_onnx_files_are_built(small_checkpoint: Path) -> None:
    with pytest.raises(InputError, match=r"is no \.onnx file"):
        inspect(small_checkpoint, "--tensorrt", "SM89")


def test_checkpoint_table(small_checkpoint: Path) -> None:
    result = inspect(small_checkpoint)
    assert result.exit_code == 0
    for text in ("hrnet_w8_m111", "256x192 (height x width; assumed)", "coco_17", "sha256"):
        assert text in result.stdout
    assert "since the weights cannot tell" in result.stderr
    assert f"next: hrnet-deploy export {small_checkpoint}" in result.stderr
    assert "next:" not in result.stdout


def test_a_recipe_answers_what_was_assumed(small_checkpoint: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        '[network]\ninput_size_hw = [96, 64]\n[keypoints]\nset = "ap10k_17"\n'
        '[published]\ndataset = "zoo"\nap_detector_boxes = 50.5\n'
    )
    found = facts(small_checkpoint, "--recipe", recipe)
    assert found["recipe"] == "mine"
    assert found["input_size_hw"] == [96, 64]
    assert found["keypoints"]["set"] == "ap10k_17"
    assert found["assumptions"] == []
    assert "zoo: ap_detector_boxes 50.5" in inspect(small_checkpoint, "--recipe", recipe).stdout


def test_a_model_that_cannot_be_exported_is_still_described(
    small_checkpoint: Path, tmp_path: Path
) -> None:
    path = tmp_path / "w32_udp.pth"
    path.write_bytes(small_checkpoint.read_bytes())
    result = inspect(path)
    assert result.exit_code == 0
    assert "hrnet_w8_m111" in result.stdout
    assert "cannot be exported as it is: was trained with UDP" in result.stderr
    assert "UDP" in facts(path)["problem"]


def test_our_onnx(small_onnx: Path) -> None:
    found = facts(small_onnx)
    assert found["kind"] == "onnx"
    assert found["written_by_us"] is True
    assert [value["name"] for value in found["outputs"]] == ["keypoints", "scores", "heatmaps"]
    assert found["inputs"][0]["type"] == "uint8"
    assert found["spec"]["input_size_hw"] == [96, 64]
    assert "written by hrnet-deploy" in inspect(small_onnx).stdout


def test_foreign_onnx(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    shape = [1, 3, "h", None]
    tensors = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in "xy"
    ]
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "g", tensors[:1], tensors[1:])
    model = onnx.helper.make_model(graph, producer_name="somebody")
    entry = model.metadata_props.add()
    entry.key, entry.value = "names", "x" * 1000
    path = tmp_path / "foreign.onnx"
    onnx.save(model, path)
    found = facts(path)
    assert found["written_by_us"] is False
    assert found["inputs"] == [{"name": "x", "type": "float", "shape": [1, 3, "h", "?"]}]
    assert found["metadata"]["names"].endswith("(1000 characters)")
    result = inspect(path)
    assert "x: float (1, 3, h, ?)" in result.stdout
    assert f"next: hrnet-deploy adopt {path} --recipe mine.toml" in result.stderr


def test_ultralight(shared: Path) -> None:
    found = facts(shared / "data" / "weights-ultralight" / "deploy.onnx")
    assert found["recipe"] == "ultralight_256x192"
    assert found["opsets"] == {"ai.onnx": 8}
    assert found["inputs"] == [{"name": "data", "type": "float", "shape": [1, 3, 256, 192]}]


@pytest.mark.parametrize("content", [b"<html>", bytes(100), b"\x08\x08\x12\x03abc"])
def test_damaged_onnx(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w32.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is not a valid ONNX file"):
        inspect(path)


def test_plan_with_and_without_its_manifest(tmp_path: Path) -> None:
    path = tmp_path / "w32.plan"
    path.write_bytes(b"ftrt")
    assert facts(path)["manifest"] is None
    assert "none beside it" in inspect(path).stdout
    (tmp_path / "w32.plan.json").write_text('{"schema": 1, "gpu": "some GPU"}')
    assert facts(path)["manifest"] == {"schema": 1, "gpu": "some GPU"}
    assert "some GPU" in inspect(path).stdout
    (tmp_path / "w32.plan.json").write_text("[1]")
    assert "not a JSON object" in inspect(path).stdout


@pytest.mark.parametrize(
    ("width", "size_hw", "paper"),
    [(32, (256, 192), 7.1), (32, (384, 288), 16.0), (48, (256, 192), 14.6), (48, (384, 288), 32.9)],
)
def test_multiply_adds_are_the_papers(width: int, size_hw: tuple[int, int], paper: float) -> None:
    count = multiply_adds(published_architecture(width, 17), size_hw)
    assert round(count / 1024**3, 1) == paper


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    return subprocess.run(
        [sys.executable, "-m", "hrnet_deploy", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_as_a_process(small_checkpoint: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "inspect", str(small_checkpoint), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["architecture"] == "hrnet_w8_m111"
    (tmp_path / "w32.pth").write_bytes(b"<html>")
    done = run(tmp_path, "inspect", "w32.pth")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("hrnet-deploy: error: w32.pth: is an HTML page, not a checkpoint")
    assert done.stderr.count("\n") == 1
