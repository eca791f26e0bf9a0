"""A signal after models of OpenVINO have come and gone in any order."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("openvino", reason="needs OpenVINO")
pytest.importorskip("onnx", reason="needs the onnx package")

SCRIPT = """
import os, signal, sys
from pathlib import Path
from hrnet_deploy.engines import load_engine

path = Path(sys.argv[1])
signal.signal(signal.SIGINT, lambda number, frame: print("handled", flush=True))
first, second = (load_engine(path, backend="openvino", threads=1) for _ in range(2))
first.close()
second.close()
os.kill(os.getpid(), signal.SIGINT)
"""


def test_ctrl_c_after_engines_closed_in_the_order_of_opening(tiny_onnx: Path) -> None:
    """OpenVINO alone leaves the thread a freed stack for signals then: the process died."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tiny_onnx)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
