"""Usage errors have the form of all others, and broken standard streams change no exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hrnet_deploy.cli import COMMANDS, main

PROGRAM = f"{sys.executable} -m hrnet_deploy"


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


@pytest.mark.parametrize("words", [[], ["dataset"], ["zoo"]])
def test_without_a_command_the_help_is_shown(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, *words)
    assert (code, err) == (2, "")
    assert out.startswith(f"Usage: hrnet-deploy {' '.join([*words, '[OPTIONS]'])}")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("exprot", "unknown command 'exprot'. Did you mean 'export'?"),
        ("zoo gett", "unknown command 'gett'. Did you mean 'get'?"),
        ("zoo fetch", "unknown command 'fetch'. Commands: get, list."),
        ("qqq", f"unknown command 'qqq'. Commands: {', '.join(COMMANDS)}."),
        ("eval --bacth 3", "--bacth: there is no such option. Did you mean --batch?"),
        ("eval --nope", "--nope: there is no such option. See: hrnet-deploy eval --help"),
        (
            "inspect -dash.pth",
            "-d: there is no such option. A file whose name begins with - goes behind --.",
        ),
        ("inspect", "FILE: is missing. See: hrnet-deploy inspect --help"),
        ("adopt x.onnx", "--recipe: is missing. See: hrnet-deploy adopt --help"),
        ("eval --batch", "--batch: requires an argument. See --help."),
        (
            "eval --batch 1e9",
            "--batch: '1e9' is not a whole number in the range 1<=x<=1024. "
            "See: hrnet-deploy eval --help",
        ),
        (
            "eval --min-ap high",
            "--min-ap: 'high' is not a number in the range 0<=x<=1. See: hrnet-deploy eval --help",
        ),
        (
            "dataset split x.json --seed a",
            "--seed: 'a' is not a valid integer. See: hrnet-deploy dataset split --help",
        ),
    ],
)
def test_what_is_wrong_and_what_to_do(
    words: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, *words.split())
    assert (code, out, err) == (2, "", f"hrnet-deploy: error: {line}\n")


def test_json_names_the_option(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "eval", "--batch", "0", "--json")
    assert json.loads(out)["error"] == {
        "file": "--batch",
        "problem": "0 is not in the range 1<=x<=1024",
        "fix": "See: hrnet-deploy eval --help",
        "code": code,
    }


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("exprot 2>&-", 2),
        ("exprot 2>/dev/full", 2),
        ("inspect nowhere.pth --json >/dev/full", 2),
        ("--version >/dev/full", 3),
        ("--version <&- >&- 2>&-", 0),
    ],
)
def test_broken_streams(line: str, code: int, tmp_path: Path) -> None:
    if "full" in line and not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    done = subprocess.run(["sh", "-c", f"{PROGRAM} {line}"], cwd=tmp_path, timeout=60, check=False)
    assert done.returncode == code


def test_files_do_not_take_the_numbers_of_closed_streams(tmp_path: Path) -> None:
    """Native code writes to number 2 whatever stands there."""
    script = """
import os
from hrnet_deploy.cli import main
try:
    main(["--version"])
except SystemExit:
    with open("kept", "w") as kept:
        kept.write(str(kept.fileno()))
        os.write(2, b"noise")
"""
    command = ["sh", "-c", f'{sys.executable} -c "$1" <&- >&- 2>&-', "sh", script]
    subprocess.run(command, cwd=tmp_path, timeout=60, check=True)
    assert int((tmp_path / "kept").read_text()) > 2


def test_a_list_on_a_closed_stdin_is_empty(tiny_onnx: Path, tmp_path: Path) -> None:
    line = f"{PROGRAM} predict - --whole-image --engine '{tiny_onnx}' -o poses.jsonl <&-"
    done = subprocess.run(["sh", "-c", line], cwd=tmp_path, timeout=60, check=False)
    assert done.returncode == 0
    assert (tmp_path / "poses.jsonl").read_bytes() == b""
