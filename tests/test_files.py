"""Files that appear whole: what killed, living and unlocked processes leave beside them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hrnet_deploy import files
from hrnet_deploy.files import StagedFile

HOLD = """
import sys
from hrnet_deploy.files import StagedFile
with StagedFile(sys.argv[1]) as staged:
    print(staged.path, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "out.csv"


def staging(target: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process at work on ``target``, and its hidden file."""
    command = [sys.executable, "-c", HOLD, str(target)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_what_a_killed_process_left_goes_at_once_and_what_a_living_one_has_stays(
    target: Path,
) -> None:
    living, kept = staging(target)
    killed, left = staging(target)
    with living, killed:
        killed.kill()
        killed.wait(timeout=20)
        assert left.exists()
        os.utime(kept, (0, 0))  # however long it has been at work
        with StagedFile(target) as staged:
            assert not left.exists()
            assert kept.exists()
            staged.path.write_text("whole")
            staged.commit()
        living.communicate("")
    assert os.listdir(target.parent) == [target.name]
    assert target.read_text() == "whole"


def test_without_locks_old_leftovers_go(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unlocked(descriptor: int, operation: int) -> None:
        raise OSError("no locks available")

    monkeypatch.setattr(files.fcntl, "flock", unlocked)
    leftovers = [target.with_name(f".out.csv.{n}.hrnet-deploy-tmp.csv") for n in range(2)]
    for path in leftovers:
        path.touch()
    os.utime(leftovers[0], (time.time() - 2 * files._STALE_SECONDS,) * 2)
    with StagedFile(target) as staged:
        assert [path.exists() for path in leftovers] == [False, True]
        staged.commit()
    assert target.exists()


def test_nothing_stays_open(target: Path) -> None:
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    for commit in (True, False):
        with StagedFile(target) as staged:
            if commit:
                staged.commit()
    if before:
        assert len(os.listdir("/proc/self/fd")) == before
