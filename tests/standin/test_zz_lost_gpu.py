"""The last file of the stand-in: like a real one, the GPU that it loses stays lost."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import numpy as np
import pytest

if "STANDIN_TENSORRT" not in os.environ:
    pytest.skip("run by tests/engines/test_on_standin.py", allow_module_level=True)

from hrnet_deploy.engines.build_settings import BuildSettings
from hrnet_deploy.engines.cuda.device import GpuFault
from hrnet_deploy.engines.tensorrt import load_plan_engine
from hrnet_deploy.export.plan import PlanRequest, make_plan
from tests.tiny import write_tiny_onnx


def test_a_lost_gpu_is_told_once_and_closing_stays_quiet(tmp_path: Path) -> None:
    onnx = write_tiny_onnx(tmp_path / "tiny.onnx")
    request = PlanRequest(onnx, tmp_path / "tiny.plan", BuildSettings(max_batch=4, opt_batch=2))
    engine = load_plan_engine(make_plan(request, say=lambda line: None).path)
    pending = engine.submit(np.zeros((2, 64, 48, 3), np.uint8))
    ctypes.CDLL("libcuda.so.1").standin_break()
    with pytest.raises(GpuFault, match="CUDA_ERROR_ILLEGAL_ADDRESS in cuEventSynchronize") as error:
        pending.result()
    assert "run the command again" in str(error.value)
    engine.close()
