"""No package that runs engines marks the machine or tells its maker of the run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

RUN = """
import sys
import numpy as np
from hrnet_deploy.engines import load_engine

with load_engine(sys.argv[1], backend=sys.argv[2]) as engine:
    engine.run(np.zeros((1, *engine.spec.input_size_hw, 3), np.uint8))
"""


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_running_an_engine_leaves_nothing_at_home(
    backend: str, tiny_onnx: Path, tmp_path: Path
) -> None:
    pytest.importorskip(backend)
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    environment = {k: v for k, v in environment.items() if not k.startswith("XDG_")}
    command = [sys.executable, "-c", RUN, str(tiny_onnx), backend]
    home = {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path)}
    subprocess.run(command, env={**environment, **home}, check=True, timeout=120)
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == []


def test_a_variable_that_is_set_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    from hrnet_deploy import telemetry

    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    with telemetry.switched_off():
        assert os.environ["ORT_DISABLE_TELEMETRY"] == "0"


def test_others_can_import_the_sender_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    from hrnet_deploy import telemetry

    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "1")
    before = sys.modules.get("openvino_telemetry", "absent")
    with telemetry.switched_off():
        pass
    assert sys.modules.get("openvino_telemetry", "absent") == before
