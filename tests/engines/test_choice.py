from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from hrnet_deploy.engines import choice, load_engine
from hrnet_deploy.engines.choice import choose
from hrnet_deploy.errors import EnvironmentFault, InputError


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Pretend a machine: which precisions OpenVINO computes (None: not installed), which CPU."""

    def pretend(native: tuple[str, ...] | None, processor: str = "x86_64") -> None:
        found = None if native is None else object()
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: found)
        monkeypatch.setattr(choice, "native_precisions", lambda ov: native)
        monkeypatch.setattr(choice, "require", lambda *_, **__: None)
        monkeypatch.setattr(choice.platform, "machine", lambda: processor)
        monkeypatch.setattr(choice, "bf16_instructions", lambda: "amx_bf16")

    return pretend


BF16, PLAIN = ("fp32", "bf16"), ("fp32",)


@pytest.mark.parametrize(
    ("native", "arguments", "backend", "precision", "reason"),
    [
        (BF16, {}, "onnxruntime", None, "ONNX Runtime in the file's own precision"),
        (BF16, {"backend": "auto"}, "openvino", None, "OpenVINO in fp32, the fastest"),
        (BF16, {"backend": "auto", "precision": "fastest"}, "openvino", "bf16", "has amx_bf16"),
        (BF16, {"precision": "fastest"}, "openvino", "bf16", "differ a little from fp32"),
        (BF16, {"precision": "bf16"}, "openvino", "bf16", "OpenVINO in bf16, asked for"),
        (BF16, {"backend": "onnxruntime"}, "onnxruntime", None, "ONNX Runtime"),
        (PLAIN, {"precision": "fastest"}, "openvino", None, "has no bf16 arithmetic"),
        (None, {"backend": "auto"}, "onnxruntime", None, "OpenVINO is not installed"),
        (None, {"precision": "fastest"}, "onnxruntime", None, r"hrnet-deploy\[openvino\]"),
        (BF16, {"backend": "auto", "device": "cuda:1"}, "onnxruntime", None, "device cuda:1"),
        (BF16, {"backend": "auto", "file_precision": "fp16"}, "onnxruntime", None, "typed fp16"),
        (BF16, {"backend": "openvino", "device": "cpu"}, "openvino", None, "OpenVINO in fp32"),
    ],
)
def test_what_is_chosen_and_why(
    machine: Any,
    native: tuple[str, ...] | None,
    arguments: dict[str, str],
    backend: str,
    precision: str | None,
    reason: str,
) -> None:
    machine(native)
    chosen = choose("w32.onnx", **arguments)
    assert (chosen.backend, chosen.precision) == (backend, precision)
    assert re.search(reason, chosen.reason)


def test_a_processor_where_nothing_was_measured_keeps_onnx_runtime(machine: Any) -> None:
    machine(BF16, "aarch64")
    chosen = choose("w32.onnx", backend="auto", precision="fastest")
    assert chosen.backend == "onnxruntime"
    assert "has not been measured on aarch64" in chosen.reason


def test_a_plan_is_for_tensorrt() -> None:
    for backend in (None, "auto", "tensorrt"):
        assert choose("w32.plan", backend=backend).backend == "tensorrt"


@pytest.mark.parametrize(
    ("path", "arguments", "problem"),
    [
        ("w.onnx", {"backend": "ncnn"}, "backend: is 'ncnn'. Give auto, onnxruntime, openvino"),
        ("w.onnx", {"precision": "int3"}, "precision: is 'int3'. Give exact, bf16, fastest"),
        ("w.onnx", {"backend": "tensorrt"}, "is no plan, TensorRT was asked for. Build a plan"),
        ("w.onnx", {"backend": "onnxruntime", "precision": "bf16"}, "Use the backend openvino"),
        ("w.onnx", {"backend": "openvino", "device": "cuda"}, "runs on the CPU, not on cuda"),
        ("w.onnx", {"device": "cuda", "precision": "bf16"}, "precision: is bf16"),
        ("w.plan", {"backend": "openvino"}, "is a TensorRT plan, openvino was asked for"),
        ("w.plan", {"precision": "bf16"}, "fixed when it was built"),
    ],
)
def test_what_does_not_go_together_is_said(
    machine: Any, path: str, arguments: dict[str, str], problem: str
) -> None:
    machine(BF16)
    with pytest.raises(InputError, match=problem):
        choose(path, **arguments)


@pytest.mark.parametrize("typed", ["fp16", "int8", "fp8"])
def test_the_fastest_of_a_file_that_is_no_float32_is_its_own(machine: Any, typed: str) -> None:
    machine(BF16)
    chosen = choose("w.onnx", backend="openvino", precision="fastest", file_precision=typed)
    assert (chosen.backend, chosen.precision) == ("openvino", None)
    assert f"OpenVINO in {typed}, asked for" in chosen.reason


def test_bf16_on_a_processor_without_it_is_an_environment_fault(machine: Any) -> None:
    machine(PLAIN)
    with pytest.raises(EnvironmentFault, match="precision: is bf16, which this processor does not"):
        choose("w32.onnx", precision="bf16")


def test_load_engine_says_what_it_chose(tiny_onnx: Path) -> None:
    pytest.importorskip("openvino", reason="needs OpenVINO")
    lines: list[str] = []
    with load_engine(tiny_onnx, backend="openvino", say=lines.append) as engine:
        assert engine.info.backend == "openvino"
    assert lines == [f"{tiny_onnx}: OpenVINO in fp32, asked for"]


def test_load_engine_without_a_word_is_exact_and_the_proven_engine(tiny_onnx: Path) -> None:
    with load_engine(tiny_onnx) as engine:
        assert (engine.info.backend, engine.info.precision) == ("onnxruntime", "fp32")
