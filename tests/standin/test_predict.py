"""Pictures and videos to poses with crops cut on the GPU; see tests/engines/test_on_standin.py."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

if "STANDIN_TENSORRT" not in os.environ:
    pytest.skip("run by tests/engines/test_on_standin.py", allow_module_level=True)

from hrnet_deploy import PoseEstimator
from hrnet_deploy.engines import Engine, load_engine
from hrnet_deploy.engines.build_settings import BuildSettings
from hrnet_deploy.engines.pool import FramePool
from hrnet_deploy.engines.tensorrt import TensorRTEngine
from hrnet_deploy.export.plan import PlanRequest, make_plan
from hrnet_deploy.predict.frames import Boxes, Frame
from hrnet_deploy.predict.job import PredictJob
from hrnet_deploy.predict.run import Summary, predict_to_files
from hrnet_deploy.runtime.engine_options import EngineOptions
from tests.predict.videos import SIZE_WH, write_video
from tests.tiny import write_tiny_onnx

PERSONS = (1, 0, 3, 20, 0, 1, 2, 7, 1)
FRAMES = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plan that gives NaN for white crops; pictures, a video, and boxes of both.

    Picture 5 is none, picture 7 is white; some persons lie outside, some far away.
    """
    folder, rng = tmp_path_factory.mktemp("predict"), np.random.default_rng(3)
    onnx = write_tiny_onnx(folder / "tiny.onnx", poison=True)
    settings = BuildSettings(opt_batch=4, max_batch=8)
    request = PlanRequest(onnx, onnx.with_suffix(".plan"), settings, use_timing_cache=False)
    make_plan(request, say=lambda line: None)
    (folder / "pictures").mkdir()
    rows = []
    for index, persons in enumerate(PERSONS):
        height, width = rng.integers(20, 200, 2)
        picture = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
        path = folder / "pictures" / f"{index}.png"
        if index == 7:
            picture[:] = 255
        cv2.imwrite(str(path), picture)
        if index == 5:
            path.write_bytes(b"no picture")
        rows += [(f"{index}.png", *box) for box in drawn_boxes(rng, persons)]
    write_boxes(folder / "pictures.csv", "image", rows)
    write_video(folder / "video.avi", FRAMES)
    rows = [(n, *box) for n in range(FRAMES) for box in drawn_boxes(rng, 2 + n % 3)]
    write_boxes(folder / "video.csv", "frame", rows)
    return folder


def drawn_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    corners = rng.uniform(-40, 150, (count, 2)) * (1 + 1e6 * (rng.random((count, 1)) > 0.9))
    return np.concatenate([corners, corners + rng.uniform(2, 80, (count, 2))], 1)


def write_boxes(path: Path, key: str, rows: list[tuple[Any, ...]]) -> None:
    lines = [",".join(map(str, row)) for row in rows]
    path.write_text("\n".join([f"{key},x1,y1,x2,y2", *lines]))


@pytest.fixture
def no_crops_from_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines that cut crops themselves are given none."""
    for kind in (TensorRTEngine, FramePool):
        monkeypatch.setattr(kind, "run", None)
    monkeypatch.setenv("STANDIN_GPUS", "2")


def predict(
    folder: Path, engine: str, name: str, stop: Callable[[], int | None] = lambda: None, **how: Any
) -> tuple[bytes, Summary]:
    """What a run over the pictures or the video wrote; ``how`` has fields of both kinds."""
    names = {field.name for field in dataclasses.fields(EngineOptions)} & how.keys()
    options = EngineOptions(**{option: how.pop(option) for option in names})
    output = folder / f"{engine}.{options.device}.jsonl"
    source = folder / ("pictures" if name == "pictures" else "video.avi")
    job = PredictJob(
        (str(source),),
        folder / engine,
        folder / f"{name}.csv",
        outputs=(output,),
        engine_options=options,
        **how,
    )
    summary = predict_to_files(job, emit=lambda line: None, stop=stop)
    content = output.read_bytes() if output.exists() else b""
    output.unlink(missing_ok=True)
    return content, summary


@pytest.mark.usefixtures("no_crops_from_here")
@pytest.mark.parametrize("device", [None, "0,1"])
@pytest.mark.parametrize("batch_size", [1, 5, 64])
@pytest.mark.parametrize("name", ["pictures", "video"])
def test_a_plan_gives_the_bytes_that_its_onnx_file_gives(
    folder: Path, name: str, batch_size: int, device: str | None
) -> None:
    how = {"batch_size": batch_size, "track": name == "video", "smooth": name == "video"}
    expected, on_cpu = predict(folder, "tiny.onnx", name, **how)
    found, summary = predict(folder, "tiny.plan", name, device=device, **how)
    assert found == expected
    assert (summary.frames, summary.persons) == (on_cpu.frames, on_cpu.persons)
    left_out = [(source, str(error)) for source, error in summary.skipped]
    assert left_out == [(source, str(error)) for source, error in on_cpu.skipped]
    assert any("NaN" in error for _, error in left_out)
    assert summary.frames > (4 if name == "pictures" else 20)


@pytest.mark.usefixtures("no_crops_from_here")
@pytest.mark.parametrize("device", [None, "0,1"])
def test_heatmaps_come_back_too(folder: Path, device: str | None, tmp_path: Path) -> None:
    drawn = []
    for engine, where in (("tiny.onnx", None), ("tiny.plan", device)):
        target = tmp_path / engine
        predict(folder, engine, "pictures", device=where, batch_size=5, heatmaps=target)
        drawn.append({path.name: path.read_bytes() for path in target.iterdir()})
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) > 4


@pytest.mark.usefixtures("no_crops_from_here")
@pytest.mark.parametrize("device", [None, "0,1"])
def test_an_interrupted_run_of_a_plan_goes_on(folder: Path, device: str | None) -> None:
    how: dict[str, Any] = {"batch_size": 4, "device": device}
    whole, _ = predict(folder, "tiny.plan", "video", **how)
    asked = iter(range(1000))
    predict(folder, "tiny.plan", "video", lambda: 2 if next(asked) > 12 else None, **how)
    rest, summary = predict(folder, "tiny.plan", "video", **how)
    assert rest == whole
    assert summary.replayed > 8


@pytest.mark.parametrize("device", [None, "0,1"])
def test_an_adaptive_flip_test(
    folder: Path, device: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its crops are cut here, since the mirror images are made of them."""
    monkeypatch.setenv("STANDIN_GPUS", "2")
    how: dict[str, Any] = {"batch_size": 5, "flip": "adaptive", "flip_threshold": 0.9}
    expected, on_cpu = predict(folder, "tiny.onnx", "video", **how)
    found, summary = predict(folder, "tiny.plan", "video", device=device, **how)
    assert found == expected
    assert 0 < summary.second_passes == on_cpu.second_passes


@pytest.fixture(params=[None, "0,1"])
def plan(
    request: pytest.FixtureRequest, folder: Path, no_crops_from_here: None
) -> Iterator[Engine]:
    with load_engine(folder / "tiny.plan", device=request.param) as engine:
        yield engine


def test_the_python_interface_gives_what_it_gives_on_the_cpu(folder: Path, plan: Engine) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (90, 70, 3), dtype=np.uint8) for _ in range(4)]
    boxes = [drawn_boxes(rng, count) for count in (3, 0, 17, 1)]
    on_gpu = PoseEstimator(plan, batch_size=6)
    with PoseEstimator(folder / "tiny.onnx", batch_size=6) as on_cpu:
        expected = on_cpu.predict_many(images, boxes)
        for own, other in zip(on_gpu.predict_many(images, boxes), expected, strict=True):
            np.testing.assert_array_equal(own.keypoints_px, other.keypoints_px)
            np.testing.assert_array_equal(own.scores, other.scores)
    assert len(on_gpu(images[0], [])) == 0


def test_a_live_frame_waits_for_no_other(plan: Engine) -> None:
    """Every frame is answered before the next one is taken."""
    taken: list[int] = []

    def frames() -> Iterator[np.ndarray]:
        for number in range(5):
            taken.append(number)
            yield np.full((SIZE_WH[1], SIZE_WH[0], 3), 50 * number, np.uint8)

    for result in PoseEstimator(plan).video(frames(), whole):
        assert taken[-1] == result.frame.number


def whole(frame: Frame) -> Boxes:
    return Boxes(np.array([[0.0, 0.0, *SIZE_WH]]), np.ones(1))


def test_a_file_is_looked_at_while_the_engine_works(folder: Path, plan: Engine) -> None:
    """The persons of the next frames are looked for before the poses of these are waited for."""
    asked: list[int] = []

    def boxes_of(frame: Frame) -> Boxes:
        asked.append(frame.number or 0)
        return whole(frame)

    first = next(PoseEstimator(plan, batch_size=4).video(folder / "video.avi", boxes_of))
    assert first.frame.number == 0
    assert asked == list(range(8))
