"""Many pictures on the GPU path and on the CPU path; see tests/engines/test_on_standin.py."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

if "STANDIN_TENSORRT" not in os.environ:
    pytest.skip("run by tests/engines/test_on_standin.py", allow_module_level=True)

from hrnet_deploy.engines import Engine, NonFiniteOutput, load_engine
from hrnet_deploy.engines.build_settings import BuildSettings
from hrnet_deploy.engines.pool import FramePool
from hrnet_deploy.errors import InputError
from hrnet_deploy.export.plan import PlanRequest, make_plan
from hrnet_deploy.runtime import gpu_stream
from hrnet_deploy.runtime.flip import FlipEngine
from hrnet_deploy.runtime.geometry import CropGeometry
from hrnet_deploy.runtime.gpu_stream import GpuStream
from hrnet_deploy.runtime.image import read_image
from hrnet_deploy.runtime.jobs import ImageJob, ImagePoses
from hrnet_deploy.runtime.stream import poses_of_images
from tests.tiny import write_tiny_onnx

PERSONS = (1, 0, 3, 20, 0, 1, 2, 7, 1)


@pytest.fixture(scope="module", params=[False, True], ids=["clean", "nan"])
def onnx(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stream")
    name = "nan.onnx" if request.param else "tiny.onnx"
    return write_tiny_onnx(folder / name, poison=request.param)


@pytest.fixture(scope="module")
def on_gpu(onnx: Path) -> Iterator[Engine]:
    settings = BuildSettings(opt_batch=4, max_batch=8)
    request = PlanRequest(onnx, onnx.with_suffix(".plan"), settings, use_timing_cache=False)
    with load_engine(make_plan(request, say=lambda line: None).path) as engine:
        yield engine


@pytest.fixture(scope="module")
def on_two(on_gpu: Engine) -> Iterator[Engine]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STANDIN_GPUS", "2")
        with load_engine(on_gpu.info.path, device="0,1") as engine:
            yield engine


@pytest.fixture(scope="module")
def on_cpu(onnx: Path) -> Iterator[Engine]:
    with load_engine(onnx, threads=1) as engine:
        yield engine


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> list[ImageJob]:
    """Pictures of all sizes; one is no picture, one has white persons, some lie outside."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    made = []
    for index, persons in enumerate(PERSONS):
        height, width = rng.integers(20, 200, 2)
        picture = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        path = folder / f"{index}.png"
        if index == 7:
            picture[:] = 255
        cv2.imwrite(str(path), picture)
        if index == 5:
            path.write_bytes(b"no picture")
        corners = rng.uniform(-40, 150, (persons, 2)) * (1 + 40 * (rng.random((persons, 1)) > 0.8))
        boxes = np.concatenate([corners, rng.uniform(2, 80, (persons, 2))], 1)
        made.append(ImageJob(index, path, CropGeometry.from_boxes_xywh(boxes, (48, 64))))
    return made


def compare(found: list[ImagePoses], expected: list[ImagePoses]) -> None:
    assert [item.job.key for item in found] == [item.job.key for item in expected]
    for one, other in zip(found, expected, strict=True):
        assert type(one.error) is type(other.error)
        assert str(one.error) == str(other.error)
        np.testing.assert_array_equal(one.keypoints_px, other.keypoints_px)
        np.testing.assert_array_equal(one.scores, other.scores)


@pytest.mark.parametrize("batch_size", [1, 3, 8, 64])
def test_the_gpu_path_gives_what_the_cpu_path_gives(
    on_gpu: Engine, on_cpu: Engine, jobs: list[ImageJob], batch_size: int
) -> None:
    found = list(poses_of_images(on_gpu, jobs, batch_size=batch_size, workers=2))
    expected = list(poses_of_images(on_cpu, jobs, batch_size=batch_size, workers=2))
    compare(found, expected)
    assert isinstance(found[5].error, InputError)
    nan = Path(on_gpu.info.path).stem == "nan"
    assert isinstance(found[7].error, NonFiniteOutput) is nan


@pytest.mark.parametrize("batch_size", [1, 3, 16, 64])
def test_two_gpus_give_what_one_and_the_cpu_give(
    on_two: Engine, on_gpu: Engine, on_cpu: Engine, jobs: list[ImageJob], batch_size: int
) -> None:
    assert isinstance(on_two, FramePool)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(on_two, "run", None)  # no crop goes through the parent
        found = list(poses_of_images(on_two, jobs, batch_size=batch_size, workers=2))
    for other in (on_gpu, on_cpu):
        compare(found, list(poses_of_images(other, jobs, batch_size=batch_size, workers=2)))


def test_an_adaptive_flip_test_over_two_gpus(
    on_two: Engine, on_cpu: Engine, jobs: list[ImageJob]
) -> None:
    found, expected = (
        list(poses_of_images(FlipEngine(engine, 0.9), jobs, batch_size=5))
        for engine in (on_two, on_cpu)
    )
    compare(found, expected)


def test_no_jobs_and_no_persons(on_gpu: Engine, jobs: list[ImageJob]) -> None:
    assert list(poses_of_images(on_gpu, [], batch_size=4)) == []
    empty = [job for job in jobs if not len(job.geometry)]
    assert [len(item.scores) for item in poses_of_images(on_gpu, empty, batch_size=4)] == [0, 0]


def test_each_picture_is_read_once_and_not_far_ahead(on_gpu: Engine, jobs: list[ImageJob]) -> None:
    read: list[Path] = []

    def reading(path: Path) -> NDArray[np.uint8]:
        read.append(path)
        return read_image(path)

    many = [jobs[0]] * 200
    stream = GpuStream(on_gpu, 4, reading, 1).results(iter(many))  # type: ignore[arg-type]
    next(stream)
    assert len(read) <= 6 * 4
    stream.close()
    read.clear()
    assert len(list(GpuStream(on_gpu, 4, reading, 2).results(iter(many)))) == 200  # type: ignore[arg-type]
    assert len(read) == 200


def test_a_batch_of_two_gpus_may_hold_twice_as_many_pictures(
    on_gpu: Engine, on_two: Engine, jobs: list[ImageJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_stream, "MAX_PICTURES", 3)
    (alone,) = [job for job in jobs if len(job.geometry) == 1][:1]
    for engine, pictures in ((on_gpu, 3), (on_two, 6)):
        stream = GpuStream(engine, 64, read_image, 1)  # type: ignore[arg-type]
        with ThreadPoolExecutor(1) as pool:
            batches = list(stream._planned(iter([alone] * 13), pool))
        assert max(batch.count for batch in batches) == min(pictures, engine.max_batch or pictures)


def test_every_batch_of_the_gpu_path_asks_first(
    on_gpu: Engine, jobs: list[ImageJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So does an evaluation stop, which must not lead plans around their own crops."""
    monkeypatch.setattr(on_gpu, "run", None)
    asked: list[int] = []

    def ask() -> None:
        asked.append(0)
        if len(asked) == 5:
            raise ZeroDivisionError

    many = [jobs[0]] * 40
    assert len(list(poses_of_images(on_gpu, many[:8], batch_size=4, before_batch=ask))) == 8
    assert 2 <= len(asked) < 5
    with pytest.raises(ZeroDivisionError):
        list(poses_of_images(on_gpu, many, batch_size=4, before_batch=ask))


def test_a_bug_in_reading_comes_out(on_gpu: Engine, jobs: list[ImageJob]) -> None:
    def broken(path: Path) -> NDArray[np.uint8]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(poses_of_images(on_gpu, jobs, batch_size=4, read=broken))


def test_crops_of_another_size_are_refused(on_gpu: Engine, jobs: list[ImageJob]) -> None:
    wrong = ImageJob(0, jobs[0].path, CropGeometry.from_boxes_xywh([[0, 0, 9, 9]], (96, 128)))
    with pytest.raises(InputError, match=r"cuts \(96, 128\), the engine \(48, 64\)"):
        list(poses_of_images(on_gpu, [wrong], batch_size=4))


def test_an_adaptive_flip_test_over_a_plan(
    on_gpu: Engine, on_cpu: Engine, jobs: list[ImageJob]
) -> None:
    """Heatmaps come back from the GPU; crops are cut on the CPU, as the mirror images are."""
    found, expected = (
        list(poses_of_images(FlipEngine(engine, 0.9), jobs, batch_size=5))
        for engine in (on_gpu, on_cpu)
    )
    compare(found, expected)
    twice = [item.second_passes for item in found]
    assert twice == [item.second_passes for item in expected]
    assert 0 < sum(twice) < sum(PERSONS)
