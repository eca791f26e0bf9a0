"""Ctrl-C at any moment after the start: exit code 130 and no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import hrnet_deploy

ROOT = Path(hrnet_deploy.__file__).parents[1]

INTERRUPTING = """
import os, signal, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["INTERRUPTED_IMPORT"]:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)  # pytest itself may ignore it
sys.meta_path.insert(0, Interrupting())
"""
"""A ``sitecustomize`` that sends the signal when a certain module is about to be imported."""


@pytest.mark.parametrize(
    "module",
    [
        "hrnet_deploy.cli",
        "click",
        "hrnet_deploy.errors",
        "hrnet_deploy.cli.signals",
        "hrnet_deploy.cli.inspect",
        "hrnet_deploy.export",
    ],
)
def test_ctrl_c_while_modules_are_imported(module: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(INTERRUPTING)
    done = subprocess.run(
        [sys.executable, "-m", "hrnet_deploy", "inspect", "nothing.pth"],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]),
            "INTERRUPTED_IMPORT": module,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout
