"""A reader of our output that goes away ends the command without a word, as SIGPIPE would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hrnet_deploy.demo import CHECKPOINT


@pytest.mark.parametrize(
    "words", ["--help", "zoo --help", "zoo list", "zoo list --json", "doctor", "predict --help"]
)
def test_nobody_reads(words: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "hrnet_deploy", *words.split()],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_nobody_reads_what_is_said(tmp_path: Path) -> None:
    """Nothing is written then, and the exit code does not say that it was."""
    reader, writer = os.pipe()
    os.close(reader)
    words = ["export", CHECKPOINT, "--recipe", CHECKPOINT.with_suffix(".toml"), "-o", "x.onnx"]
    done = subprocess.run(
        [sys.executable, "-m", "hrnet_deploy", *map(str, words)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=writer,
        timeout=120,
        check=False,
    )
    os.close(writer)
    assert done.returncode == 141
    assert not list(tmp_path.iterdir())
