"""``hrnet-deploy quantize`` on the network of the demo and generated people."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

for module in ("torch", "onnx", "onnxruntime"):
    pytest.importorskip(module)

import torch  # noqa: E402

from hrnet_deploy.cli import main  # noqa: E402
from hrnet_deploy.demo import CHECKPOINT  # noqa: E402
from hrnet_deploy.demo.people import write_dataset  # noqa: E402
from hrnet_deploy.export.quantization import NEVER  # noqa: E402
from tests.small import skip_where_rounded_wrongly  # noqa: E402

RECIPE = str(CHECKPOINT.with_suffix(".toml"))


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The annotation file of a few generated pictures."""
    return write_dataset(tmp_path_factory.mktemp("people"), images=6, seed=7_000_000)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return Path(shutil.copy(CHECKPOINT, tmp_path / "w16.pth"))


def arguments(checkpoint: Path, people: Path, *more: str) -> list[str]:
    data = ["--images", str(people.parent / "images"), "--annotations", str(people)]
    effort = ["--calibration", "6", "--sample", "2", "--backend", "onnxruntime"]
    return ["quantize", str(checkpoint), "--recipe", RECIPE, *data, *effort, *more]


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(list(words))
    captured = capsys.readouterr()
    code = stopped.value.code
    return (code if isinstance(code, int) else 0), captured.out, captured.err


def test_an_int8_file_with_its_figures(
    checkpoint: Path, people: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = arguments(checkpoint, people, "--max-ap-drop", "5", "--json")
    code, out, err = run(capsys, *words)
    assert code == 0, err
    facts = json.loads(out)
    target = checkpoint.with_suffix(".int8.onnx")
    assert facts["path"] == str(target)
    assert facts["spec"]["precision"] == "int8"
    assert facts["spec"]["tolerances"]["ap_drop"] == 5
    assert facts["ap_points"]["before"] > 60
    assert facts["ap_points"]["drop"] <= 5
    assert facts["layers"]["float"] >= len(NEVER)
    assert facts["parity"]["keypoint_px"]["p95"] < 8
    card = json.loads(Path(f"{target}.json").read_text())
    assert card["passed"] is True
    assert card["ap_points"] == facts["ap_points"]
    assert target.stat().st_size < 0.5 * checkpoint.stat().st_size
    assert "calibrating on 6 crops" in err
    before = target.read_bytes()

    code, out, err = run(capsys, *arguments(checkpoint, people))
    assert code == 2
    assert "exists. Pass --force to replace it." in err
    code, out, err = run(capsys, "verify", str(checkpoint), str(target),
                         "--images", str(people.parent / "images"),
                         "--annotations", str(people))  # fmt: skip
    assert code == 0, err
    words = arguments(checkpoint, people, "--max-ap-drop", "5", "--force")
    code, out, err = run(capsys, *words)
    assert code == 0, err
    assert "AP75" in out
    assert "most sensitive 10" in out
    assert target.read_bytes() == before


@pytest.mark.parametrize(
    ("more", "name"),
    [
        (("--float", "fp16"), "w16.int8.fp16.onnx"),
        (("--precision", "fp8", "--backend", "auto"), "w16.fp8.onnx"),
    ],
)
def test_files_for_tensorrt(
    more: tuple[str, ...], name: str, checkpoint: Path, people: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if "--float" in more:
        skip_where_rounded_wrongly("int8", "fp16")
    from hrnet_deploy.export import mixture

    asked: list[object] = []
    real = mixture.load_engine

    def noted(path: Path, **options: Any) -> Any:
        asked.append(options["backend"])
        return real(path, **options)

    monkeypatch.setattr(mixture, "load_engine", noted)
    words = arguments(checkpoint, people, *more, "--max-ap-drop", "8")
    code, out, err = run(capsys, *words)
    assert code == 0, err
    assert set(asked) == {"onnxruntime"}  # float32 too, so that what is compared is the 8 bit
    assert len(asked) >= 2
    target = checkpoint.with_name(name)
    assert f"next: hrnet-deploy build {target}" in err
    assert "convolutions in fp16" in out
    assert "persons, onnxruntime" in out
    code, out, err = run(capsys, "verify", str(checkpoint), str(target),
                         "--images", str(people.parent / "images"),
                         "--annotations", str(people))  # fmt: skip
    assert code == 0, err


def spoil(checkpoint: Path, block: str) -> None:
    """The same function, but no per-tensor range fits what is inside ``block``."""
    state: dict[str, Any] = torch.load(checkpoint, weights_only=True)
    channels = state[f"{block}.bn1.weight"].shape[0]
    spread = torch.from_numpy(np.geomspace(1, 1e5, channels)).float()
    for part in ("weight", "bias"):
        state[f"{block}.bn1.{part}"] *= spread
    state[f"{block}.conv2.weight"] /= spread[:, None, None]
    torch.save(state, checkpoint)


def test_what_cannot_be_quantised_stays_float(
    checkpoint: Path, people: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    block = "stage4.0.branches.0.3"
    spoil(checkpoint, block)
    words = arguments(checkpoint, people, "--max-ap-drop", "2", "--allow-unknown", "--json")
    code, out, err = run(capsys, *words)
    assert code == 0, err
    facts = json.loads(out)
    assert facts["blocks"][0]["block"] == block
    assert block in facts["float_blocks"]
    assert facts["tried"][0]["float_blocks"] == 0
    assert facts["ap_points"]["before"] - facts["tried"][0]["ap_points"] > 2
    assert facts["ap_points"]["drop"] <= 2
    assert facts["layers"]["float"] < facts["layers"]["all"]


def test_a_budget_that_cannot_be_met_writes_nothing(
    checkpoint: Path, people: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """AP as it is in float32, and ten points less with anything in 8 bit."""
    from hrnet_deploy.export import mixture, quantize

    def evaluated(self: Any, quantised: frozenset[str]) -> dict[str, float]:
        return {"AP": 0.8 if quantised else 0.9}

    monkeypatch.setattr(mixture.Search, "_evaluate", evaluated)
    monkeypatch.setattr(
        quantize, "measure_blocks", lambda blocks, *rest, **more: [_Loss(b) for b in blocks]
    )
    code, out, err = run(capsys, *arguments(checkpoint, people))
    assert code == 1
    assert "loses 10.00 points of AP, 0.3 are allowed" in err
    assert out == ""
    assert [path.name for path in checkpoint.parent.iterdir()] == [checkpoint.name]


class _Loss:
    def __init__(self, block: str) -> None:
        self.block = block


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("-o", "w16.int8.plan"), r"w16.int8.plan: is not an .onnx name"),
        (("--max-ap-drop", "-1"), "--max-ap-drop"),
        (("--backend", "openvino", "--precision", "fp8"), "--backend: is openvino, which would"),
    ],
)
def test_what_is_refused_at_once(
    more: tuple[str, ...], said: str, checkpoint: Path, people: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    code, out, err = run(capsys, *arguments(checkpoint, people, *more))
    assert (code, out) == (2, "")
    assert said in err
    assert "calibrating" not in err


def test_a_full_disk_for_what_is_tried_is_said(checkpoint: Path, people: Path) -> None:
    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    command = [sys.executable, "-m", "hrnet_deploy", *arguments(checkpoint, people)]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, preexec_fn=limit, capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 3, done.stderr
    assert "block.onnx: disk full while writing it" in done.stderr
    assert [path.name for path in checkpoint.parent.iterdir()] == [checkpoint.name]


def test_help_is_quick_to_load() -> None:
    script = (
        "import sys, hrnet_deploy.cli.quantize;"
        "sys.exit(any(m in sys.modules for m in ('torch', 'onnx', 'onnxruntime', 'cv2')))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
