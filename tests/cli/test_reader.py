"""A reader of stdout that goes away is no error, whatever was about to be written."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


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
    assert (done.returncode, done.stderr) == (0, "")
