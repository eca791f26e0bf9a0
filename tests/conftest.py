from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

TESTS = Path(__file__).resolve().parent

# Small networks on a machine that does other work: one thread is several times as fast as two.
os.environ.setdefault("OMP_NUM_THREADS", "1")

if importlib.util.find_spec("hypothesis"):  # the GPU's tests do without it
    from hypothesis import settings

    # A busy machine is no fault of the code; CI tries the same examples every time.
    settings.register_profile("steady", deadline=None, derandomize="CI" in os.environ)
    settings.load_profile("steady")


def _helper(name: str) -> ModuleType:
    """A module of this folder by its file: the folder is no package."""
    specification = importlib.util.spec_from_file_location(name, TESTS / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@functools.cache
def _gpus() -> int:
    """How many NVIDIA GPUs the driver shows; 0 without a driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value


def pytest_configure() -> None:
    """What a shell starts in the background ignores Ctrl-C, and hands that on to every command."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests marked ``gpu`` are for machines that have one."""
    if item.get_closest_marker("gpu") and not _gpus():
        pytest.skip("no NVIDIA GPU visible")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference outputs and pictures, which is no part of the repository."""
    folder = Path(os.environ.get("HRNET_DEPLOY_SHARED") or TESTS.parent.parent / "shared")
    if not (folder / "golden").is_dir():
        pytest.skip(f"no reference data in {folder} (set HRNET_DEPLOY_SHARED)")
    return folder


@pytest.fixture(scope="session")
def data() -> Path:
    """The small copies of reference outputs that travel with the tests."""
    return TESTS / "data"


@pytest.fixture(scope="session")
def pictures() -> ModuleType:
    """``tests/pictures.py``: picture files of every kind, made from scratch."""
    return _helper("pictures")


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    """``tests/tiny.py``: hand-made engine files whose keypoints are the brightest spots."""
    pytest.importorskip("onnx", reason="needs the onnx package")
    pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")
    return _helper("tiny")


@pytest.fixture(scope="session")
def small() -> ModuleType:
    """``tests/small.py``: a small random HRNet, its checkpoint and its engine."""
    pytest.importorskip("torch", reason="needs PyTorch")
    pytest.importorskip("onnx", reason="needs the onnx package")
    return _helper("small")


@pytest.fixture(scope="session")
def tiny_onnx(tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A three-keypoint engine file of a few KB, for 64x48 crops."""
    path: Path = tiny.write_tiny_onnx(tmp_path_factory.mktemp("tiny") / "tiny.onnx")
    return path


@pytest.fixture
def make_tiny_onnx(tiny: ModuleType, tmp_path: Path) -> Callable[..., Path]:
    """Write a variation of ``tiny_onnx`` into the test's own folder."""

    def make(name: str = "tiny.onnx", **changes: object) -> Path:
        path: Path = tiny.write_tiny_onnx(tmp_path / name, **changes)
        return path

    return make


@pytest.fixture(scope="session")
def small_checkpoint(small: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A seeded random HRNet (COCO-17) in the official key layout, 0.1 M parameters."""
    path: Path = small.write_small_checkpoint(tmp_path_factory.mktemp("small") / "small.pth")
    return path


@pytest.fixture(scope="session")
def small_onnx(small: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The engine file of ``small_checkpoint`` for 96x64 crops, with flip-test."""
    path: Path = small.write_small_onnx(tmp_path_factory.mktemp("small") / "small.onnx")
    return path


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    """A ``tests.browser.Browser`` with an empty profile."""
    from tests.browser import CHROMEDRIVER, CHROMIUM, MISSING, browsing

    if CHROMIUM is None or CHROMEDRIVER is None:
        pytest.skip(MISSING)
    with browsing(tmp_path / "profile") as opened:
        yield opened
