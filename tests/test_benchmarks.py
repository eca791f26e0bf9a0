"""The scripts under benchmarks/ still find what they import; they are run by hand, not by tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="not in a checkout")
PEERS = sorted(f"cpu_suite.{file.stem}" for file in (FOLDER / "cpu_suite").glob("*.py"))


@pytest.mark.parametrize("module", ["peers", "host_side", *PEERS])
def test_imports(module: str) -> None:
    pytest.importorskip("onnxruntime")
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
