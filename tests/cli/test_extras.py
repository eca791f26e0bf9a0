"""Commands without the optional packages: one line that says which extra brings them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import hrnet_deploy
from hrnet_deploy.demo import CHECKPOINT
from tests.world import make_world

ROOT = Path(hrnet_deploy.__file__).parents[1]

ABSENT = """
import os, sys
from importlib.machinery import PathFinder

class Hiding(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.split(".")[0] not in os.environ["ABSENT_PACKAGES"].split():
            return super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Hiding
"""
"""A ``sitecustomize`` that hides packages."""


EVERY_PACKAGE = (
    *("cuda", "matplotlib", "ml_dtypes", "onnx", "onnxruntime", "openvino", "pyarrow"),
    *("safetensors", "scipy", "starlette", "supervision", "tensorrt", "tensorrt_rtx_bindings"),
    *("torch", "uvicorn"),
)
FROM_PRETRAINED = """
from hrnet_deploy import PoseEstimator
from hrnet_deploy.errors import EnvironmentFault
try:
    PoseEstimator.from_pretrained("w.pth")
except EnvironmentFault as fault:
    print(fault)
"""
DATA = ("--images", "images", "--annotations", "persons.json")
RECIPE = str(CHECKPOINT.with_suffix(".toml"))


@pytest.fixture
def folder(tiny_onnx: Path, tmp_path: Path) -> Path:
    """A folder with an engine, a checkpoint, a picture and a small data set."""
    folder = tmp_path / "work"
    world = make_world(folder, images=3)
    shutil.copy(world.images / "picture 1.png", folder / "a.png")
    shutil.copy(tiny_onnx, folder / "engine.onnx")
    shutil.copy(CHECKPOINT, folder / "w.pth")
    world.annotations.rename(folder / "persons.json")
    return folder


def run(
    folder: Path, *words: str, absent: Sequence[str] = EVERY_PACKAGE
) -> subprocess.CompletedProcess[str]:
    """One command in ``folder`` where the packages ``absent`` cannot be imported."""
    return python(folder, "-m", "hrnet_deploy", *words, absent=absent)


def python(
    folder: Path, *words: str, absent: Sequence[str] = EVERY_PACKAGE
) -> subprocess.CompletedProcess[str]:
    (folder.parent / "sitecustomize.py").write_text(ABSENT)
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(folder.parent), str(ROOT)]),
            "ABSENT_PACKAGES": " ".join(absent),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if "__pycache__" not in path.parts}


@pytest.mark.parametrize(
    ("command", "package", "extra"),
    [
        (("inspect", "engine.onnx"), "the onnx package", "export"),
        (("inspect", "w.pth"), "PyTorch", "export"),
        (("export", "w.pth"), "the onnx package", "export"),
        (("quantize", "w.pth", *DATA), "PyTorch", "export"),
        (("adopt", "engine.onnx", "--recipe", RECIPE), "the onnx package", "export"),
        (("verify", "engine.onnx", "engine.onnx"), "ONNX Runtime", "cpu"),
        (("verify", "w.pth", "w.pth"), "PyTorch", "export"),
        (("eval", "--engine", "engine.onnx", *DATA), "ONNX Runtime", "cpu"),
        (("eval", "--engine", "engine.onnx", *DATA, "--report", "out"), "matplotlib", "report"),
        (("eval", "--ladder", "w.pth", *DATA), "PyTorch", "export"),
        (("calibrate-flip", "engine.onnx", *DATA), "ONNX Runtime", "cpu"),
        (("predict", "a.png", "--engine", "engine.onnx", "--whole-image"), "ONNX Runtime", "cpu"),
        (
            ("predict", "a.png", "--engine", "engine.onnx", "--whole-image", "-o", "a.parquet"),
            *("pyarrow", "parquet"),
        ),
        (
            (
                "predict",
                "a.png",
                "--engine",
                "engine.onnx",
                "--whole-image",
                "--backend",
                "openvino",
            ),
            *("OpenVINO", "openvino"),
        ),
        (("benchmark", "engine.onnx"), "ONNX Runtime", "cpu"),
        (("benchmark", "w.pth"), "PyTorch", "export"),
        (("benchmark", "engine.onnx", "--plots", "out"), "matplotlib", "report"),
        (("dataset", "stats", "persons.json", "--plots", "out"), "matplotlib", "report"),
        (("demo", "-o", "out"), "PyTorch", "export,cpu"),
        (("view", "--engine", "engine.onnx"), "starlette", "view"),
    ],
    ids=lambda value: "-".join(value[:3]) if isinstance(value, tuple) else None,
)
def test_the_missing_extra_is_one_line(
    folder: Path, command: tuple[str, ...], package: str, extra: str
) -> None:
    before = files(folder)
    done = run(folder, *command)
    *talk, error = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (3, ""), done.stderr
    assert error.startswith("hrnet-deploy: error: ")
    assert error.endswith(f": needs {package}. pip install 'hrnet-deploy[{extra}]'")
    assert not any("Traceback" in line for line in talk)
    assert files(folder) == before


@pytest.mark.parametrize(
    ("command", "absent", "extra"),
    [
        (("export", "w.pth"), "onnxruntime", "cpu"),
        (("adopt", "engine.onnx", "--recipe", RECIPE), "onnx", "export"),
        (("demo", "-o", "out"), "onnxruntime", "export,cpu"),
        (("inspect", "engine.onnx", "--tensorrt", "SM89"), "tensorrt_rtx_bindings", "rtx"),
    ],
)
def test_one_missing_package_among_the_others(
    folder: Path, command: tuple[str, ...], absent: str, extra: str
) -> None:
    pytest.importorskip("torch", reason="needs PyTorch")
    before = files(folder)
    done = run(folder, *command, absent=[absent])
    assert done.returncode == 3, done.stderr
    assert done.stderr.endswith(f". pip install 'hrnet-deploy[{extra}]'\n")
    assert "Traceback" not in done.stderr
    assert files(folder) == before


@pytest.mark.parametrize(
    "command",
    [
        ("doctor",),
        ("zoo", "list"),
        ("dataset", "check", "persons.json"),
        ("dataset", "stats", "persons.json"),
    ],
    ids=" ".join,
)
def test_what_needs_no_extra_works_without_any(folder: Path, command: tuple[str, ...]) -> None:
    done = run(folder, *command)
    assert done.returncode in {0, 1} if "check" in command else done.returncode == 0, done.stderr
    assert done.stdout
    assert "Traceback" not in done.stderr


def test_a_checkpoint_from_python_names_the_extra(folder: Path) -> None:
    before = files(folder)
    done = python(folder, "-c", FROM_PRETRAINED)
    assert done.stdout == "export: needs the onnx package. pip install 'hrnet-deploy[export]'\n"
    assert files(folder) == before


def test_two_engines_are_compared_with_onnx_runtime_alone(folder: Path) -> None:
    absent = [package for package in EVERY_PACKAGE if package != "onnxruntime"]
    done = run(folder, "verify", "engine.onnx", "engine.onnx", "--json", absent=absent)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["passed"]
