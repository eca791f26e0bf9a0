"""What this machine has and the pip line for what is missing; needs the base packages alone."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hrnet_deploy import __version__
from hrnet_deploy.engines.cpu import physical_cores
from hrnet_deploy.engines.cuda.probe import GpuReport, probe
from hrnet_deploy.errors import EnvironmentFault, require

CPU_FEATURES = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16")
ARM_FEATURES = ("asimd", "asimdhp", "asimddp", "sve", "bf16", "i8mm")

DISTRIBUTIONS = {
    "numpy": ("numpy",),
    "cv2": (
        "opencv-python-headless",
        "opencv-python",
        "opencv-contrib-python",
        "opencv-contrib-python-headless",
    ),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "openvino": ("openvino",),
    "torch": ("torch",),
    "onnx": ("onnx",),
    "safetensors": ("safetensors",),
    "tensorrt": ("tensorrt", "tensorrt-cu13", "tensorrt-cu12", "tensorrt-bindings"),
    "cuda.bindings": ("cuda-bindings",),
    "nvrtc": ("nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu12"),
}
"""Modules and the distributions that bring them; versions are read without importing anything."""

_JETSON_MARK = Path("/etc/nv_tegra_release")
_DRIVER_VERSION = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class Ability:
    """Something the package can do, whether it can here, and else what to install for it."""

    name: str
    works: bool
    problem: str | None = None
    fix: str | None = None


def facts() -> dict[str, Any]:
    """Everything as plain values: system, cpu, gpu, packages, providers and abilities."""
    report = probe()
    packages = {module: _version(module) for module in DISTRIBUTIONS}
    providers = _providers() if packages["onnxruntime"] else []
    return {
        "hrnet_deploy": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "jetson": _JETSON_MARK.exists(),
        "cpu": {"name": _cpu_name(), "cores": physical_cores(), "features": _cpu_features()},
        "gpu": _gpu_facts(report),
        "packages": packages,
        "onnxruntime_providers": providers,
        "abilities": [asdict(ability) for ability in _abilities(packages, providers, report)],
    }


def tensorrt_line(cuda_version: str | None, *, jetson: bool) -> str:
    """How TensorRT and what the runner needs beside it are installed, for the driver's CUDA."""
    if jetson:
        return (
            "Take JetPack's package python3-libnvinfer and, in a venv with --system-site-packages: "
            "pip install 'cuda-bindings<13' nvidia-cuda-nvrtc-cu12"
        )
    if cuda_version is not None and int(cuda_version.split(".")[0]) < 13:
        return "pip install 'tensorrt-cu12<11' 'cuda-bindings<13' nvidia-cuda-nvrtc-cu12"
    return "pip install 'hrnet-deploy[tensorrt]' nvidia-cuda-nvrtc"


def _abilities(
    packages: dict[str, str | None], providers: list[str], report: GpuReport
) -> Iterable[Ability]:
    yield _needs(packages, "run on the CPU", {"onnxruntime": "pip install 'hrnet-deploy[cpu]'"})
    yield _needs(
        packages, "run with OpenVINO", {"openvino": "pip install 'hrnet-deploy[openvino]'"}
    )
    export = "pip install 'hrnet-deploy[export]'"
    yield _needs(packages, "export", dict.fromkeys(("torch", "onnx", "safetensors"), export))
    yield _onnxruntime_cuda(packages, providers, report)
    yield _tensorrt(packages, report)
    yield from _opencv(packages)


def _opencv(packages: dict[str, str | None]) -> Iterable[Ability]:
    """What is wrong with OpenCV: too new, or two packages that write over one another."""
    installed = {name: _distribution(name) for name in DISTRIBUTIONS["cv2"]}
    several = [f"{name} {version}" for name, version in installed.items() if version]
    if len(several) > 1:
        names = " ".join(name.split()[0] for name in several)
        problem = f"{' and '.join(several)} write over one another: which one works is chance"
        fix = f"pip uninstall {names}; pip install 'opencv-python-headless<5'"
        yield Ability("published crops", False, problem, fix)
    elif (packages["cv2"] or "").startswith("5"):
        problem = f"OpenCV {packages['cv2']} cuts crops that differ by up to 5 grey levels"
        yield Ability("published crops", False, problem, "pip install 'opencv-python-headless<5'")


def _needs(packages: dict[str, str | None], name: str, lines: dict[str, str]) -> Ability:
    missing = [module for module in lines if packages[module] is None]
    if not missing:
        return Ability(name, True)
    return Ability(name, False, f"{', '.join(missing)} missing", lines[missing[0]])


def _onnxruntime_cuda(
    packages: dict[str, str | None], providers: list[str], report: GpuReport
) -> Ability:
    name = "run on a GPU with ONNX Runtime"
    if report.problem is not None:
        return Ability(name, False, report.problem)
    if "CUDAExecutionProvider" in providers:
        return Ability(name, True)
    fix = "pip uninstall onnxruntime; pip install 'hrnet-deploy[gpu]'"
    return Ability(name, False, "this ONNX Runtime has no CUDA provider", fix)


def _tensorrt(packages: dict[str, str | None], report: GpuReport) -> Ability:
    name = "build and run TensorRT plans"
    if report.problem is not None:
        return Ability(name, False, report.problem)
    missing = [m for m in ("tensorrt", "cuda.bindings", "nvrtc") if packages[m] is None]
    if not missing:
        return Ability(name, True)
    fix = tensorrt_line(report.cuda_version, jetson=_JETSON_MARK.exists())
    return Ability(name, False, f"{', '.join(missing)} missing", fix)


def _version(module: str) -> str | None:
    """The version of whichever distribution brings ``module``, None where there is none."""
    for name in DISTRIBUTIONS[module]:
        if version := _distribution(name):
            return version
    # Packages of a Linux distribution (JetPack) may lack the metadata.
    top = module.split(".")[0]
    if module != "nvrtc" and "." not in module and importlib.util.find_spec(top) is not None:
        return "unknown"
    return None


def _distribution(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _providers() -> list[str]:
    try:
        ort = require("onnxruntime", extra="cpu", purpose="doctor")
    except EnvironmentFault:
        return []
    return list(ort.get_available_providers())


def _gpu_facts(report: GpuReport) -> dict[str, Any]:
    return {
        "problem": report.problem,
        "cuda_of_driver": report.cuda_version,
        "driver": _driver_version(),
        "devices": [
            {
                "index": gpu.index,
                "name": gpu.name,
                "compute_capability": ".".join(map(str, gpu.compute_capability)),
                "memory_mib": gpu.memory_bytes >> 20,
            }
            for gpu in report.gpus
        ],
    }


def _driver_version() -> str | None:
    """The driver's own version, such as "580.65.06"; None where the kernel module is not there."""
    words = _read(_DRIVER_VERSION).split("\n")[0].split()
    return next((word for word in words if word[:1].isdigit() and "." in word), None)


def _cpu_name() -> str:
    for line in _read(Path("/proc/cpuinfo")).splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cpu_features() -> list[str]:
    wanted = CPU_FEATURES if platform.machine() in ("x86_64", "AMD64") else ARM_FEATURES
    for line in _read(Path("/proc/cpuinfo")).splitlines():
        if line.startswith(("flags", "Features")):
            there = set(line.partition(":")[2].split())
            return [name for name in wanted if name in there]
    return []


def _read(path: Path) -> str:
    if sys.platform != "linux":
        return ""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
