"""The scripts under benchmarks/ still find what they import; they are run by hand, not by tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="not in a checkout")
SUITES = sorted(
    f"{file.parent.name}.{file.stem}"
    for file in FOLDER.glob("*_suite/*.py")
    if "init" not in file.stem
)


NEEDS = {
    "adaptive_flip": "onnxruntime",
    "coco_tail": "pycocotools",
    "gpu": "onnxruntime",
    "graph_experiments": "torch",
    "host_side": "onnxruntime",
    "jpeg": "onnxruntime",
    "ncnn_engine": "numpy",
    "peers": "onnxruntime",
    "predict_overhead": "onnxruntime",
    "tensorrt_kernels": "onnx",
}
"""The scripts, and what each cannot be imported without."""


def test_every_script_is_imported() -> None:
    scripts = {file.stem for file in FOLDER.glob("*.py") if "__main__" in file.read_text()}
    assert set(NEEDS) == scripts


@pytest.mark.parametrize("module", [*NEEDS, *SUITES])
def test_imports(module: str) -> None:
    pytest.importorskip(NEEDS.get(module, "onnxruntime"))
    done = subprocess.run(
        [sys.executable, "-c", f"import importlib; importlib.import_module({module!r})"],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_wrong_argument_is_one_line() -> None:
    words = [sys.executable, str(FOLDER / "peers.py"), "--rounds", "0"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert "--rounds, --persons, --batch and --threads are at least 1" in done.stderr


def gpu_suite(work: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    folders = [f"--{name}={work}" for name in ("work", "output", "cards")]
    return subprocess.run(
        [sys.executable, str(FOLDER / "gpu.py"), *folders, *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def without(tmp_path: Path) -> Callable[[str, str], str]:
    """A PYTHONPATH on which one module's import fails as ``error`` says."""

    def folder(module: str, error: str) -> str:
        (tmp_path / "path").mkdir()
        (tmp_path / "path" / f"{module}.py").write_text(f"raise {error}\n")
        return str(tmp_path / "path")

    return folder


def test_the_gpu_suite_leaves_out_what_needs_a_package_that_is_not_there(
    tmp_path: Path, without: Callable[[str, str], str]
) -> None:
    path = without("cv2", "ModuleNotFoundError(\"No module named 'cv2'\", name='cv2')")
    (tmp_path / "tests.json").write_text('{"summary": "22 passed"}')
    done = gpu_suite(tmp_path, "--sections", "crops", "tests", "--device=cpu", PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    assert "left out: No module named 'cv2'" in done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found == {
        "crops": {"left_out": "No module named 'cv2'"},
        "tests": {"summary": "22 passed"},
    }


def test_what_the_gpu_suite_found_stands_beside_a_failure(
    tmp_path: Path, without: Callable[[str, str], str]
) -> None:
    (tmp_path / "crops.json").write_text('{"largest_difference": 0}')
    path = without("cv2", "RuntimeError('broken')")
    done = gpu_suite(tmp_path, "--sections", "crops", PYTHONPATH=path)
    assert done.returncode == 1
    assert "failed: crops" in done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found == {"crops": {"failed": "exit code 1", "largest_difference": 0}}


def test_the_gpu_suite_names_a_python_that_is_not_there(tmp_path: Path) -> None:
    done = gpu_suite(tmp_path, "--sections", "crops", "--python", "/nowhere/kitpy")
    assert done.returncode == 1
    assert "crops: /nowhere/kitpy cannot be started (No such file or directory)" in done.stderr


def test_the_gpu_suite_says_its_options_without_any_package() -> None:
    words = [sys.executable, "-S", str(FOLDER / "gpu.py"), "--help"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "w48-384x288" in done.stdout


def test_where_nothing_is_measured_earlier_results_stay(
    tmp_path: Path, without: Callable[[str, str], str]
) -> None:
    (tmp_path / "gpu.json").write_text("{}")
    path = without("cv2", "ModuleNotFoundError(\"No module named 'cv2'\", name='cv2')")
    done = gpu_suite(tmp_path, "--sections", "crops", PYTHONPATH=path)
    assert done.returncode == 0
    assert "nothing was measured, so no result is written" in done.stderr
    assert (tmp_path / "gpu.json").read_text() == "{}"


def test_a_section_that_takes_too_long_ends_with_all_that_it_started(tmp_path: Path) -> None:
    """The one that sleeps would otherwise go on using the GPU."""
    pid, started = tmp_path / "pid", f"echo $! > {tmp_path / 'pid'}"
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nsleep 100 &\n{started}\nwait\n")
    python.chmod(0o755)
    done = gpu_suite(tmp_path, "--sections", "tests", "--timeout=1", f"--python={python}")
    assert done.returncode == 1
    assert "tests: took longer than 1 s" in done.stderr
    sleeper = Path("/proc") / pid.read_text().strip() / "cmdline"
    for _ in range(100):
        if not sleeper.exists() or not sleeper.read_bytes():  # gone, or not waited for yet
            return
        time.sleep(0.05)
    pytest.fail("the sleeping process lives")
