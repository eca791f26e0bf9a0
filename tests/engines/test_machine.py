"""Which pip line the doctor gives for which machine."""

from __future__ import annotations

import pytest

from hrnet_deploy.engines import machine
from hrnet_deploy.engines.cuda.probe import Gpu, GpuReport
from hrnet_deploy.engines.machine import tensorrt_line
from hrnet_deploy.engines.trt_module import check_version
from hrnet_deploy.errors import EnvironmentFault

GPU = Gpu(0, "NVIDIA T4", (7, 5), 16 << 30)


@pytest.mark.parametrize(
    ("cuda", "jetson", "expected"),
    [
        ("13.0", False, "hrnet-deploy[tensorrt]"),
        ("12.4", False, "'tensorrt-cu12<11' 'cuda-bindings<13' nvidia-cuda-nvrtc-cu12"),
        (None, False, "hrnet-deploy[tensorrt]"),
        ("12.6", True, "JetPack"),
    ],
)
def test_the_line_fits_the_driver(cuda: str | None, jetson: bool, expected: str) -> None:
    assert expected in tensorrt_line(cuda, jetson=jetson)


def abilities(
    monkeypatch: pytest.MonkeyPatch, packages: dict[str, str | None], report: GpuReport
) -> dict[str, dict[str, object]]:
    monkeypatch.setattr(machine, "probe", lambda: report)
    monkeypatch.setattr(machine, "_version", lambda module: packages.get(module))
    monkeypatch.setattr(machine, "_providers", lambda: ["CPUExecutionProvider"])
    return {ability["name"]: ability for ability in machine.facts()["abilities"]}


def test_everything_missing_names_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    report = GpuReport((GPU,), "12.4", None)
    found = abilities(monkeypatch, {"onnxruntime": "1.30"}, report)
    assert found["run on the CPU"]["works"]
    assert found["export"]["fix"] == "pip install 'hrnet-deploy[export]'"
    assert found["export"]["problem"] == "torch, onnx, safetensors missing"
    assert found["run on a GPU with ONNX Runtime"]["fix"] == (
        "pip uninstall onnxruntime; pip install 'hrnet-deploy[gpu]'"
    )
    plans = found["build and run TensorRT plans"]
    assert plans["problem"] == "tensorrt, cuda.bindings, nvrtc missing"
    assert "tensorrt-cu12<11" in str(plans["fix"])


def test_a_complete_machine_lacks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    packages: dict[str, str | None] = dict.fromkeys(machine.DISTRIBUTIONS, "1.0")
    found = abilities(monkeypatch, packages, GpuReport((GPU,), "13.0", None))
    assert found["build and run TensorRT plans"] == {
        "name": "build and run TensorRT plans",
        "works": True,
        "problem": None,
        "fix": None,
    }


def test_opencv_5_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    found = abilities(monkeypatch, {"cv2": "5.0.0"}, GpuReport((), None, "no driver"))
    assert found["published crops"]["fix"] == "pip install 'opencv-python-headless<5'"


def test_two_opencvs_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    both = {"opencv-python-headless": "4.14.0", "opencv-python": "5.0.0"}
    monkeypatch.setattr(machine, "_distribution", both.get)
    found = abilities(monkeypatch, {"cv2": "4.14.0"}, GpuReport((), None, "no driver"))
    problem = "opencv-python-headless 4.14.0 and opencv-python 5.0.0 write over one another"
    assert str(found["published crops"]["problem"]).startswith(problem)
    assert str(found["published crops"]["fix"]).startswith(
        "pip uninstall opencv-python-headless opencv-python; pip install"
    )


@pytest.mark.parametrize("version", ["8.6.1", "10.0.1", "10.16.1.11", "11.4.0.106", "9.3.0"])
def test_supported_versions(version: str) -> None:
    check_version(version, subject="w.plan")


@pytest.mark.parametrize("version", ["8.5.3", "7.2", "12.0.0", "unknown", ""])
def test_other_versions_are_refused_with_both_numbers(version: str) -> None:
    with pytest.raises(EnvironmentFault, match=rf"TensorRT {version} is installed, 8\.6 to 11\.x"):
        check_version(version, subject="w.plan")
