"""``eval --explain``, ``--ladder`` and MPII as a user runs them, with the demo's network."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx", reason="needs the onnx package")
pytest.importorskip("torch", reason="reads a checkpoint")

from hrnet_deploy.cli import main
from hrnet_deploy.demo import CHECKPOINT
from hrnet_deploy.demo.people import write_dataset
from hrnet_deploy.export.checkpoint import read_checkpoint
from hrnet_deploy.export.model import build_hrnet
from hrnet_deploy.export.run import checkpoint_spec
from hrnet_deploy.export.settings import ExportSettings

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)

    def call(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main(["eval", "--threads", "1", *map(str, words)])
        streams = capsys.readouterr()
        assert isinstance(stopped.value.code, int)
        return stopped.value.code, streams.out, streams.err

    return call


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("people")
    annotations = write_dataset(folder, images=8, seed=77)
    rng = np.random.default_rng(1)
    boxes = [
        {
            "image_id": entry["image_id"],
            "category_id": 1,
            "bbox": [v + rng.uniform(-6, 6) for v in entry["bbox"]],
            "score": float(rng.uniform(0.5, 1)),
        }
        for entry in json.loads(annotations.read_text())["annotations"]
        if not entry["iscrowd"]
    ]
    (folder / "boxes.json").write_text(json.dumps(boxes))
    return folder


@pytest.fixture(scope="module")
def unshifted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An engine whose flip-test forgot its shift."""
    checkpoint = read_checkpoint(CHECKPOINT)
    settings = ExportSettings(shift_heatmap=False)
    spec = checkpoint_spec(checkpoint, settings, say=lambda line: None)
    model = build_hrnet(spec, checkpoint.architecture, checkpoint.arrays, source=CHECKPOINT)
    path = tmp_path_factory.mktemp("engine") / "unshifted.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def data(people: Path) -> list[object]:
    return ["--annotations", people / "annotations.json", "--images", people / "images"]


def test_explain_names_the_planted_cause(run: Run, people: Path, unshifted: Path) -> None:
    code, out, err = run(
        *("--engine", unshifted, *data(people), "--explain", "--sample", 20),
        *("--seconds", 1, "--expected-ap", 0.85, "--measured-ap", 0.79),
    )
    assert code == 0, err
    assert "expected AP 0.850 (--expected-ap)" in out
    assert "measured AP 0.790 (--measured-ap)" in out
    last = out.strip().splitlines()[-1]
    assert last.startswith("Most likely: the flip-test's one-pixel shift. It is worth 0.")
    assert "+0.060 are to be explained" in last
    assert "Export with --shift" in last
    assert "sample: " in err
    assert "stopped new runs after 1 s" in err or "input_size: with" in err


def test_explain_as_json_uses_an_earlier_result(run: Run, people: Path, unshifted: Path) -> None:
    assert run("--engine", unshifted, *data(people))[0] == 0
    measured = json.loads(Path("unshifted.eval.json").read_text())["AP"]
    code, out, _ = run(
        *("--engine", unshifted, *data(people), "--explain", "--json"),
        *("--sample", 10, "--seconds", 1),
    )
    facts: dict[str, Any] = json.loads(out)
    assert code == 0
    assert facts["measured"] == measured
    assert facts["measured_from"] == "unshifted.eval.json"
    assert (facts["expected"], facts["findings"][0]["cause"]) == (None, "flip_shift")


def test_ladder(run: Run, people: Path, unshifted: Path) -> None:
    code, out, err = run(
        *("--ladder", CHECKPOINT, *data(people), "--boxes", people / "boxes.json"),
        *("--engine", unshifted, "--json"),
    )
    assert code == 0, err
    facts = json.loads(out)
    output = json.loads(Path(f"{CHECKPOINT.stem}.ladder.json").read_text())
    assert output == facts
    rungs = {(r["name"], r["flip_test"], r["boxes"]): r for r in facts["rungs"]}
    names = ("PyTorch", "ONNX fp32", "ONNX fp16")
    kinds = ("ground truth", "detector")
    assert set(rungs) == {
        *((name, flip, boxes) for name in names for flip in (True, False) for boxes in kinds),
        *(("unshifted.onnx", True, boxes) for boxes in kinds),
    }
    for (name, flip, _), rung in rungs.items():
        assert rung["ap"]["low"] <= rung["AP"] <= rung["ap"]["high"]
        assert rung["ap"]["value"] == pytest.approx(rung["AP"], abs=1e-6)
        assert (rung["to_reference"] is None) == (name == "PyTorch")
        assert (rung["flip_gain"] is None) == (not flip or name == "unshifted.onnx")
        if name == "ONNX fp32":
            assert rung["to_reference"] == {"value": 0, "low": 0, "high": 0}
        if name == "ONNX fp16":
            assert abs(rung["to_reference"]["value"]) < 0.01
        if name == "unshifted.onnx":
            assert rung["to_reference"]["high"] < 0, "it lost its shift"


def test_usage(run: Run, people: Path) -> None:
    code, _, err = run("--engine", "a.onnx", "--engine", "b.onnx", *data(people), "--explain")
    assert (code, "--explain looks at one engine" in err) == (2, True)
    code, _, err = run(*data(people))
    assert (code, "--engine: is missing" in err) == (2, True)
    code, _, err = run("--engine", "a.onnx", *data(people), "--explain", "--expected-ap", "nan")
    assert (code, "nan is not a finite number" in err) == (2, True)
    code, _, err = run("--ladder", "absent.pth", *data(people))
    assert (code, "absent.pth: no such file" in err) == (2, True)
    code, _, err = run("--engine", "absent.onnx", *data(people), "--explain")
    assert (code, "absent.onnx: no such file" in err) == (2, True)


def test_mpii(run: Run, small: Any, tmp_path: Path) -> None:
    import cv2

    from hrnet_deploy.keypoints import keypoint_set

    points = keypoint_set("mpii_16")
    spec = small.small_spec(
        keypoint_set=points.name,
        keypoint_names=points.names,
        flip_pairs=points.flip_pairs,
        sigmas=points.sigmas,
        skeleton=points.skeleton,
    )
    model = build_hrnet(spec, small.architecture(16), small.weights(16), source="mpii")
    (tmp_path / "mpii.onnx").write_bytes(model.SerializeToString())
    cv2.imwrite(str(tmp_path / "a.png"), np.full((90, 120, 3), 90, np.uint8))
    person = {
        "image": "a.png",
        "center": [60, 40],
        "scale": 0.4,
        "joints": [[50.0, 40.0]] * 16,
        "joints_vis": [1] * 16,
        "headbox": [0, 0, 6000, 8000],
    }
    (tmp_path / "valid.json").write_text(json.dumps([person]))
    words = ["--engine", "mpii.onnx", "--annotations", "valid.json", "--images", "."]
    code, out, err = run(*words)
    assert code == 0, err
    assert "right ankle" in out
    assert "100.00" in out
    facts = json.loads(Path("mpii.mpii.json").read_text())
    assert facts["PCKh@0.5"] == facts["PCKh@0.1_official_bin_0.11"] == 100
    if "scipy" not in err:
        assert Path("mpii.mpii.pred.mat").exists()
    for option in (
        *(("--boxes", "b.json"), ("--limit", 1), ("--oks-nms", "soft"), ("--keep-going",)),
        *(("--nms-threshold", 0.5), ("--allow-missing",), ("--bootstrap", 200)),
    ):
        code, _, err = run(*words, *option)
        assert (code, f"{option[0]} is for COCO evaluations" in err) == (2, True)
        assert "not for MPII" in err
    code, _, err = run(*words, "--sample", 200)
    assert (code, "--sample is for --explain, not for MPII" in err) == (2, True)
    code, _, err = run(*words, "--fresh")
    assert code == 0, err
    code, _, err = run(*words, "--max-pixels", 1000)
    assert (code, "a.png: 120x90 px: 0.011 Mpx exceeds" in err) == (2, True)
    code, _, err = run("--engine", "mpii.onnx", *words[2:], "--flip", "off")
    assert (code, "has a flip-test in its graph" in err) == (2, True)


@pytest.mark.parametrize(
    "gate", [("--min-ap", "0.9"), ("--report", "out"), ("--subset", "a=b.json")]
)
@pytest.mark.parametrize("way", ["--explain", "--ladder=w.pth", "--dataset=mpii"])
def test_what_only_coco_evaluations_heed_is_refused(
    run: Run, people: Path, way: str, gate: tuple[str, str]
) -> None:
    """A gate that nobody looks at must not pass."""
    code, _, err = run("--engine", "absent.onnx", *data(people), way, *gate)
    named = {"--dataset=mpii": "MPII"}.get(way, way.partition("=")[0])
    assert code == 2
    assert f"{gate[0]} is for COCO evaluations, not for {named}" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--sample", "200"], "--sample is for --explain, not for COCO evaluations"),
        (["--ground-truth", "g.mat"], "--ground-truth is for MPII, not for COCO evaluations"),
        (["--bootstrap", "200"], "--bootstrap: is for the intervals of a report"),
        (["--explain", "--bootstrap", "200"], "--bootstrap is for COCO evaluations, not for"),
        (["--explain", "--flip", "adaptive"], "--explain looks at engines without --flip"),
        (["--ladder", "w.pth", "--backend", "openvino"], "--backend is for COCO evaluations and"),
        (["--ladder", "w.pth", "--explain"], "--ladder and --explain do not go together"),
        (["--ladder", "w.pth", "--dataset", "mpii"], "--ladder and MPII do not go together"),
        (["--explain", "--dataset", "mpii"], "--explain and MPII do not go together"),
    ],
)
def test_no_option_is_passed_over(run: Run, people: Path, words: list[str], said: str) -> None:
    code, _, err = run("--engine", "absent.onnx", *data(people), *words)
    assert code == 2
    assert said in err


def test_explain_says_what_runs_the_engine(run: Run, people: Path, unshifted: Path) -> None:
    words = ["--explain", "--sample", 8, "--seconds", 1, "--backend", "auto", "--json"]
    code, _, err = run("--engine", unshifted, *data(people), *words)
    assert code == 0, err
    assert "unshifted.onnx: ONNX Runtime in" in err or "unshifted.onnx: OpenVINO in" in err
