"""``hrnet-deploy demo``: the whole way, in a real process."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

for module in ("torch", "onnx", "onnxruntime"):
    pytest.importorskip(module)

COMMAND = [sys.executable, "-m", "hrnet_deploy", "demo"]


def test_demo_exports_proves_evaluates_and_draws(tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "--images", "12", "--json", "-o", str(tmp_path / "demo")],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert all(report["failures"] == [] for report in facts["parity"].values())
    pytorch, fp32, fp16 = (figures["AP"] for figures in facts["figures"].values())
    assert pytorch > 0.7
    assert fp32 == pytest.approx(pytorch, abs=1e-4)
    assert fp16 == pytest.approx(pytorch, abs=1e-2)
    sheet = cv2.imread(
        facts["overlays"]
        if Path(facts["overlays"]).is_absolute()
        else str(tmp_path / facts["overlays"])
    )
    assert sheet is not None
    assert sheet.std() > 10


def test_demo_does_not_overwrite(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    done = subprocess.run(
        [*COMMAND, "-o", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert f"{tmp_path}: exists. Pass --force" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_full_disk_is_said_of_what_is_written(tmp_path: Path) -> None:
    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    words = [*COMMAND, "--images", "8", "-o", str(tmp_path / "demo")]
    done = subprocess.run(
        words, preexec_fn=limit, capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 3, done.stderr
    assert f"error: {tmp_path}" in done.stderr
    assert "disk full while writing it" in done.stderr
