from __future__ import annotations

import itertools
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from hrnet_deploy import PoseEstimator, load_engine
from hrnet_deploy.engines import Engine, EngineInfo, EngineOutput, NonFiniteOutput
from hrnet_deploy.errors import EnvironmentFault, InputError
from hrnet_deploy.runtime import stream
from hrnet_deploy.runtime.geometry import CropGeometry
from hrnet_deploy.runtime.image import read_image
from hrnet_deploy.runtime.jobs import ImageJob, ImagePoses
from hrnet_deploy.runtime.stream import poses_of_images

SIZE_WH = (48, 64)
WAIT_S = 20


class MeanEngine(Engine):
    """Scores are the mean grey level of a crop; ``on_run`` is called with each batch."""

    def __init__(self, tiny: ModuleType, on_run: Callable[[int], None] = lambda count: None):
        info = EngineInfo("mean", "cpu", "mean.onnx", "0" * 64, "fp32")
        super().__init__(tiny.tiny_spec(), info, None)
        self.on_run = on_run
        self.batches: list[int] = []

    def _infer(self, crops_nhwc: NDArray[np.uint8], *, heatmaps: bool) -> EngineOutput:
        self.batches.append(len(crops_nhwc))
        self.on_run(len(crops_nhwc))
        scores = crops_nhwc.mean(axis=(1, 2), dtype=np.float32)
        return EngineOutput(np.ones((*scores.shape, 2), np.float32), scores)


class Reader:
    """Makes a picture of one grey level from a path's number, and counts the calls."""

    def __init__(self) -> None:
        self.paths: list[Path] = []
        self._lock = threading.Lock()

    def __call__(self, path: Path) -> NDArray[np.uint8]:
        with self._lock:
            self.paths.append(path)
        if path.stem.startswith("bad"):
            raise InputError(path, "is truncated", "Download it again")
        return np.full((80, 60, 3), level(path), np.uint8)


def level(path: Path) -> int:
    return int(path.stem) % 251


def job(number: int | str, persons: int) -> ImageJob:
    boxes = np.tile([[10.0, 10, 20, 30]], (persons, 1))
    geometry = CropGeometry.from_boxes_xywh(boxes, SIZE_WH)
    return ImageJob(number, Path(f"{number}.jpg"), geometry)


def stream_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("hrnet-deploy-crops")]


def until(condition: Callable[[], bool]) -> bool:
    end = time.perf_counter() + WAIT_S
    while not condition() and time.perf_counter() < end:
        time.sleep(0.002)
    return condition()


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    yield
    assert until(lambda: not stream_threads())


@pytest.mark.parametrize("batch_size", [1, 2, 7, 64])
@pytest.mark.parametrize("workers", [1, 4])
def test_results_come_in_order_whatever_the_batches(
    tiny: ModuleType, batch_size: int, workers: int
) -> None:
    counts = [1, 0, 3, 20, 0, 0, 1, 1, 2, 0]
    jobs = [job(number, persons) for number, persons in enumerate(counts)]
    reader, engine = Reader(), MeanEngine(tiny)
    results = list(
        poses_of_images(engine, jobs, batch_size=batch_size, read=reader, workers=workers)
    )
    assert [result.job for result in results] == jobs
    for result, persons in zip(results, counts, strict=True):
        assert result.error is None
        assert result.keypoints_px.shape == (persons, 3, 2)
        assert result.keypoints_px.dtype == np.float32
        np.testing.assert_array_equal(result.scores, np.full((persons, 3), level(result.job.path)))
    whole, rest = divmod(sum(counts), batch_size)
    assert engine.batches == [batch_size] * whole + [rest] * bool(rest)
    assert sorted(reader.paths) == [j.path for j in jobs if len(j.geometry)]  # once each


def test_no_jobs_give_no_results(tiny: ModuleType) -> None:
    assert list(poses_of_images(MeanEngine(tiny), [], batch_size=4)) == []


def test_real_files_give_what_the_estimator_gives(
    pictures: ModuleType, tiny_onnx: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    boxes, jobs = {}, []
    for number in range(12):
        file = tmp_path / f"{number}.png"
        file.write_bytes(pictures.encoded(".png", pictures.picture(90, 120, seed=number)))
        corners = rng.uniform(-10, 60, (number % 4, 2))
        boxes[number] = np.concatenate([corners, corners + rng.uniform(5, 60, corners.shape)], 1)
        geometry = CropGeometry.from_boxes_xyxy(boxes[number], SIZE_WH)
        jobs.append(ImageJob(number, file, geometry))
    with load_engine(tiny_onnx) as engine:
        results = list(poses_of_images(engine, jobs, batch_size=5))
        estimator = PoseEstimator(engine)
        for result in results:
            poses = estimator(read_image(result.job.path), boxes[result.job.key])
            np.testing.assert_array_equal(result.keypoints_px, poses.keypoints_px)
            np.testing.assert_array_equal(result.scores, poses.scores)


def test_an_unreadable_picture_is_carried_and_the_others_go_on(tiny: ModuleType) -> None:
    jobs = [job(0, 2), job("bad1", 3), job(2, 1), job("bad3", 9), job(4, 2)]
    results = list(poses_of_images(MeanEngine(tiny), jobs, batch_size=4, read=Reader()))
    assert [result.job for result in results] == jobs
    for result in results:
        if str(result.job.key).startswith("bad"):
            assert isinstance(result.error, InputError)
            assert str(result.error).startswith(f"{result.job.path}: is truncated")
            assert result.keypoints_px.shape == (0, 3, 2)
            assert result.scores.shape == (0, 3)
        else:
            assert result.error is None
            assert (result.scores == level(result.job.path)).all()


def test_pictures_that_cannot_be_read_at_all_never_reach_the_engine(tiny: ModuleType) -> None:
    engine = MeanEngine(tiny)
    jobs = [job(f"bad{number}", 2) for number in range(20)]
    results = list(poses_of_images(engine, jobs, batch_size=4, read=Reader()))
    assert all(result.error is not None for result in results)
    assert engine.batches == []


def test_nan_is_carried_by_the_pictures_it_hits(make_tiny_onnx: Any) -> None:
    def read(path: Path) -> NDArray[np.uint8]:
        image_bgr = np.full((80, 60, 3), level(path), np.uint8)
        if path.stem == "2":
            image_bgr[:, 40:] = 255  # white gives NaN
        return image_bgr

    jobs = [job(number, 2) for number in range(6)]
    both = CropGeometry.from_boxes_xywh([[5, 20, 9, 9], [45, 20, 9, 9], [5, 40, 9, 9]], SIZE_WH)
    jobs[2] = ImageJob(2, Path("2.jpg"), both)
    with load_engine(make_tiny_onnx(poison=True)) as engine:
        results = list(poses_of_images(engine, jobs, batch_size=4, read=read))
    assert [result.error is not None for result in results] == [i == 2 for i in range(6)]
    error = results[2].error
    assert isinstance(error, NonFiniteOutput)
    assert error.indices.tolist() == [1]
    assert str(error).startswith("2.jpg: engine produced NaN or infinity for 1 of 3 crops")
    assert all(len(result.scores) == 2 for result in results if result.error is None)


def test_the_next_pictures_are_read_while_the_engine_runs(tiny: ModuleType) -> None:
    reader = Reader()
    overlapped = []

    def on_run(count: int) -> None:
        seen = len(engine.batches) * 4  # read for the batches that have started
        overlapped.append(until(lambda: len(reader.paths) >= min(seen + 8, 40)))

    engine = MeanEngine(tiny, on_run)
    jobs = (job(number, 1) for number in range(40))
    results = list(poses_of_images(engine, jobs, batch_size=4, read=reader, workers=2))
    assert len(results) == 40
    assert all(overlapped)


def test_a_slow_consumer_stops_the_reading(tiny: ModuleType) -> None:
    reader = Reader()
    endless = (job(number, 1) for number in itertools.count())
    results = poses_of_images(MeanEngine(tiny), endless, batch_size=4, read=reader, workers=2)
    assert next(results).job.key == 0
    limit = 4 * (stream.BATCHES_AHEAD + 1)
    time.sleep(0.2)
    assert len(reader.paths) <= limit
    results.close()  # type: ignore[attr-defined]
    assert not stream_threads()


def test_stopping_early_joins_the_threads(tiny: ModuleType) -> None:
    for number, result in enumerate(
        poses_of_images(
            MeanEngine(tiny), (job(n, 3) for n in itertools.count()), batch_size=4, read=Reader()
        )
    ):
        assert result.job.key == number
        if number == 5:
            break
    assert until(lambda: not stream_threads())


def test_an_iterator_that_is_never_started_starts_nothing(tiny: ModuleType) -> None:
    reader = Reader()
    results = poses_of_images(MeanEngine(tiny), [job(1, 1)], batch_size=4, read=reader)
    assert not stream_threads()
    del results
    assert reader.paths == []


@pytest.mark.parametrize("fault", [RuntimeError, MemoryError, SystemExit])
def test_a_worker_that_dies_surfaces(tiny: ModuleType, fault: type[BaseException]) -> None:
    def read(path: Path) -> NDArray[np.uint8]:
        if path.stem == "7":
            raise fault("broken")
        return np.zeros((80, 60, 3), np.uint8)

    jobs = [job(number, 1) for number in range(50)]
    results = poses_of_images(MeanEngine(tiny), jobs, batch_size=2, read=read)
    with pytest.raises(fault, match="broken"):
        list(results)
    assert not stream_threads()


def test_a_fault_of_the_machine_is_no_fault_of_the_picture(tiny: ModuleType) -> None:
    def read(path: Path) -> NDArray[np.uint8]:
        raise EnvironmentFault(path, "not enough memory", "Free some")

    with pytest.raises(EnvironmentFault, match="not enough memory"):
        list(poses_of_images(MeanEngine(tiny), [job(1, 1)], batch_size=2, read=read))


def test_what_the_engine_raises_is_raised(tiny: ModuleType) -> None:
    def on_run(count: int) -> None:
        if len(engine.batches) == 3:
            raise EnvironmentFault("gpu", "was lost", "Run again")

    engine = MeanEngine(tiny, on_run)
    jobs = (job(number, 1) for number in itertools.count())
    received: list[ImagePoses] = []
    with pytest.raises(EnvironmentFault, match="gpu: was lost"):
        received.extend(poses_of_images(engine, jobs, batch_size=4, read=Reader()))
    assert not stream_threads()


def test_an_iterable_of_jobs_that_fails_is_raised(tiny: ModuleType) -> None:
    def jobs() -> Iterator[ImageJob]:
        yield from (job(number, 1) for number in range(9))
        raise KeyError("annotations")

    with pytest.raises(KeyError, match="annotations"):
        list(poses_of_images(MeanEngine(tiny), jobs(), batch_size=2, read=Reader()))
    assert not stream_threads()


def test_memory_depends_on_neither_persons_nor_pictures(tiny: ModuleType) -> None:
    engine = MeanEngine(tiny)

    def peak(jobs: Iterator[ImageJob]) -> int:
        tracemalloc.start()
        for _ in poses_of_images(engine, jobs, batch_size=32, read=Reader(), workers=2):
            pass
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    crowd = peak(iter([job(1, 5_000)]))
    crops = 32 * 64 * 48 * 3
    assert crowd < (stream.BATCHES_AHEAD + 2) * crops + 4e6  # all crops at once: 46 MB
    pictures = 32 * 80 * 60 * 3
    many = peak(job(number, 1) for number in range(1000))
    assert many < (stream.BATCHES_AHEAD + 2) * (crops + pictures) + 4e6  # all of them: 14 MB


def test_pictures_without_persons_flow_past(tiny: ModuleType) -> None:
    engine, reader, asked = MeanEngine(tiny), Reader(), 0

    def jobs() -> Iterator[ImageJob]:
        nonlocal asked
        for number in itertools.count():
            asked += 1
            yield job(number, int(number % 5000 == 0))

    results = poses_of_images(engine, jobs(), batch_size=32, read=reader)
    first = [result.job.key for result in itertools.islice(results, 8000)]
    results.close()  # type: ignore[attr-defined]
    assert first == list(range(8000))
    assert asked < 8000 + (stream.BATCHES_AHEAD + 2) * stream.PICTURES_PER_BATCH
    assert len(reader.paths) <= 4


def test_many_tiny_pictures(pictures: ModuleType, tiny_onnx: Path, tmp_path: Path) -> None:
    files = []
    for number in range(50):
        files.append(tmp_path / f"{number}.png")
        files[-1].write_bytes(pictures.encoded(".png", np.full((3, 2, 3), number, np.uint8)))
    geometry = CropGeometry.from_boxes_xywh([[0, 0, 2, 3]], SIZE_WH)
    jobs = [ImageJob(i, files[i % 50], geometry) for i in range(1000)]
    with load_engine(tiny_onnx) as engine:
        results = list(poses_of_images(engine, jobs, batch_size=16, workers=4))
    assert [result.job.key for result in results] == list(range(1000))
    for result in results:
        np.testing.assert_allclose(result.scores, (result.job.key % 50) / 255, atol=1e-6)


def test_the_global_number_of_opencv_threads_is_left_alone(tiny: ModuleType) -> None:
    before = cv2.getNumThreads()
    list(poses_of_images(MeanEngine(tiny), [job(1, 3)], batch_size=2, read=Reader()))
    assert cv2.getNumThreads() == before


@pytest.mark.parametrize("batch_size", [0, -3, 1.5, True])
def test_a_batch_size_that_is_none_is_named_at_once(tiny: ModuleType, batch_size: Any) -> None:
    with pytest.raises(InputError, match="batch_size: is"):
        poses_of_images(MeanEngine(tiny), [], batch_size=batch_size)


def test_crops_of_another_size_are_refused(tiny: ModuleType) -> None:
    geometry = CropGeometry.from_boxes_xywh([[0, 0, 9, 9]], (192, 256))
    other = ImageJob(0, Path("0.jpg"), geometry)
    with pytest.raises(
        InputError, match=r"job\.geometry: cuts \(192, 256\), the engine \(48, 64\)"
    ):
        list(poses_of_images(MeanEngine(tiny), [other], batch_size=2, read=Reader()))
