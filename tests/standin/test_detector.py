"""Detectors as plans, on the stand-in; run by ``tests/engines/test_on_standin.py``."""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

if "STANDIN_TENSORRT" not in os.environ:
    pytest.skip("run by tests/engines/test_on_standin.py", allow_module_level=True)

from hrnet_deploy.engines import load_engine
from hrnet_deploy.engines.build_settings import BuildSettings
from hrnet_deploy.engines.manifest import manifest_path
from hrnet_deploy.errors import EnvironmentFault, GateError, InputError
from hrnet_deploy.export.plan import PlanRequest
from hrnet_deploy.predict.detector.build import detector_settings, make_detector_plan
from hrnet_deploy.predict.detector.detector import PersonDetector
from tests.predict import detectors
from tests.tiny import write_tiny_onnx

DRIVER = ctypes.CDLL("libcuda.so.1")
DRIVER.standin_allocated.restype = ctypes.c_int64
OLD = os.environ["STANDIN_TENSORRT"].startswith("8.")


def build(onnx: Path, config: Path | None = None, **settings: int) -> Path:
    chosen = detector_settings(BuildSettings(**settings), asked=bool(settings))
    request = PlanRequest(onnx, onnx.with_suffix(".plan"), chosen, force=True)
    make_detector_plan(request, config, say=lambda line: None)
    return request.output


def free(make: Callable[[Path], Path]) -> Callable[[Path], Path]:
    return lambda path: detectors.batched(make(path), None)


def pictures(count: int) -> list[np.ndarray]:
    images = [np.full((256, 320, 3), 30, np.uint8) for _ in range(count)]
    for index, image in enumerate(images[1:]):
        image[20 : 150 + index, 30 + 9 * index : 120 + 9 * index, 2] = 255
    return images


@pytest.mark.parametrize(
    "make",
    [
        detectors.yolox,
        free(detectors.yolox),
        lambda path: detectors.batched(detectors.nanodet(path), 3),
        pytest.param(
            free(detectors.detr),
            marks=pytest.mark.xfail(OLD, reason="8.6 has no int64", raises=KeyError),
        ),
    ],
    ids=["yolox", "yolox N", "nanodet 3", "detr N"],
)
def test_a_plan_finds_what_its_onnx_file_finds(
    make: Callable[[Path], Path], tmp_path: Path
) -> None:
    onnx = make(tmp_path / "d.onnx")
    plan = build(onnx)
    images = pictures(11)
    expected = PersonDetector(onnx).detect_many(images)
    assert [len(boxes) for boxes in expected] == [0] + 10 * [1]
    with PersonDetector(plan) as detector:
        found = detector.detect_many(images)
        assert len(detector.detect(images[3])) == 1
    for own, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(own.xyxy, theirs.xyxy)
        np.testing.assert_array_equal(own.scores, theirs.scores)
    assert DRIVER.standin_allocated() == 0


def test_the_manifest_says_what_it_is(tmp_path: Path) -> None:
    plan = build(free(detectors.yolox)(tmp_path / "d.onnx"), min_batch=2, opt_batch=4, max_batch=4)
    value = json.loads(manifest_path(plan).read_text())
    assert value["detector"]["inputs"] == {"images": ["tensor(float)", [None, 3, 128, 192]]}
    assert value["profile"] == {"min": 2, "opt": 4, "max": 4}
    assert set(value["parity"]) == {"2", "4"}
    assert value["parity"]["2"]["scores"] == 0
    with PersonDetector(plan) as detector:
        assert detector.at_once == 4
        assert len(detector.detect(pictures(2)[1])) == 1  # filled up to two


def test_plans_of_poses_and_of_persons_are_not_confused(tmp_path: Path) -> None:
    plan = build(detectors.yolox(tmp_path / "d.onnx"))
    with pytest.raises(InputError, match=r"that of a person detector. Give it to --detector"):
        load_engine(plan)
    value = json.loads(manifest_path(plan).read_text())
    manifest_path(plan).write_text(json.dumps({**value, "spec": {}}))
    with pytest.raises(InputError, match=r"that of a pose engine. Give it to --engine"):
        PersonDetector(plan)
    manifest_path(plan).write_text(json.dumps({**value, "detector": {"inputs": 3}}))
    with pytest.raises(InputError, match="a detector without inputs and outputs"):
        PersonDetector(plan)


def test_what_was_changed_or_built_elsewhere_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = build(detectors.yolox(tmp_path / "d.onnx"))
    with pytest.raises(InputError, match="onnxruntime was asked for"):
        PersonDetector(plan, backend="onnxruntime")
    monkeypatch.setenv("STANDIN_SM", "86")
    with pytest.raises(EnvironmentFault, match=r"hrnet-deploy build --detector d\.onnx -o d\.plan"):
        PersonDetector(plan)
    monkeypatch.undo()
    plan.write_bytes(plan.read_bytes() + b"x")
    with pytest.raises(InputError, match="does not match its manifest"):
        PersonDetector(plan)


def test_a_plan_with_other_boxes_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tensorrt.FAULT", "wrong")
    with pytest.raises(GateError, match=r"differs from d\.onnx at batch 1: scores by 1\.2"):
        build(detectors.yolox(tmp_path / "d.onnx"))
    assert not (tmp_path / "d.plan").exists()
    assert DRIVER.standin_allocated() == 0


def test_what_cannot_be_a_plan_is_said_before_building(tmp_path: Path) -> None:
    onnx = detectors.tensorflow_ssd(tmp_path / "t.onnx")
    with pytest.raises(InputError, match="takes pictures of any size, a plan only one"):
        build(onnx)
    with pytest.raises(InputError, match="is a pose engine of ours, no person detector"):
        build(write_tiny_onnx(tmp_path / "tiny.onnx"))
