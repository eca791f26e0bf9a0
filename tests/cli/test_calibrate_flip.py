"""``hrnet-deploy calibrate-flip`` on the network of the demo and generated people."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

for module in ("torch", "onnx", "onnxruntime"):
    pytest.importorskip(module)

from hrnet_deploy.cli import main  # noqa: E402
from hrnet_deploy.demo import CHECKPOINT  # noqa: E402
from hrnet_deploy.demo.people import write_dataset  # noqa: E402
from hrnet_deploy.engines.onnxruntime import OnnxRuntimeEngine  # noqa: E402

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The annotation file of a few generated pictures."""
    return write_dataset(tmp_path_factory.mktemp("people"), images=12, seed=7_000_000)


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(map(str, words)))
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


def test_from_a_checkpoint_to_an_adaptive_flip_test(cli: Cli, people: Path) -> None:
    recipe = CHECKPOINT.with_suffix(".toml")
    words = ("--precision", "fp32", "--recipe", recipe)
    for name, flag in (("single", "--no-flip"), ("exact", "--flip")):
        code, _, err = cli("export", CHECKPOINT, flag, *words, "-o", f"{name}.onnx")
        assert code == 0, err
    data = ("--annotations", people, "--images", people.parent / "images")
    adaptive = ("eval", "--engine", "single.onnx", *data, "--flip", "adaptive")
    code, _, err = cli(*adaptive)
    assert (code, "calibrate it: hrnet-deploy calibrate-flip single.onnx" in err) == (2, True)

    code, out, err = cli("calibrate-flip", "single.onnx", *data, "--max-ap-drop", "5", "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert facts["path"] == "single.onnx.flip.json"
    written = json.loads(Path("single.onnx.flip.json").read_text())
    assert {name: facts[name] for name in written} == written
    assert facts["drop"]["value"] <= 5
    assert {"annotations_sha256", "boxes"} <= set(facts["data"])
    assert "next: hrnet-deploy predict SOURCE --engine single.onnx --flip adaptive" in err

    code, out, err = cli(*adaptive, "--json")
    assert code == 0, err
    result = json.loads(out)
    assert result["AP"] == pytest.approx(facts["ap"]["adaptive"], abs=1e-6)
    assert result["flip"]["threshold"] == facts["threshold"]
    assert result["flip"]["share"] == pytest.approx(facts["share"], abs=1e-6)
    code, out, _ = cli("eval", "--engine", "exact.onnx", *data, "--flip", "exact", "--json")
    assert json.loads(out)["AP"] == pytest.approx(facts["ap"]["exact"], abs=1e-6)

    code, _, err = cli("calibrate-flip", "single.onnx", *data)
    assert (code, "single.onnx.flip.json: exists" in err) == (2, True)
    code, out, err = cli("calibrate-flip", "single.onnx", *data, "--max-ap-drop", 100, "--force")
    assert code == 0, err
    assert "held out" in out
    code, _, err = cli("calibrate-flip", "exact.onnx", *data)
    assert (code, "has the flip-test in its graph" in err) == (2, True)
    assert not Path("exact.onnx.flip.json").exists()


def test_an_interruption_writes_nothing(
    cli: Cli, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal that comes while the first pictures are looked at."""
    recipe = CHECKPOINT.with_suffix(".toml")
    words = ("--precision", "fp32", "--recipe", recipe, "--no-flip", "-o", "single.onnx")
    assert cli("export", CHECKPOINT, *words)[0] == 0
    infer = OnnxRuntimeEngine._infer

    once = iter([signal.SIGINT])  # a second one would end the process at once

    def interrupted(self: OnnxRuntimeEngine, crops: Any, *, heatmaps: bool) -> Any:
        for number in once:
            os.kill(os.getpid(), number)
        return infer(self, crops, heatmaps=heatmaps)

    monkeypatch.setattr(OnnxRuntimeEngine, "_infer", interrupted)
    data = ("--annotations", people, "--images", people.parent / "images", "--batch", 2)
    code, _, err = cli("calibrate-flip", "single.onnx", *data)
    assert code == 130
    assert "single.onnx: interrupted, nothing is written. To start over: hrnet-deploy" in err
    assert not list(tmp_path.glob("*.flip.json"))


def test_no_option_is_advised_that_there_is_not(cli: Cli, people: Path, tmp_path: Path) -> None:
    words = ("--precision", "fp32", "--recipe", CHECKPOINT.with_suffix(".toml"), "--no-flip")
    assert cli("export", CHECKPOINT, *words, "-o", "single.onnx")[0] == 0
    pictures = Path(shutil.copytree(people.parent / "images", tmp_path / "images"))
    for picture in pictures.iterdir():
        picture.write_bytes(picture.read_bytes()[:300])
    code, _, err = cli(
        "calibrate-flip", "single.onnx", "--annotations", people, "--images", pictures
    )
    assert (code, "is truncated" in err) == (2, True)
    assert "--keep-going" not in err
