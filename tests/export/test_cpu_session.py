from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from hrnet_deploy.engines.onnxruntime import RunFault
from hrnet_deploy.errors import InputError
from hrnet_deploy.export.cpu_session import CpuSession


def test_a_session_gives_all_outputs_or_those_asked_for(tiny_onnx: Path) -> None:
    session = CpuSession(tiny_onnx.read_bytes(), tiny_onnx, purpose="a test")
    crops = {"crops": np.zeros((2, 64, 48, 3), np.uint8)}
    assert len(session.run(crops)) == 3
    (scores,) = session.run(crops, ["scores"])
    assert scores.shape == (2, 3)


def test_faults_are_ours_and_name_the_model(tiny_onnx: Path) -> None:
    with pytest.raises(InputError, match=r"noise\.onnx: ONNX Runtime cannot load it \("):
        CpuSession(b"noise", "noise.onnx", purpose="a test")
    session = CpuSession(tiny_onnx.read_bytes(), "tiny.onnx", purpose="a test")
    with pytest.raises(RunFault, match=r"tiny\.onnx: ONNX Runtime failed \("):
        session.run({"crops": np.zeros((1, 8, 8, 3), np.uint8)})
