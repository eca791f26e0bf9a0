"""``hrnet-deploy build`` and ``doctor`` where there is no GPU: every check that needs none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="needs the onnx package")


def run(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The command on a machine whose GPUs, if any, are hidden."""
    return subprocess.run(
        [sys.executable, "-m", "hrnet_deploy", *map(str, words)],
        cwd=cwd,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def refusal(*words: object, cwd: Path | None = None) -> str:
    """``<exit code> <message>`` of a command that must fail with one line."""
    done = run("build", *words, cwd=cwd)
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    return f"{done.returncode} {lines[0].removeprefix('hrnet-deploy: error: ')}"


def test_no_gpu_is_said_before_tensorrt_is_touched(tiny_onnx: Path, tmp_path: Path) -> None:
    message = refusal(tiny_onnx, "-o", tmp_path / "w.plan")
    assert message.startswith("3 building w.plan: no NVIDIA GPU visible (")
    assert "CUDA_VISIBLE_DEVICES is ''" in message
    assert message.endswith(
        "Use the .onnx file on the CPU (--device cpu), or run on a machine with a GPU."
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty (0 bytes)"),
        (b"<!DOCTYPE html><html>", "is not a valid ONNX file (an HTML page)"),
        (b"\x00\x01\x02\x03" * 9, "is not a valid ONNX file"),
    ],
)
def test_what_is_no_onnx_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "w.onnx"
    path.write_bytes(content)
    assert refusal(path).startswith(f"2 {path}: {message}")


@pytest.mark.parametrize("damage", [lambda b: b[:-7], lambda b: b + b"\xff\xff"])
def test_a_truncated_or_longer_file_is_refused(
    tiny_onnx: Path, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "w.onnx"
    path.write_bytes(damage(tiny_onnx.read_bytes()))
    assert refusal(path).startswith(f"2 {path}: is not a valid ONNX file")


def test_somebody_elses_file_is_refused(make_tiny_onnx: Callable[..., Path]) -> None:
    path = make_tiny_onnx("theirs.onnx", metadata=None)
    assert "was not written by hrnet-deploy export; its inputs are crops (N, 64, 48, 3)" in (
        refusal(path)
    )


def test_external_data_is_refused(make_tiny_onnx: Callable[..., Path]) -> None:
    import onnx

    path = make_tiny_onnx("w.onnx")
    model = onnx.load(path)
    tensor = model.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    path.write_bytes(model.SerializeToString())
    assert refusal(path).startswith(f"2 {path}: keeps its tensor 'width' in another file")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--min-batch", 8, "--max-batch", 4], "2 build settings: the batch profile is min 8, opt"),
        (["--opt-batch", 0], "2 --opt-batch: 0 is not in the range 1<=x<=4096"),
        (["--level", 9], "2 --level: 9 is not in the range 0<=x<=5"),
        (["--profile", "fast"], "2 --profile: there is no profile 'fast' (there are: jetson, lat"),
        (["--profile", "none.toml"], "2 none.toml: no such file"),
        (["--device", "cpu"], "2 --device: is 'cpu', a .plan runs on an NVIDIA GPU"),
        (["--device", "cuda:x"], "2 --device: is 'cuda:x'"),
        (["-o", "w.engine"], "2 w.engine: does not end in .plan"),
    ],
)
def test_flags_out_of_range_are_named(
    tiny_onnx: Path, tmp_path: Path, flags: list[object], message: str
) -> None:
    assert refusal(tiny_onnx, *flags, cwd=tmp_path).startswith(message)
    assert list(tmp_path.iterdir()) == []


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    checkpoint = tmp_path / "w.pth"
    checkpoint.write_bytes(b"x")
    assert refusal(checkpoint).startswith(f"2 {checkpoint}: is no .onnx file. Make one: hrnet-dep")
    assert refusal(tmp_path / "x.onnx").startswith(f"2 {tmp_path / 'x.onnx'}: no such file")


def test_an_existing_plan_needs_force(tiny_onnx: Path, tmp_path: Path) -> None:
    plan = tmp_path / "w.plan"
    plan.write_bytes(b"old")
    assert refusal(tiny_onnx, "-o", plan) == f"2 {plan}: exists. Pass --force to replace it."
    assert refusal(tiny_onnx, "-o", plan, "--force").startswith("3 ")
    assert plan.read_bytes() == b"old"


@pytest.mark.parametrize("name", ["w.plan", "x.engine"])
def test_a_plan_without_manifest_or_gpu(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"anything")
    from hrnet_deploy.engines import load_engine
    from hrnet_deploy.errors import InputError

    with pytest.raises(InputError, match=r"has no manifest|unknown extension"):
        load_engine(tmp_path / name)


def test_doctor_says_what_there_is_and_what_is_missing() -> None:
    done = run("doctor")
    assert done.returncode == 0, done.stderr
    assert "GPU  none: " in done.stdout
    assert "no   build and run TensorRT plans" in done.stdout
    found = json.loads(run("doctor", "--json").stdout)
    assert found["packages"]["numpy"]
    assert found["cpu"]["cores"] >= 1
    assert {ability["name"] for ability in found["abilities"]} >= {"export", "run on the CPU"}


def test_doctor_needs_the_base_packages_only() -> None:
    code = (
        "import sys\n"
        "hidden = ('torch', 'onnx', 'onnxruntime', 'openvino', 'pycocotools', 'tensorrt', 'cuda',"
        " 'safetensors')\n"
        "for name in hidden: sys.modules[name] = None\n"
        "from hrnet_deploy.cli import main\n"
        "main(['doctor'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "hrnet-deploy" in done.stdout
