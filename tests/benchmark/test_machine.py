from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hrnet_deploy.benchmark import machine
from hrnet_deploy.benchmark.watch import Disturbance, Watch

ANSWER = "NVIDIA H200, 570.86, 41, 118.42 W, 1980 MHz, 1980 MHz, 512 MiB, 143771 MiB, 3 %"


def test_facts_are_plain_json_and_name_no_place() -> None:
    facts = machine.machine_facts(None) | machine.momentary_facts()
    text = json.dumps(facts, allow_nan=False)
    assert facts["cores"] >= 1
    assert facts["threads"] == facts["cores"]
    assert facts["versions"]["numpy"]
    assert str(Path.home()) not in text
    assert platform.node() not in text or len(platform.node()) < 4


def test_the_commit_is_that_of_the_checkout() -> None:
    root = Path(machine.hrnet_deploy.__file__).parents[1]
    if not (root / ".git").exists():
        pytest.skip("not a git checkout")
    words = ["git", "-C", str(root), "rev-parse", "HEAD"]
    head = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    commit = machine.machine_facts(1)["commit"]
    assert head.startswith(commit.removesuffix("+changes"))


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (f"echo '{ANSWER}'", ["NVIDIA H200"]),
        (f"echo '{ANSWER}'; echo '{ANSWER}'", ["NVIDIA H200", "NVIDIA H200"]),
        ("echo 'NVIDIA-SMI has failed'; exit 9", []),
        ("echo 'one, two'", []),
    ],
)
@pytest.mark.skipif(os.name != "posix", reason="a shell script stands in for nvidia-smi")
def test_gpus_are_what_nvidia_smi_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, expected: list[str]
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    gpus = machine.gpu_facts()
    assert [gpu["name"] for gpu in gpus] == expected
    for gpu in gpus:
        assert (gpu["power.draw"], gpu["clocks.sm"]) == ("118.42 W", "1980 MHz")


def test_temperatures_are_read_where_there_are_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place, text in (("class/thermal/thermal_zone0/temp", "41000"),
                        ("class/hwmon/hwmon1/temp1_input", "67500")):  # fmt: skip
        (tmp_path / place).parent.mkdir(parents=True)
        (tmp_path / place).write_text(text + "\n")
    monkeypatch.setattr(machine, "_SYS", tmp_path)
    assert machine.momentary_facts()["cpu_celsius"] == 67.5
    monkeypatch.setattr(machine, "_SYS", tmp_path / "nothing")
    assert machine.momentary_facts()["cpu_celsius"] is None


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="needs Linux's /proc")
def test_a_busy_neighbour_is_noticed() -> None:
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.2)
        watch = Watch()
        time.sleep(1.0)
        disturbance = watch.disturbance()
    finally:
        busy.kill()
        busy.wait()
    assert disturbance.others_cores is not None
    assert disturbance.others_cores > 0.15  # a full core where it need not share one
    assert any("other processes took" in text for text in disturbance.warnings(None))


def test_own_work_is_not_taken_for_a_neighbour() -> None:
    watch = Watch()
    end = time.process_time() + 0.3
    while time.process_time() < end:
        pass
    assert watch.disturbance().own_cores > 0.05


def test_a_quiet_machine_gets_no_warning_and_an_uneven_one_does() -> None:
    quiet = Disturbance(10, 2.0, 0.01, (0.1, 0.2))
    assert quiet.warnings(0.02) == []
    assert quiet.warnings(None) == []
    (warning,) = quiet.warnings(0.25)
    assert "varied by 25% between rounds" in warning
    assert len(Disturbance(10, 1.0, 0.9, None).warnings(0.25)) == 2
    assert Disturbance(10, 1.0, None, None).warnings(None) == []
