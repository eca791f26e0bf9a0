"""What a first user met: closed or full stdout, NaN in gates, cut-off demos, odd paths."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import click
import pytest

from hrnet_deploy.cli import main
from hrnet_deploy.cli.options import FiniteRange, say
from hrnet_deploy.demo import CHECKPOINT
from hrnet_deploy.engines import load_engine
from hrnet_deploy.errors import InputError, InterruptedRun, command_line, printable
from hrnet_deploy.evaluation.boxes import _fault
from hrnet_deploy.evaluation.settings import EvalSettings
from hrnet_deploy.export import foreign
from hrnet_deploy.export.foreign import read_foreign
from hrnet_deploy.files import check_input_file

COMMAND = [sys.executable, "-m", "hrnet_deploy"]


def _shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = f"'{sys.executable}' -m hrnet_deploy {line}"
    return subprocess.run(["sh", "-c", command], cwd=folder, capture_output=True, text=True)


def test_a_closed_stdout_is_no_bug(tmp_path: Path) -> None:
    result = _shell(f"inspect '{CHECKPOINT}' >&-", tmp_path)
    assert result.returncode == 0
    assert "Traceback" not in result.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_stdout_is_one_line(tmp_path: Path) -> None:
    result = _shell(f"inspect '{CHECKPOINT}' --json >/dev/full", tmp_path)
    assert result.returncode == 3
    assert result.stderr.splitlines()[-1] == (
        "hrnet-deploy: error: stdout: disk full. Free some space."
    )
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_gate_takes_no_nan(value: str) -> None:
    with pytest.raises(click.BadParameter):
        FiniteRange().convert(value, None, None)
    with pytest.raises(InputError, match="score_threshold"):
        EvalSettings(score_threshold=float(value))


def test_eval_refuses_nan_and_scores_without_detections(tmp_path: Path) -> None:
    base = "eval --engine e.onnx --annotations a.json --images ."
    for option, words in (
        ("--min-ap nan", "--min-ap: nan is not a finite number"),
        ("--score-threshold nan", "--score-threshold: nan is not a finite number"),
        ("--score-threshold 0.3", "--score-threshold: only the boxes of a detector have scores"),
    ):
        result = _shell(f"{base} {option}", tmp_path)
        assert result.returncode == 2
        assert words in result.stderr


def test_an_interrupted_demo_can_be_given_again(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "demo", "-o", "made"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "made/pictures").is_dir() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "To go on: hrnet-deploy demo -o made" in stderr
    assert not (tmp_path / "made").exists()


def test_an_interruption_that_a_library_turned_into_its_own_error_is_still_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command("doctor")
    def command() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        except Exception as error:  # as extension modules do while they are imported
            raise SystemError("initialization failed") from error

    monkeypatch.setitem(sys.modules, "hrnet_deploy.cli.doctor", SimpleNamespace(command=command))
    with pytest.raises(SystemExit) as stop:
        main(["doctor"])
    assert stop.value.code == 130
    stderr = capsys.readouterr().err
    assert "interrupted" in stderr
    assert "bug of ours" not in stderr


@pytest.mark.parametrize("fault", [InterruptedRun("interrupted", "x", "y"), MemoryError()])
def test_adopt_does_not_take_a_fault_for_a_fixed_batch(
    fault: BaseException, monkeypatch: pytest.MonkeyPatch, tiny: ModuleType
) -> None:
    def failing(*arguments: object, **options: object) -> None:
        raise fault

    model = tiny.tiny_model(tiny.tiny_spec())
    monkeypatch.setattr(foreign, "CpuSession", failing)
    with pytest.raises(type(fault)):
        foreign._batch_is_free(model, model.graph.input[0], Path("foreign.onnx"))


def test_advice_can_be_pasted_where_names_have_spaces(tmp_path: Path) -> None:
    odd = tmp_path / "a b"
    odd.mkdir()
    (odd / "s.pth").write_bytes(CHECKPOINT.read_bytes())
    result = _shell("inspect 'a b/s.pth'", tmp_path)
    assert "next: hrnet-deploy export 'a b/s.pth'" in result.stderr


def test_verify_names_the_option_that_was_given(tmp_path: Path) -> None:
    result = _shell("verify a.onnx b.onnx --boxes b.json", tmp_path)
    assert result.returncode == 2
    assert "error: --boxes: needs the pictures. Pass --images as well." in result.stderr


def test_the_subject_of_an_error_is_never_lost() -> None:
    assert str(InputError(Path(), "is bad", "Change it")) == ".: is bad. Change it."
    assert str(InputError("", "is bad", "Change it")) == "'': is bad. Change it."
    assert InputError("odd.", "is bad", "Change it").subject == "odd."
    assert printable("a\nb.") == "a\\nb"


def test_the_folder_at_the_end_of_a_command_is_never_lost(
    capsys: pytest.CaptureFixture[str],
) -> None:
    say(f"next:\n{command_line('predict', '.')}")
    assert capsys.readouterr().err == "next:\\nhrnet-deploy predict .\n"


def test_a_folder_as_engine_is_called_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is a directory\. Give the path of an engine"):
        load_engine(tmp_path)
    with pytest.raises(InputError, match="Give the path of a checkpoint"):
        check_input_file(tmp_path, what="checkpoint")


def test_adopt_tells_checkpoints_and_its_own_engines(tmp_path: Path) -> None:
    result = _shell(f"adopt '{CHECKPOINT}' --recipe ultralight_256x192 -o x.onnx", tmp_path)
    assert result.returncode == 2
    assert "is a checkpoint, not an ONNX file. To make an engine of it" in result.stderr
    assert os.listdir(tmp_path) == []


def test_adopt_tells_an_engine_of_ours(tiny_onnx: Path) -> None:
    with pytest.raises(InputError, match=r"is an engine already\. Use it as it is"):
        read_foreign(tiny_onnx)


def test_detector_boxes_beyond_any_picture_are_refused() -> None:
    entry = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 1e300, 5], "score": 1.0}
    assert "beyond 1e+12 px" in str(_fault(entry))
    assert _fault({**entry, "bbox": [1e9, 0, 10, 5]}) is None
