from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the onnx package")
pytest.importorskip("onnxruntime")

from hrnet_deploy import load_engine
from hrnet_deploy.engines.onnxruntime import OnnxRuntimeEngine
from hrnet_deploy.errors import GateError, InputError
from hrnet_deploy.evaluation.flip import STEPS, Trial, calibrate_flip, chosen_step
from hrnet_deploy.evaluation.plan import prepare
from hrnet_deploy.evaluation.result import measure
from hrnet_deploy.evaluation.run import infer
from hrnet_deploy.evaluation.settings import EvalSettings
from hrnet_deploy.runtime.flip import FlipEngine, doubt
from tests.tiny import write_tiny_onnx
from tests.world import NAMES, SIGMAS, World, make_world

WRONG = 20


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path, images=40)


@pytest.fixture
def trial(world: World, tmp_path: Path) -> Trial:
    """A world in which two passes are worth exactly what each person's pose in it is.

    One pass misses WRONG persons anywhere in it, and they are the ones in doubt.
    """
    path = write_tiny_onnx(tmp_path / "tiny.onnx", sigmas=SIGMAS, keypoint_names=NAMES)
    with load_engine(path) as engine:
        plan = prepare(engine, world.annotations, world.images, boxes=None, settings=EvalSettings())
        exact = infer(plan, None)
        found = Trial.of(plan, exact, exact)
    worse, doubts = found.exact.copy(), np.linspace(0.1, 0.4, len(found.rows))
    wrong = np.random.default_rng(0).permutation(len(doubts))[:WRONG]
    worse[wrong, :, :2] += 60
    doubts[wrong] += 0.5
    return dataclasses.replace(found, single=worse, doubts=doubts)


def test_the_fewest_second_passes_are_those_of_the_wrong_poses(trial: Trial) -> None:
    found = trial.calibration(0.1)
    assert WRONG <= round(found.share * found.persons) <= WRONG + 60 / STEPS
    assert found.single < found.adaptive - 0.2
    assert found.adaptive == found.exact
    assert found.drop.value == 0
    assert found.held_out.value is not None
    assert found.held_out.value < 5
    shares = [share for share, _, _ in found.curve]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, 1)
    assert found.curve[0][2] == found.single
    assert any("AP of 60 persons is coarse" in note for note in found.notes)
    again = trial.plan.fingerprint["engine"]["sha256"]
    assert found.as_json()["engine"]["sha256"] == again
    assert found.as_json()["second_passes"] == round(found.share * 60)


def test_a_wide_budget_needs_nobody(trial: Trial) -> None:
    found = trial.calibration(100)
    assert (found.share, found.adaptive) == (0, found.single)
    assert found.threshold > trial.doubts.max()


def test_no_saving_within_the_budget(trial: Trial) -> None:
    """Doubt that says nothing: the person that is surest is wrong."""
    misled = dataclasses.replace(trial, doubts=1 - trial.doubts)
    with pytest.raises(GateError, match=r"loses more than 0 points of AP .*measured on 60 persons"):
        misled.calibration(0)


def test_a_flip_test_that_gains_nothing_is_said(trial: Trial) -> None:
    swapped = dataclasses.replace(trial, single=trial.exact, exact=trial.single)
    assert "the flip-test gains nothing here" in swapped.calibration(0.1).notes[0]


def test_steps_that_hold_by_chance_are_passed_over() -> None:
    values = np.array([0.40, 0.50, 0.45, 0.4995, 0.4985, 0.4995, 0.5])
    assert chosen_step(values, 0.1) == 5
    assert chosen_step(values, 11) == 0
    assert chosen_step(values, 0) == 6
    assert chosen_step(np.array([0.6, 0.5]), 0) == 0


def test_what_is_promised_is_what_eval_gives(world: World, tmp_path: Path) -> None:
    """AP and share of the calibration are those of an evaluation with its threshold."""
    path = write_tiny_onnx(
        tmp_path / "tiny.onnx", sigmas=SIGMAS, keypoint_names=NAMES, flip_pairs=((0, 2),)
    )
    said: list[str] = []
    with load_engine(path) as engine:
        found = calibrate_flip(
            engine, world.annotations, world.images, max_ap_drop=100, say=said.append
        )
        plan = prepare(engine, world.annotations, world.images, boxes=None, settings=EvalSettings())
        trial = Trial.of(plan, infer(plan, None), infer(plan, None))
        limit = float(np.median(trial.doubts))
        np.testing.assert_allclose(trial.doubts, doubt(trial.single[..., 2]))
        for threshold in (found.threshold, 0.0, limit):
            flip = FlipEngine(engine, threshold)
            plan = prepare(
                flip, world.annotations, world.images, boxes=None, settings=EvalSettings()
            )
            inferred = infer(plan, None)
            result = measure(plan, inferred)
            ap = {found.threshold: found.adaptive, 0.0: found.exact}.get(threshold)
            if ap is not None:
                assert result.stats["AP"] == ap
            assert inferred.second_passes == (trial.doubts >= threshold).sum()
    assert found.exact < found.single, "swapping the colours of a person cannot be right"
    assert said == ["two passes for everybody"]


def test_everybody_is_looked_at_twice_and_not_thrice(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tiny_onnx(
        tmp_path / "tiny.onnx", sigmas=SIGMAS, keypoint_names=NAMES, flip_pairs=((0, 2),)
    )
    looked_at: list[int] = []
    real = OnnxRuntimeEngine._infer

    def counted(self: OnnxRuntimeEngine, crops: Any, *, heatmaps: bool) -> Any:
        looked_at.append(len(crops))
        return real(self, crops, heatmaps=heatmaps)

    monkeypatch.setattr(OnnxRuntimeEngine, "_infer", counted)
    with load_engine(path) as engine:
        found = calibrate_flip(engine, world.annotations, world.images, max_ap_drop=100)
        assert sum(looked_at) == 2 * found.persons
        plan = prepare(engine, world.annotations, world.images, boxes=None, settings=EvalSettings())
        assert found.single == measure(plan, infer(plan, None)).stats["AP"]


def test_engines_with_flip_test_are_refused(world: World, tmp_path: Path) -> None:
    path = write_tiny_onnx(
        tmp_path / "tiny.onnx", sigmas=SIGMAS, keypoint_names=NAMES, flip_test=True
    )
    with (
        load_engine(path) as engine,
        pytest.raises(InputError, match="has the flip-test in its graph"),
    ):
        calibrate_flip(engine, world.annotations, world.images)


def test_no_picture_may_be_left_out_and_no_error_says_otherwise(
    world: World, tmp_path: Path
) -> None:
    path = write_tiny_onnx(
        tmp_path / "tiny.onnx", sigmas=SIGMAS, keypoint_names=NAMES, flip_pairs=((0, 2),)
    )
    settings = EvalSettings(allow_missing=True, keep_going=True)
    picture = world.images / world.content["images"][1]["file_name"]
    picture.write_bytes(picture.read_bytes()[:100])
    with load_engine(path) as engine:
        with pytest.raises(InputError, match=picture.name) as damaged:
            calibrate_flip(engine, world.annotations, world.images, settings=settings)
        picture.unlink()
        with pytest.raises(InputError, match="images are missing") as missing:
            calibrate_flip(engine, world.annotations, world.images, settings=settings)
    assert "--keep-going" not in str(damaged.value)
    assert str(missing.value).endswith("Add them.")


def test_nobody_to_calibrate_on(world: World, tmp_path: Path) -> None:
    path = write_tiny_onnx(tmp_path / "tiny.onnx", sigmas=SIGMAS, keypoint_names=NAMES)
    annotations = world.rewrite(annotations=world.content["annotations"][:1])
    with load_engine(path) as engine, pytest.raises(InputError, match="AP is undefined there"):
        calibrate_flip(engine, annotations, world.images)
    annotations = world.rewrite(annotations=[])
    with load_engine(path) as engine, pytest.raises(InputError, match="has no person"):
        calibrate_flip(engine, annotations, world.images)
