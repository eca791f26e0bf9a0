"""Files that appear whole or not at all, and paths and JSON that are refused in one sentence."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from hrnet_deploy import files
from hrnet_deploy.errors import EnvironmentFault, InputError
from hrnet_deploy.files import (
    StagedFile,
    atomic_write,
    check_input_file,
    check_output_file,
    contained,
    json_text,
    read_json,
    write_bytes,
    write_json,
    write_scratch,
)

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


@pytest.mark.parametrize(
    ("what", "article"), [("engine", "an engine"), ("checkpoint", "a checkpoint")]
)
def test_input_files_that_cannot_be_read(tmp_path: Path, what: str, article: str) -> None:
    (tmp_path / "empty").touch()
    for name, problem in {
        "missing": f"no such file. Give the path of an existing {what}.",
        ".": f"is a directory. Give the path of {article}.",
        "empty": "is empty (0 bytes). Download or create it again.",
    }.items():
        with pytest.raises(InputError, match=re.escape(problem)):
            check_input_file(tmp_path / name, what=what)


def test_input_that_is_a_pipe_has_no_size_to_judge(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert check_input_file(pipe) == pipe


def test_output_files_that_cannot_be_written(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target.write_text("old")
    with pytest.raises(InputError, match=r"exists\. Pass --force to replace it"):
        check_output_file(target, force=False)
    with pytest.raises(InputError, match="is a directory"):
        check_output_file(target.parent, force=True)
    link = target.with_name("the same")
    link.hardlink_to(target)
    with pytest.raises(InputError, match="is the input file itself"):
        check_output_file(link, force=True, inputs=(target.with_name("another"), target))
    with pytest.raises(InputError, match=r"below: cannot be created \(Not a directory\)"):
        check_output_file(target / "below" / "a file.csv", force=True)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    with pytest.raises(InputError, match=r"cannot be written \(Read-only file system\)"):
        check_output_file(target, force=True)
    assert target.read_text() == "old"


def test_output_files_that_can_be_written(target: Path) -> None:
    deep = target.parent / "a" / "b" / "c.csv"
    assert check_output_file(deep, force=False, inputs=(target,)) == deep
    assert check_output_file(deep, force=False) == deep  # its folders may be there already
    assert list(deep.parent.iterdir()) == []
    target.write_text("old")
    assert check_output_file(target, force=True, inputs=(target.with_name("x"),)) == target


def test_what_fails_in_the_middle_leaves_the_old_file(target: Path) -> None:
    write_bytes(target, b"old")
    with pytest.raises(TypeError), atomic_write(target) as stream:
        stream.writelines([b"new", None])  # type: ignore[list-item]
    assert target.read_bytes() == b"old"
    assert os.listdir(target.parent) == [target.name]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_said(target: Path, number: int) -> None:
    said = pytest.raises(EnvironmentFault, match=r"out\.csv: disk full while writing it")
    with said, atomic_write(target):
        raise OSError(number, "no room")
    assert os.listdir(target.parent) == []


def test_other_faults_of_writing_stay_what_they_are(target: Path) -> None:
    with pytest.raises(OSError, match="broken") as caught, atomic_write(target):
        raise OSError(errno.EIO, "broken")
    assert not isinstance(caught.value, EnvironmentFault)


def test_written_files_have_the_mode_that_the_umask_gives(target: Path) -> None:
    before = os.umask(0o027)
    try:
        write_bytes(target, b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_files_are_on_the_disk_before_they_have_their_name(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (steps.append("sync"), sync(fd)))
    monkeypatch.setattr(os, "replace", lambda *paths: (steps.append("name"), replace(*paths)))
    write_bytes(target, b"x")
    assert steps == ["sync", "name"]


def test_json_is_written_in_one_form(target: Path) -> None:
    write_json(target, {"b": [1, 2.5], "a": "Zoë"})
    assert target.read_text(encoding="utf-8") == (
        '{\n  "a": "Zoë",\n  "b": [\n    1,\n    2.5\n  ]\n}\n'
    )
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_text({"a": float("nan")})


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b'{"a": 1', "is not valid JSON at line 1, column 8"),
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b"[-Infinity]", "-Infinity is not a JSON number"),
        (b'"\xff"', "is not UTF-8 text at byte 1"),
        (b"[" * 200_000, "is nested too deeply"),
    ],
)
def test_json_that_is_refused(target: Path, content: bytes, problem: str) -> None:
    target.write_bytes(content)
    with pytest.raises(InputError, match=re.escape(problem)):
        read_json(target, what="recipe")


def test_json_with_a_byte_order_mark_is_read(target: Path) -> None:
    target.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(target) == {"a": 1}


def test_json_of_a_size_that_nobody_means_is_not_read(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert files.MAX_JSON_BYTES == 2**31
    target.write_text("[1, 2]")
    monkeypatch.setattr(files, "MAX_JSON_BYTES", 6)
    assert read_json(target) == [1, 2]
    monkeypatch.setattr(files, "MAX_JSON_BYTES", 5)
    with pytest.raises(InputError, match="GB"):
        read_json(target)


@pytest.mark.parametrize("name", ["", "../out", "/etc/passwd", "a/../../out", "link/x", "nul\0"])
def test_names_that_lead_out_of_their_folder(tmp_path: Path, name: Any) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link").symlink_to(tmp_path)
    with pytest.raises(InputError, match=r"boxes\.json: names '.*', which lies outside"):
        contained(inside, name, source="boxes.json")


def test_names_that_stay_in_their_folder(tmp_path: Path) -> None:
    assert contained(tmp_path, "a/../b.jpg", source="x").name == "b.jpg"
    assert contained(tmp_path, "a/b.jpg", source="x") == tmp_path.resolve() / "a/b.jpg"


@pytest.mark.parametrize("length", [240, 300])
def test_a_name_that_is_too_long_is_told_before_any_work(length: int, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x: is too long a name\. Give a shorter one\."):
        check_output_file(tmp_path / ("x" * length), force=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("x" * 300, r"cannot be read \(file name too long\)"),
        ("a\0b", r"a\\x00b: cannot be read \(.*embedded null .*\)"),
        ("loop", r"cannot be read \(too many levels of symbolic links\)"),
        ("file/inside", "no such file"),
        ("nowhere/inside", "no such file"),
    ],
)
def test_inputs_that_cannot_be_named(name: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(InputError, match=problem):
        check_input_file(tmp_path / name)


def test_a_folder_in_the_place_of_the_target_is_named_as_the_user_knows_it(target: Path) -> None:
    def put_in_place() -> None:
        with StagedFile(target) as staged:
            target.mkdir()
            staged.commit()

    with pytest.raises(IsADirectoryError) as caught:
        put_in_place()
    assert caught.value.filename == str(target)
    assert list(target.parent.iterdir()) == [target]


def test_names_that_are_no_text_are_escaped_in_json(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9 \xc3\xa9.pth")
    assert json_text({"name": name}) == '{\n  "name": "caf\\udce9 \u00e9.pth"\n}\n'
    write_json(tmp_path / "x.json", {"name": name})
    assert json.loads((tmp_path / "x.json").read_bytes()) == {"name": name}


def test_a_full_disk_is_said_of_scratch_files_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(EnvironmentFault, match=r"scratch: disk full while writing it"):
        write_scratch(tmp_path / "scratch", b"x")
