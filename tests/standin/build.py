"""Compile the stand-in for the NVIDIA driver, and the environment that puts it in place."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from hrnet_deploy.engines.cuda.compile import CROP_SOURCE

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent


def compiler() -> str | None:
    return shutil.which("g++") or shutil.which("clang++")


def build_driver(folder: Path) -> Path:
    """``libcuda.so.1`` in ``folder``."""
    library = folder / "libcuda.so.1"
    defines = {
        "CUDA_SHIM": HERE.parent / "engines" / "cuda_shim.h",
        "CROP_SOURCE": CROP_SOURCE,
        "SELF_PATH": library,
    }
    command = [
        str(compiler()),
        *["-O2", "-std=c++17", "-Wall", "-Werror", "-ffp-contract=off", "-shared", "-fPIC"],
        "-Wl,-soname,libcuda.so.1",
        *[f'-D{name}="{path}"' for name, path in defines.items()],
        *["-o", str(library), str(HERE / "libcuda.cpp"), "-ldl"],
    ]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    return library


def environment(driver: Path, tensorrt: str, **settings: str) -> dict[str, str]:
    """Variables for a process that sees the stand-in GPU and TensorRT ``tensorrt``."""
    path = os.pathsep.join([str(HERE), str(REPOSITORY)])
    return {
        **os.environ,
        "LD_LIBRARY_PATH": str(driver.parent),
        "PYTHONPATH": path,
        "STANDIN_TENSORRT": tensorrt,
        **settings,
    }
