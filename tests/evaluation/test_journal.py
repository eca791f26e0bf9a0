from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hrnet_deploy.lock as lock_module
from hrnet_deploy.errors import EnvironmentFault, InputError
from hrnet_deploy.evaluation import journal as journal_module
from hrnet_deploy.evaluation.fingerprint import differences
from hrnet_deploy.evaluation.journal import FinishedImage, Journal

PRINT: dict[str, Any] = {"engine": {"sha256": "a" * 64}, "settings": {"limit": None}}


def image(image_id: int, persons: int = 2) -> FinishedImage:
    rng = np.random.default_rng(image_id)
    return FinishedImage(image_id, rng.normal(0, 1e3, (persons, 3, 3)).astype(np.float32))


def open_journal(path: Path, **options: Any) -> Journal:
    return Journal(path, PRINT, joints=3, **options)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "run.journal"
    with open_journal(path) as journal:
        for image_id in (5, 3, 9):
            journal.add(image(image_id))
    return path


def finished(path: Path) -> list[int]:
    with open_journal(path) as journal:
        return [entry.image_id for entry in journal.finished]


def test_poses_come_back_to_the_last_bit(written: Path) -> None:
    with open_journal(written) as journal:
        for entry in journal.finished:
            expected = image(entry.image_id).keypoints
            assert entry.keypoints.tobytes() == expected.tobytes()
            assert entry.keypoints.dtype == np.float32
            assert entry.keypoints.shape == (2, 3, 3)
        assert [entry.image_id for entry in journal.finished] == [5, 3, 9]


def test_second_passes_come_back_and_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "run.journal"
    with open_journal(path) as journal:
        journal.add(dataclasses.replace(image(5), second_passes=2))
        journal.add(image(3))
        journal.add(image(9))
    with open_journal(path) as journal:
        assert [entry.second_passes for entry in journal.finished] == [2, 0, 0]
    path.write_text(path.read_text().replace('"second_passes": 2', '"second_passes": 1'))
    with pytest.raises(InputError, match="is damaged at line 2"):
        open_journal(path)


def test_every_line_is_json(written: Path) -> None:
    lines = [json.loads(line) for line in written.read_text().splitlines()]
    assert lines[0]["fingerprint"] == PRINT
    assert [line["image"] for line in lines[1:]] == [5, 3, 9]


def test_going_on_appends(written: Path) -> None:
    before = written.read_bytes()
    with open_journal(written) as journal:
        journal.add(image(4))
    assert written.read_bytes().startswith(before)
    assert finished(written) == [5, 3, 9, 4]


def test_fresh_starts_over(written: Path) -> None:
    with open_journal(written, fresh=True) as journal:
        assert journal.finished == []
    assert finished(written) == []


@given(cut=st.integers(0, 2000))
def test_cut_anywhere_keeps_the_whole_lines(tmp_path_factory: Any, cut: int) -> None:
    path = tmp_path_factory.mktemp("cut") / "run.journal"
    with open_journal(path) as journal:
        for image_id in (5, 3, 9):
            journal.add(image(image_id))
    content = path.read_bytes()
    cut = min(cut, len(content))
    path.write_bytes(content[:cut])
    whole = max(0, content[:cut].count(b"\n") - 1)
    assert finished(path) == [5, 3, 9][:whole]
    with open_journal(path) as journal:
        journal.add(image(7))
    assert finished(path) == [*[5, 3, 9][:whole], 7]


@pytest.mark.parametrize("tail", [b'{"image": 4, "po', b"\0" * 500, b"garbage\n", b"\n"])
def test_a_torn_last_line_is_dropped(written: Path, tail: bytes) -> None:
    content = written.read_bytes()
    written.write_bytes(content + tail)
    assert finished(written) == [5, 3, 9]
    assert written.read_bytes() == content


def test_an_empty_file_is_a_fresh_start(tmp_path: Path) -> None:
    path = tmp_path / "run.journal"
    path.touch()
    assert finished(path) == []


@pytest.mark.parametrize("line", [0, 1, 2])
@pytest.mark.parametrize("damage", ["flip", "cut", "garbage", "blank"])
def test_damage_before_the_end_is_refused_and_the_file_kept(
    written: Path, line: int, damage: str
) -> None:
    lines = written.read_bytes().split(b"\n")
    middle = len(lines[line]) // 2
    lines[line] = {
        "flip": lines[line][:-20] + bytes([lines[line][-20] ^ 1]) + lines[line][-19:],
        "cut": lines[line][:middle],
        "garbage": os.urandom(40).replace(b"\n", b"x"),
        "blank": b"",
    }[damage]
    content = b"\n".join(lines)
    written.write_bytes(content)
    expected = rf"(is damaged at line {line + 1}|is not a journal|belongs to another run)"
    with pytest.raises(InputError, match=rf"run\.journal: {expected}.*--fresh"):
        open_journal(written)
    assert written.read_bytes() == content
    with open_journal(written, fresh=True):
        pass


@pytest.mark.parametrize("content", [b"my thesis", b"{}", b"\n\n", b'{"format": "other"}\n'])
def test_a_file_of_somebody_else_is_never_touched(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.journal"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is not a journal of hrnet-deploy"):
        open_journal(path)
    assert path.read_bytes() == content


def test_a_version_of_later(written: Path) -> None:
    written.write_text(written.read_text().replace('"version": 2', '"version": 3', 1))
    with pytest.raises(InputError, match="has journal version 3, this version reads 2"):
        open_journal(written)


def test_another_run_is_refused_by_name(written: Path) -> None:
    before = written.read_bytes()
    other = {"engine": {"sha256": "b" * 64}, "settings": {"limit": 50}}
    with pytest.raises(
        InputError,
        match=r"another run; it differs in engine\.sha256: a+\.\.\. -> b+\.\.\.; "
        r"settings\.limit: none -> 50\. Pass --fresh",
    ):
        Journal(written, other, joints=3)
    assert written.read_bytes() == before


def test_differences_names_what_is_on_one_side_only() -> None:
    assert differences({"a": 1, "b": {"c": 2}}, {"a": 1, "d": 3}) == [
        "b.c: 2 -> none",
        "d: none -> 3",
    ]
    assert differences({"a": {"b": 1}}, {"a": {"b": 1}}) == []
    assert differences(None, {"a": 1}) == ["a: none -> 1"]
    assert differences("x", {"a": 1}) == ["a: none -> 1", "fingerprint: x -> none"]


def test_two_at_once(written: Path) -> None:
    with (
        open_journal(written),
        pytest.raises(InputError, match=rf"process {os.getpid()} is working on this output"),
    ):
        open_journal(written)
    assert finished(written) == [5, 3, 9]


def test_another_process_holds_it(written: Path, tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from hrnet_deploy.evaluation.journal import Journal\n"
        f"j = Journal(Path(sys.argv[1]), {PRINT!r}, joints=3)\n"
        "print('ready', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(written)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        with pytest.raises(InputError, match=f"process {holder.pid} is working on this output"):
            open_journal(written)
    finally:
        holder.kill()
        holder.wait()
    assert written.with_name("run.journal.lock").exists(), "a killed process leaves its lock file"
    assert finished(written) == [5, 3, 9]


def test_lock_file_of_the_dead_or_garbled(written: Path) -> None:
    lock = written.with_name("run.journal.lock")
    for text in ("999999999", "", "garbage"):
        lock.write_text(text)
        assert finished(written) == [5, 3, 9]
    assert not lock.exists()


def test_file_systems_without_locks_and_flushing_warn_once(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    def refuse(*args: object) -> None:
        raise OSError(errno.ENOTSUP, "not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(os, "fsync", refuse)
    said: list[str] = []
    with open_journal(written, warn=said.append) as journal:
        journal.flush()
        journal.flush()
        journal.add(image(4))
    assert len(said) == 2
    assert "no locks" in said[0]
    assert "cannot flush" in said[1]
    assert finished(written) == [5, 3, 9, 4]


def test_without_locks_a_living_owner_is_respected(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    def refuse(*args: object) -> None:
        raise OSError(errno.ENOTSUP, "not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    written.with_name("run.journal.lock").write_text(str(os.getppid()))
    with pytest.raises(InputError, match=f"process {os.getppid()} is working"):
        open_journal(written)
    # Where a process cannot be asked for, asking would be Ctrl-C to it.
    monkeypatch.setattr(lock_module, "_CAN_ASK_FOR_PROCESSES", False)
    monkeypatch.setattr(os, "kill", None)
    assert finished(written) == [5, 3, 9]


def test_a_full_disk_leaves_whole_lines(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = written.read_bytes()
    real_write = os.write

    def write_some(descriptor: int, content: bytes) -> int:
        if len(content) > 10:
            return real_write(descriptor, content[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    with open_journal(written) as journal:
        monkeypatch.setattr(journal_module.os, "write", write_some)
        with pytest.raises(EnvironmentFault, match=r"run\.journal: disk full while writing it"):
            journal.add(image(4))
        monkeypatch.undo()
    assert written.read_bytes() == before


def test_removing_ends_it(written: Path) -> None:
    with open_journal(written) as journal:
        journal.remove()
    assert list(written.parent.iterdir()) == []
    with contextlib.closing(open_journal(written)) as journal:
        assert journal.finished == []


def test_a_directory_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "run.journal").mkdir()
    with pytest.raises(InputError, match="is a directory"):
        open_journal(tmp_path / "run.journal")
    assert not (tmp_path / "run.journal.lock").exists()


def test_a_journal_without_pictures_is_not_left_behind(tmp_path: Path) -> None:
    with open_journal(tmp_path / "run.journal"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_journal_without_pictures_is_in_nobodys_way(tmp_path: Path) -> None:
    """A process that was killed before its first picture leaves one."""
    path = tmp_path / "run.journal"
    with open_journal(path):
        left = path.read_bytes()
    path.write_bytes(left)
    other = {"engine": {"sha256": "b" * 64}, "settings": {"limit": None}}
    with Journal(path, other, joints=3) as journal:
        journal.add(image(7))
    with Journal(path, other, joints=3) as journal:
        assert [entry.image_id for entry in journal.finished] == [7]
