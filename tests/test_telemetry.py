"""No package that runs engines marks the machine or tells its maker of the run."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
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


def test_one_thread_does_not_switch_it_on_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    from hrnet_deploy import telemetry

    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "1")
    monkeypatch.delitem(sys.modules, "openvino_telemetry", raising=False)
    inside, leave, second_inside = (threading.Event() for _ in range(3))
    seen: list[object] = []

    def first() -> None:
        with telemetry.switched_off():
            inside.set()
            leave.wait(10)

    def second() -> None:
        with telemetry.switched_off():
            second_inside.set()
            threads[0].join(10)
            seen.append(sys.modules.get("openvino_telemetry", "absent"))

    threads = [threading.Thread(target=work) for work in (first, second)]
    threads[0].start()
    assert inside.wait(10)
    threads[1].start()
    second_inside.wait(0.2)
    leave.set()
    for thread in threads:
        thread.join(10)
    assert seen == [None]
