"""Frames on two GPUs, a process each: the poses of one engine, and no hang when one is lost."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

if "STANDIN_TENSORRT" not in os.environ:
    pytest.skip("run by tests/engines/test_on_standin.py", allow_module_level=True)

from hrnet_deploy.engines import Engine, NonFiniteOutput, load_engine, pool_worker
from hrnet_deploy.engines.build_settings import BuildSettings
from hrnet_deploy.engines.pool import FramePool, PendingFrames
from hrnet_deploy.engines.pool_memory import SHARED_FOLDER
from hrnet_deploy.errors import EnvironmentFault, InputError
from hrnet_deploy.export.plan import PlanRequest, make_plan
from hrnet_deploy.runtime.crops import crop_into
from hrnet_deploy.runtime.frame_engine import submit_persons
from hrnet_deploy.runtime.geometry import CropGeometry
from tests.standin.persons import Crops, assert_same, cut_on_host, frames_and_crops
from tests.tiny import write_tiny_onnx

MAX_BATCH = 6


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plan that gives NaN for white crops."""
    folder = tmp_path_factory.mktemp("pool")
    onnx = write_tiny_onnx(folder / "tiny.onnx", poison=True)
    settings = BuildSettings(opt_batch=4, max_batch=MAX_BATCH)
    request = PlanRequest(onnx, onnx.with_suffix(".plan"), settings, use_timing_cache=False)
    return make_plan(request, say=lambda line: None).path


@pytest.fixture(scope="module")
def reference(plan: Path) -> Iterator[Engine]:
    with load_engine(plan.with_suffix(".onnx"), threads=1) as loaded:
        yield loaded


@pytest.fixture
def load(plan: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], FramePool]:
    monkeypatch.setenv("STANDIN_GPUS", "2")

    def loaded() -> FramePool:
        engine = load_engine(plan, device="0,1")
        assert isinstance(engine, FramePool)
        return engine

    return loaded


def submit(pool: FramePool, seed: int, count: int, *, heatmaps: bool = False) -> PendingFrames:
    """Start a batch whose frames are overwritten at once."""
    frames, geometry, of_crop = frames_and_crops(seed, count)
    pending = pool.submit_frames(frames, geometry.image_to_input, of_crop, heatmaps=heatmaps)
    for frame in frames:
        frame[:] = 7
    return pending


def crops_of(seed: int, count: int) -> Crops:
    return cut_on_host(*frames_and_crops(seed, count))


def test_every_order_of_batches(load: Callable[[], FramePool], reference: Engine) -> None:
    """One crop is less than there are workers, 31 more than their engines take at once."""
    counts = (1, MAX_BATCH, 31, 2, 2 * MAX_BATCH, 13, 1)
    with load() as pool:
        pending = [submit(pool, seed, count) for seed, count in enumerate(counts)]
        noise = crops_of(9, 5)
        assert_same(pool.run(noise), reference.run(noise))
        for index in (6, 2, 0, 5, 1, 3, 4, 2):
            expected = reference.run(crops_of(index, counts[index]))
            assert_same(pending[index].result(), expected)
        maps = submit(pool, 3, 14, heatmaps=True).result().heatmaps_nkhw
        expected = reference.run(crops_of(3, 14), heatmaps=True)
        np.testing.assert_array_equal(maps, expected.heatmaps_nkhw)


def test_black_crops_nan_and_wrong_input(load: Callable[[], FramePool], reference: Engine) -> None:
    frames, geometry, _ = frames_and_crops(1, 9)
    affines = geometry.image_to_input
    good = np.array([0, -1, 1, 1, -1, 2, 0, 3, -1])
    white = [frames[0], np.full((300, 300, 3), 255, np.uint8)]
    inside = np.tile(np.array([[1.0, 0, -100], [0, 1, -100]]), (9, 1, 1))
    cases: list[tuple[object, np.ndarray, np.ndarray, str]] = [
        (frames[:3], affines, good, "names frame 3 of 3"),
        (frames, affines[:4], good, r"expected \(9, 2, 3\) for 9 crops"),
        ([*frames[:3], frames[0].astype(float)], affines, good, r"frame 3: expected \(H, W, 3\)"),
        ([*frames[:3], np.zeros((1, 40000, 3), np.uint8)], affines, good, "is 40000 x 1 px"),
        (frames, affines[:0], good[:0], "crops: is 0"),
    ]
    with load() as pool:
        for wrong_frames, wrong_affines, wrong_numbers, message in cases:
            with pytest.raises(InputError, match=message):
                pool.submit_frames(wrong_frames, wrong_affines, wrong_numbers)  # type: ignore[arg-type]
        expected = reference.run(cut_on_host(frames, geometry, good))
        assert_same(pool.submit_frames(frames, affines, good).result(), expected)
        numbers = np.array([-1, 1, -1, -1, -1, -1, -1, 1, -1])
        poisoned = pool.submit_frames(white, inside, numbers)
        with pytest.raises(NonFiniteOutput) as caught:
            poisoned.result()
        assert caught.value.indices.tolist() == [1, 7]
        assert poisoned.output is not None
        assert np.isfinite(poisoned.output.scores[[0, 2, 3, 4, 5, 6, 8]]).all()
        none = np.full(9, -1)
        black = reference.run(np.zeros((9, 64, 48, 3), np.uint8))
        assert_same(pool.submit_frames([], affines, none).result(), black)


@pytest.mark.parametrize(("side_px", "cut_here"), [(160, False), (700, True)])
def test_crops_are_cut_where_that_is_less_work(
    load: Callable[[], FramePool],
    plan: Path,
    reference: Engine,
    side_px: int,
    cut_here: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Crops instead of large pictures of few persons; the poses are the same, black crops too."""
    rng = np.random.default_rng(side_px)
    image = rng.integers(0, 255, (side_px, side_px, 3), dtype=np.uint8)
    images = [image, None, image[:, ::-1].copy()]
    corners = rng.uniform(-20, 90, (3, 2))
    corners[2] = 5e6  # too far outside for OpenCV
    boxes = np.concatenate([corners, corners + rng.uniform(20, 60, (3, 2))], 1)
    persons = CropGeometry.from_boxes_xyxy(boxes, (48, 64))
    crops = np.zeros((6, 64, 48, 3), np.uint8)
    crop_into(image, persons, crops[:3])
    crop_into(images[2], persons[:2], crops[4:])
    given: list[int] = []
    real = FramePool.submit_frames

    def watched(self: FramePool, frames: list[np.ndarray], *rest: Any, **how: Any) -> object:
        given.extend(frame.shape[0] for frame in frames)
        return real(self, frames, *rest, **how)

    monkeypatch.setattr(FramePool, "submit_frames", watched)
    parts = [persons, persons[:1], persons[:2]]
    with load() as pool:
        output = submit_persons(pool, images, parts, heatmaps=True).result()
    assert given == ([64] * 5 if cut_here else [side_px] * 2)
    expected = reference.run(crops, heatmaps=True)
    assert_same(output, expected)
    np.testing.assert_array_equal(output.heatmaps_nkhw, expected.heatmaps_nkhw)
    with load_engine(plan) as single:  # one GPU takes pictures, whatever they are
        frames = []
        monkeypatch.setattr(single, "submit_frames", lambda f, *_, **__: frames.extend(f))
        submit_persons(single, images, parts)
        assert [frame.shape[0] for frame in frames] == [side_px] * 2


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def traces(pool: FramePool) -> tuple[list[int], list[Path]]:
    """The processes, and the files of the shared memory."""
    pids = [worker._process.pid or 0 for worker in pool._workers]
    areas = [area._memory for worker in pool._workers for area in worker._areas]
    return pids, [SHARED_FOLDER / memory.name for memory in areas if memory is not None]


@pytest.mark.parametrize("moment", ["idle", "working", "closed", "silent"])
def test_a_lost_worker_is_an_error_and_leaves_nothing(
    load: Callable[[], FramePool], moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = load()
    earlier = [submit(pool, 1, 8), submit(pool, 2, 8)]
    pids, files = traces(pool)
    assert len(files) == 4
    assert all(file.exists() for file in files)
    message = "engine is closed"
    started = time.monotonic()
    if moment == "idle":
        os.kill(pids[1], signal.SIGKILL)
        message = r"cuda:1: its worker process died \(signal 9\)"
    elif moment == "working":
        os.kill(pids[1], signal.SIGSTOP)
        os.kill(pids[1], signal.SIGKILL)
        message = r"cuda:1: its worker process died \(signal 9\)"
    elif moment == "silent":
        monkeypatch.setattr(pool_worker, "ANSWER_SECONDS", 0.5)
        os.kill(pids[0], signal.SIGSTOP)
        message = "cuda:0: its worker process gave no answer for 0 s"
    else:
        pool.close()
    expected = InputError if moment == "closed" else EnvironmentFault
    with pytest.raises(expected, match=message):
        submit(pool, 3, 8)  # waits for the first batch
    assert time.monotonic() - started < 40
    assert all(gone(pid) for pid in pids)
    assert not any(file.exists() for file in files)
    for pending in earlier:
        with pytest.raises(InputError, match="engine is closed"):
            pending.result()


def test_what_goes_wrong_in_a_worker_is_told(
    load: Callable[[], FramePool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_FAULT", "enqueue")
    with load() as pool:
        pending = submit(pool, 1, 8)
        with pytest.raises(EnvironmentFault, match="could not enqueue a batch"):
            pending.result()
        with pytest.raises(InputError, match="engine is closed"):
            submit(pool, 1, 8)
