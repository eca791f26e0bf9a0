from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hrnet_deploy import PoseEstimator, load_engine
from hrnet_deploy.engines import Engine, EngineInfo, EngineOutput, NonFiniteOutput
from hrnet_deploy.errors import InputError
from hrnet_deploy.runtime import stream
from hrnet_deploy.runtime.flip import MEASURE, FlipEngine, doubt, run_batches
from hrnet_deploy.runtime.flip_choice import KIND, calibration_path, flip_facts, with_flip
from hrnet_deploy.runtime.geometry import CropGeometry
from hrnet_deploy.runtime.jobs import ImageJob
from hrnet_deploy.runtime.stream import poses_of_images

SIZE_WH = (48, 64)


def crops_of(size_hw: tuple[int, int], count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (count, *size_hw, 3), dtype=np.uint8)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    "changes", [{}, {"shift_heatmap": False}, {"decode": "dark"}, {"decode": "none"}]
)
def test_a_second_pass_gives_what_the_exact_engine_gives(
    small: ModuleType, tmp_path: Path, backend: str, changes: dict[str, Any]
) -> None:
    """The same checkpoint with the flip-test in the graph, and without it and merged outside."""
    pytest.importorskip(backend)
    files = [
        small.write_small_onnx(tmp_path / f"{flip}.onnx", flip_test=flip, **changes)
        for flip in (True, False)
    ]
    crops = crops_of(small.SIZE_HW, 7)
    with (
        load_engine(files[0], backend=backend) as exact,
        load_engine(files[1], backend=backend) as single,
    ):
        expected, first = exact.run(crops, heatmaps=True), single.run(crops)
        limit = float(np.median(doubt(first.scores)))
        got = FlipEngine(single, limit).run(crops, heatmaps=True)
        everybody = FlipEngine(single, 0).run(crops)
    second = got.second_pass
    assert second is not None
    assert 0 < second.sum() < len(crops)
    np.testing.assert_array_equal(second, doubt(first.scores) >= limit)
    atol = 2e-2 if changes.get("decode") == "dark" else 1e-5
    for own, rows in ((got, second), (everybody, slice(None))):
        np.testing.assert_allclose(own.scores[rows], expected.scores[rows], atol=1e-5)
        np.testing.assert_allclose(
            own.keypoints_heatmap[rows], expected.keypoints_heatmap[rows], atol=atol
        )
    assert got.heatmaps_nkhw is not None
    assert expected.heatmaps_nkhw is not None
    np.testing.assert_allclose(got.heatmaps_nkhw[second], expected.heatmaps_nkhw[second], atol=1e-5)
    np.testing.assert_allclose(got.scores[~second], first.scores[~second], atol=1e-5)
    assert np.abs(got.scores[~second] - expected.scores[~second]).max() > 1e-3


class SidedEngine(Engine):
    """Scores and heatmaps are the grey level of a crop's left column.

    The level ``poison`` gives NaN in the second pass, ``poison_first`` in the first. Crops that are
    brighter on the right are mirror images of the test's own.
    """

    def __init__(
        self, tiny: ModuleType, *, poison: int | None = None, poison_first: int | None = None
    ) -> None:
        info = EngineInfo("sided", "cpu", "sided.onnx", "0" * 64, "fp32")
        super().__init__(tiny.tiny_spec(flip_pairs=((0, 2),)), info, None)
        self.batches: list[tuple[int, bool]] = []
        self._poison, self._poison_first = poison, poison_first

    def _infer(self, crops_nhwc: NDArray[np.uint8], *, heatmaps: bool) -> EngineOutput:
        left = crops_nhwc[:, 0, 0].astype(np.float32)
        mirrored = crops_nhwc[:, 0, 0, 0] < crops_nhwc[:, 0, -1, 0]
        assert mirrored.all() or not mirrored.any()
        self.batches.append((len(crops_nhwc), bool(mirrored[0])))
        if self._poison is not None:
            left[mirrored & (crops_nhwc[:, 0, -1, 0] == self._poison)] = np.nan
        if self._poison_first is not None:
            left[~mirrored & (crops_nhwc[:, 0, 0, 0] == self._poison_first)] = np.nan
        maps = np.zeros((len(left), 3, *self.spec.heatmap_size_hw), np.float32)
        maps[...] = left[:, :, None, None] / 255
        keypoints = np.zeros((*left.shape, 2), np.float32)
        return EngineOutput(keypoints, left / 255, maps if heatmaps else None)


def sided_picture(level: int) -> NDArray[np.uint8]:
    """Bright on the left, black on the right."""
    picture = np.zeros((64, 48, 3), np.uint8)
    picture[:, :24] = level
    return picture


def sided_jobs(levels: list[list[int]]) -> list[ImageJob]:
    """A picture for each list; the levels of its persons stand in its name."""
    jobs = []
    for number, own in enumerate(levels):
        boxes = np.tile([[0.0, 0, 48, 64]], (len(own), 1))
        geometry = CropGeometry.from_boxes_xywh(boxes, SIZE_WH, padding=1.0)
        jobs.append(ImageJob(number, Path(f"{own[0] if own else 0}.jpg"), geometry))
    return jobs


def read(path: Path) -> NDArray[np.uint8]:
    return sided_picture(int(path.stem))


SURE, UNSURE = 250, 127
LIMIT = 0.5


def test_second_passes_fill_batches_and_pictures_stay_in_order(tiny: ModuleType) -> None:
    engine = SidedEngine(tiny)
    levels = [[UNSURE if n % 3 == 0 else SURE] * (n % 4) for n in range(60)]
    results = list(
        poses_of_images(FlipEngine(engine, LIMIT), sided_jobs(levels), batch_size=8, read=read)
    )
    assert [r.job.key for r in results] == list(range(60))
    unsure = [len(own) if own and own[0] == UNSURE else 0 for own in levels]
    assert [r.second_passes for r in results] == unsure
    for result, own in zip(results, levels, strict=True):
        # The average with a black mirror image halves the score.
        expected = np.array([level / 255 / (2 if level == UNSURE else 1) for level in own])
        np.testing.assert_allclose(result.scores[:, 0], expected, atol=1e-6)
    seconds = [size for size, mirrored in engine.batches if mirrored]
    assert sum(seconds) == sum(unsure)
    assert set(seconds[:-1]) == {8}


def test_a_lonely_second_pass_does_not_wait_for_ever(
    tiny: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One person in doubt among many others holds the results up for some batches only."""
    monkeypatch.setattr(stream, "WAIT_BATCHES", 2)
    monkeypatch.setattr(stream, "BATCHES_AHEAD", 1)
    taken = 0

    def jobs() -> Any:
        nonlocal taken
        for job in sided_jobs([[UNSURE], *[[SURE]] * 99]):
            taken += 1
            yield job

    results = poses_of_images(FlipEngine(SidedEngine(tiny), LIMIT), jobs(), batch_size=4, read=read)
    assert next(results).job.key == 0
    assert taken <= 12
    assert [r.job.key for r in results] == list(range(1, 100))


def test_a_second_pass_that_is_not_finite_is_an_error_of_its_picture(tiny: ModuleType) -> None:
    jobs = sided_jobs([[120], [UNSURE] * 2, [130], [SURE]])
    engine = FlipEngine(SidedEngine(tiny, poison=UNSURE), LIMIT)
    results = list(poses_of_images(engine, jobs, batch_size=8, read=read))
    assert [r.error is None for r in results] == [True, False, True, True]
    assert isinstance(results[1].error, NonFiniteOutput)
    assert results[1].error.indices.tolist() == [0, 1]
    crops = np.stack([sided_picture(level) for level in (SURE, 120, UNSURE)])
    with pytest.raises(NonFiniteOutput, match="1 of 3 crops") as caught:
        engine.run(crops)
    assert caught.value.indices.tolist() == [2]


def test_nan_among_heatmaps_that_the_maximum_passed_over_is_an_error(tiny: ModuleType) -> None:
    """``ReduceMax`` of ONNX Runtime gives the largest of the others."""
    engine = FlipEngine(SidedEngine(tiny), LIMIT)
    crops = np.zeros((3, *engine.spec.input_size_hw, 3), np.uint8)
    straight = engine.first(crops).heatmaps_nkhw
    assert straight is not None
    straight[1, 0, 2, 3] = np.nan
    with pytest.raises(NonFiniteOutput) as caught:
        engine.second(crops, straight)
    assert caught.value.indices.tolist() == [1]


def test_a_first_pass_that_is_not_finite_is_numbered_in_its_whole_call(tiny: ModuleType) -> None:
    crops = np.stack([sided_picture(120 if n == 37 else SURE) for n in range(40)])
    engine = SidedEngine(tiny, poison_first=120)
    with pytest.raises(NonFiniteOutput, match="1 of 40 crops") as caught:
        FlipEngine(engine, LIMIT).run(crops)  # the second of two batches
    assert caught.value.indices.tolist() == [37]


def test_batches_of_second_passes_in_a_row(tiny: ModuleType) -> None:
    engine = SidedEngine(tiny)
    crops = np.stack([sided_picture(SURE if n % 2 else UNSURE) for n in range(20)])
    batches = (crops[start : start + 4] for start in range(0, 20, 4))
    output = run_batches(FlipEngine(engine, LIMIT), batches, 20, 4, heatmaps=True)
    assert output.second_pass is not None
    assert output.heatmaps_nkhw is not None
    np.testing.assert_array_equal(output.second_pass, np.arange(20) % 2 == 0)
    np.testing.assert_allclose(output.scores[::2], UNSURE / 510, atol=1e-6)
    np.testing.assert_allclose(output.heatmaps_nkhw[1::2], SURE / 255, atol=1e-6)
    assert [size for size, mirrored in engine.batches if mirrored] == [4, 4, 2]


def test_a_large_call_is_split(tiny: ModuleType) -> None:
    """Heatmaps of all crops of a call would be gigabytes."""
    engine = SidedEngine(tiny)
    crops = np.stack([sided_picture(UNSURE if n % 2 else SURE) for n in range(100)])
    output = FlipEngine(engine, LIMIT).run(crops)
    np.testing.assert_array_equal(output.second_pass, np.arange(100) % 2 == 1)
    assert [size for size, mirrored in engine.batches if not mirrored] == [32, 32, 32, 4]
    assert [size for size, mirrored in engine.batches if mirrored] == [32, 18]


def test_doubt_is_largest_in_the_middle() -> None:
    scores = np.array([[0, 0], [1, 1.2], [0.5, 0.5], [0.5, 1], [-0.3, 0.2]], np.float32)
    np.testing.assert_allclose(doubt(scores), [0, 0, 1, 0.5, 0.32], atol=1e-6)
    assert doubt(np.zeros((0, 3), np.float32)).shape == (0,)


@pytest.fixture
def open_tiny(tiny: ModuleType, tmp_path: Path) -> Callable[..., Engine]:
    def opened(**changes: Any) -> Engine:
        return load_engine(tiny.write_tiny_onnx(tmp_path / "tiny.onnx", **changes))

    return opened


def test_no_flip_is_what_the_engine_contains(open_tiny: Callable[..., Engine]) -> None:
    with open_tiny() as engine:
        assert with_flip(engine, None) is engine
        assert with_flip(engine, "off") is engine
        assert flip_facts(engine) is None
        adaptive = with_flip(engine, "adaptive", threshold=0.25)
        facts = {"mode": "adaptive", "measure": MEASURE, "threshold": 0.25}
        assert (flip_facts(adaptive), adaptive.info) == (facts, engine.info)
        with pytest.raises(InputError, match="has no flip-test in its graph, exact was asked for"):
            with_flip(engine, "exact")
        with pytest.raises(InputError, match="flip_threshold: belongs to the adaptive"):
            with_flip(engine, "off", threshold=0.5)
        for wrong in (-0.1, 1.5, float("nan"), True, "0.3"):
            with pytest.raises(InputError, match=r"flip_threshold: is .* Give a number"):
                with_flip(engine, "adaptive", threshold=wrong)  # type: ignore[arg-type]
        with pytest.raises(InputError, match=r"flip: is 'on'\. Give exact, adaptive, off"):
            with_flip(engine, "on")
    adaptive.close()
    with pytest.raises(InputError, match="engine is closed"):
        engine.run(np.zeros((1, 64, 48, 3), np.uint8))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"flip_test": True}, "has the flip-test in its graph.* Export it with --no-flip"),
        ({"has_heatmaps": False}, "was exported with --no-heatmaps.* Export it again"),
        ({"flip_pairs": None}, "does not know which of its 3 keypoints are left and right"),
    ],
)
def test_engines_that_cannot(
    open_tiny: Callable[..., Engine], changes: dict[str, Any], sentence: str
) -> None:
    with open_tiny(**changes) as engine, pytest.raises(InputError, match=sentence):
        with_flip(engine, "adaptive", threshold=0.5)


def test_threshold_beside_the_engine(open_tiny: Callable[..., Engine], tmp_path: Path) -> None:
    said: list[str] = []
    file = calibration_path(tmp_path / "tiny.onnx")
    with open_tiny() as engine:
        with pytest.raises(
            InputError, match=r"calibrate it: hrnet-deploy calibrate-flip .*tiny.onnx"
        ):
            with_flip(engine, "adaptive")
        good = {
            "kind": KIND,
            "schema": 1,
            "measure": MEASURE,
            "threshold": 0.4,
            "engine": {"sha256": engine.info.sha256, "precision": "fp32"},
        }
        for change, sentence in (
            ({"engine": {"sha256": "1" * 64}}, "was made for another tiny.onnx"),
            ({"engine": None}, "was made for another tiny.onnx"),
            ({"measure": "guess"}, "was made by another version"),
            ({"kind": "x"}, "is no calibration of a flip-test"),
            ({"threshold": None}, "has the threshold None"),
            ({"threshold": True}, "has the threshold True"),
            ({"threshold": 2}, "has the threshold 2"),
        ):
            file.write_text(json.dumps(good | change))
            with pytest.raises(InputError, match=sentence):
                with_flip(engine, "adaptive")
        file.write_text(json.dumps(good))
        adaptive = with_flip(engine, "adaptive", say=said.append)
        assert isinstance(adaptive, FlipEngine)
        assert adaptive.threshold == 0.4
        assert not said
        file.write_text(json.dumps(good | {"engine": {**good["engine"], "precision": "bf16"}}))
        with_flip(engine, "adaptive", say=said.append)
    assert "was calibrated in bf16, the engine runs in fp32" in said[0]


def test_pose_estimator(small: ModuleType, tmp_path: Path) -> None:
    single = small.write_small_onnx(tmp_path / "single.onnx", flip_test=False)
    exact = small.write_small_onnx(tmp_path / "exact.onnx")
    image = np.random.default_rng(0).integers(0, 256, (120, 200, 3), dtype=np.uint8)
    boxes = [[10 * n, 5, 10 * n + 60, 110] for n in range(9)]
    with (
        PoseEstimator(exact, flip="exact") as one,
        PoseEstimator(single, flip="adaptive", flip_threshold=0, batch_size=4) as two,
    ):
        expected, got = one(image, boxes), two(image, boxes)
    np.testing.assert_allclose(got.keypoints_px, expected.keypoints_px, atol=1e-3)
    np.testing.assert_allclose(got.scores, expected.scores, atol=1e-5)
    with pytest.raises(InputError, match="has the flip-test in its graph"):
        PoseEstimator.from_pretrained(exact, flip="adaptive", flip_threshold=0)
