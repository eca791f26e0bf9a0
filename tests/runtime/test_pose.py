from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hrnet_deploy import PoseEstimator, load_engine
from hrnet_deploy.engines import Engine, EngineInfo, EngineOutput, NonFiniteOutput
from hrnet_deploy.errors import InputError
from hrnet_deploy.runtime.crops import crop_into
from hrnet_deploy.runtime.geometry import CropGeometry
from hrnet_deploy.runtime.pose import instance_scores


class CountingEngine(Engine):
    """Says where the crop is brightest, and remembers the size of every batch."""

    def __init__(self, tiny: ModuleType) -> None:
        info = EngineInfo("counting", "cpu", "counting.onnx", "0" * 64, "fp32")
        super().__init__(tiny.tiny_spec(), info, None)
        self.batches: list[int] = []

    def _infer(self, crops_nhwc: NDArray[np.uint8], *, heatmaps: bool) -> EngineOutput:
        self.batches.append(len(crops_nhwc))
        scores = crops_nhwc.mean(axis=(1, 2), dtype=np.float32) / 255
        return EngineOutput(np.zeros((*scores.shape, 2), np.float32), scores)


@pytest.fixture
def counting(tiny: ModuleType) -> CountingEngine:
    return CountingEngine(tiny)


def spots(places_xy: list[tuple[int, int]]) -> NDArray[np.uint8]:
    """A black picture (240, 320, 3) with a white spot of 12x12 px around each place."""
    image_bgr = np.zeros((240, 320, 3), np.uint8)
    for x, y in places_xy:
        image_bgr[y - 6 : y + 6, x - 6 : x + 6] = 255
    return image_bgr


def test_three_calls_find_the_spots(tiny_onnx: Path) -> None:
    places = [(60, 70), (200, 120)]
    boxes = [(x - 30, y - 40, x + 30, y + 40) for x, y in places]
    with PoseEstimator(tiny_onnx) as estimator:
        poses = estimator(spots(places), boxes)
    assert len(poses) == 2
    assert poses.keypoints_px.shape == (2, 3, 2)
    assert poses.keypoints_px.dtype == np.float32
    assert poses.keypoint_names == ("blue", "green", "red")
    np.testing.assert_array_equal(poses.boxes_xyxy, np.array(boxes, np.float64))
    off = np.abs(poses.keypoints_px - np.array(places)[:, None])
    assert off.max() <= 8  # the spot spans several heatmap pixels of 6.25 px
    assert (poses.scores > 0.9).all()
    np.testing.assert_allclose(poses.instance_scores, poses.scores.mean(axis=1))


def test_a_path_is_closed_and_a_loaded_engine_left_open(tiny_onnx: Path) -> None:
    with load_engine(tiny_onnx) as engine:
        with PoseEstimator(engine) as estimator:
            estimator(spots([]), [[0, 0, 9, 9]])
        assert len(engine.run(np.zeros((1, 64, 48, 3), np.uint8)).scores) == 1
    with PoseEstimator(str(tiny_onnx)) as estimator:
        pass
    with pytest.raises(InputError, match=r"tiny\.onnx: engine is closed\. Load it again"):
        estimator(spots([]), [[0, 0, 9, 9]])


@pytest.mark.parametrize("boxes", [[], (), np.zeros((0, 4)), np.zeros(0), np.zeros((0, 4), int)])
def test_no_boxes_give_no_poses_and_no_run(counting: CountingEngine, boxes: Any) -> None:
    poses = PoseEstimator(counting)(spots([]), boxes)
    assert poses.keypoints_px.shape == (0, 3, 2)
    assert poses.scores.shape == (0, 3)
    assert poses.boxes_xyxy.shape == (0, 4)
    assert poses.instance_scores.shape == (0,)
    assert counting.batches == []


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 32])
def test_persons_of_many_pictures_share_batches(counting: CountingEngine, batch_size: int) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (50 + i, 60, 3), np.uint8) for i in range(4)]
    boxes = [np.array([[1, 2, 30, 40 + j] for j in range(n)]).reshape(-1, 4) for n in (2, 0, 4, 1)]
    poses = PoseEstimator(counting, batch_size=batch_size).predict_many(images, boxes)
    whole, rest = divmod(7, batch_size)
    assert counting.batches == [batch_size] * whole + [rest] * bool(rest)
    assert [len(p) for p in poses] == [2, 0, 4, 1]
    for image, own_boxes, together in zip(images, boxes, poses, strict=True):
        alone = PoseEstimator(counting)(image, own_boxes)
        np.testing.assert_array_equal(together.scores, alone.scores)
        np.testing.assert_array_equal(together.keypoints_px, alone.keypoints_px)


def test_no_pictures_give_no_results(counting: CountingEngine) -> None:
    assert PoseEstimator(counting).predict_many([], []) == []
    with pytest.raises(InputError, match="boxes_xyxy: has 1 entries for 0 images"):
        PoseEstimator(counting).predict_many([], [[]])


def test_ten_thousand_boxes_are_cut_in_pieces(counting: CountingEngine) -> None:
    import tracemalloc

    boxes = np.tile([[10.0, 10, 60, 90]], (10_000, 1))
    image_bgr = spots([(30, 40)])
    tracemalloc.start()
    poses = PoseEstimator(counting, batch_size=32)(image_bgr, boxes)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(poses) == 10_000
    assert max(counting.batches) == 32
    assert (poses.scores == poses.scores[0]).all()
    assert peak < 8e6  # all crops at once would be 92 MB


@pytest.mark.parametrize(
    ("image", "problem", "fix"),
    [
        (np.zeros((5, 5, 3), np.float32), r"got \(5, 5, 3\) float32", "grey levels from 0 to 255"),
        (np.zeros((5, 5, 3), np.int64), r"got \(5, 5, 3\) int64", "uint8"),
        (np.zeros((5, 5), np.uint8), r"got \(5, 5\) uint8", "COLOR_GRAY2BGR"),
        (np.zeros((3, 5, 5), np.uint8), r"got \(3, 5, 5\) uint8", "channels last"),
        (np.zeros((5, 5, 4), np.uint8), r"got \(5, 5, 4\) uint8", "alpha"),
        (np.zeros((2, 5, 5, 3), np.uint8), r"got \(2, 5, 5, 3\) uint8", "one picture"),
        (np.zeros((0, 5, 3), np.uint8), "is empty", "pixels"),
        (None, "got NoneType", "read_image"),
        ([[1, 2]], "got list", "read_image"),
        ("picture.jpg", "got str", "read_image"),
    ],
)
def test_what_is_no_picture_is_named(
    counting: CountingEngine, image: Any, problem: str, fix: str
) -> None:
    with pytest.raises(ValueError, match=rf"^image_bgr: .*{problem}.*\. .*{fix}") as caught:
        PoseEstimator(counting)(image, [[0, 0, 5, 5]])
    assert isinstance(caught.value, InputError)
    assert counting.batches == []


def test_any_memory_layout_of_a_picture_works(counting: CountingEngine) -> None:
    image_bgr = np.random.default_rng(0).integers(0, 256, (60, 50, 3), np.uint8)
    box = [[5, 5, 40, 50]]
    expected = PoseEstimator(counting)(image_bgr, box).scores
    wide = np.zeros((60, 100, 6), np.uint8)
    wide[:, ::2, ::2] = image_bgr
    frozen = image_bgr.copy()
    frozen.flags.writeable = False
    reversed_twice = image_bgr[:, :, ::-1].copy()[:, :, ::-1]
    layouts = [wide[:, ::2, ::2], frozen, reversed_twice, np.asfortranarray(image_bgr)]
    for layout in layouts:
        np.testing.assert_array_equal(PoseEstimator(counting)(layout, box).scores, expected)


def test_numbers_of_any_kind_are_boxes(counting: CountingEngine) -> None:
    image_bgr = spots([(40, 50)])
    numbers = [[10, 10, 60, 90]]
    expected = PoseEstimator(counting)(image_bgr, np.array(numbers, np.float64)).scores
    kinds = (np.int32, np.int64, np.uint16, np.float16, np.float32)
    for boxes in [numbers, (tuple(numbers[0]),), *(np.array(numbers, kind) for kind in kinds)]:
        np.testing.assert_array_equal(PoseEstimator(counting)(image_bgr, boxes).scores, expected)


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([1, 2, 3, 4], r"expected \(N, 4\), got \(4,\)\. Put a single box into a list"),
        (np.zeros((2, 5)), r"expected \(N, 4\), got \(2, 5\)\. Give one row x1, y1, x2, y2"),
        (np.zeros((2, 3)), r"expected \(N, 4\), got \(2, 3\)"),
        ([[]], r"expected \(N, 4\), got \(1, 0\)"),
        (np.zeros((1, 2, 4)), r"expected \(N, 4\), got \(1, 2, 4\)"),
        (7, r"expected \(N, 4\), got \(\)"),
        ([[1, 2, 3], [1]], "expected an .N, 4. array of numbers, got list"),
        ([["a", "b", "c", "d"]], "expected an .N, 4. array of numbers, got list"),
        (None, "expected an .N, 4. array of numbers, got NoneType"),
        (np.zeros((1, 4), bool), r"array of numbers, got \(1, 4\) bool"),
        (np.zeros((1, 4), complex), r"array of numbers, got \(1, 4\) complex128"),
        ([[0, 0, 9, 9], [1, float("nan"), 5, 5]], "box 1 has y1 = nan. Give finite"),
        ([[0, 0, float("inf"), 9]], "box 0 has x2 = inf"),
        ([[0, 0, 9, 1e300]], r"box 0 has y2 = 1e\+300"),
        ([[0, 0, 9, 9]] * 3 + [[50, 50, 40, 80]], r"box 3 has x2 <= x1; boxes are x1,y1,x2,y2 \(g"),
        ([[50, 50, 80, 40]], r"box 0 has y2 <= y1; boxes are x1,y1,x2,y2 \(got xywh\?\)"),
        ([[5, 5, 5, 9]], "box 0 has x2 <= x1"),
        ([[0.1, 0.1, 0.9, 0.8]], r"box 0 is only 0\.8 px wide\. .*fractions"),
        ([[0, 0, 5, 0.5]], r"box 0 is only 0\.5 px high"),
    ],
)
def test_what_is_no_box_is_named(counting: CountingEngine, boxes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^boxes_xyxy: .*{message}") as caught:
        PoseEstimator(counting)(spots([]), boxes)
    assert isinstance(caught.value, InputError)
    assert "\n" not in str(caught.value)
    assert counting.batches == []


@pytest.mark.parametrize(
    "box",
    [
        (-1e9, -1e9, -1e9 + 5e3, -1e9 + 5e3),
        (1e9, 1e9, 1e9 + 50, 1e9 + 80),
        (1e12 - 1e6, 0, 1e12, 50),
        (400, 20, 480, 90),
        (20, -200, 60, -90),
    ],
)
def test_a_box_outside_gives_a_black_crop(tiny_onnx: Path, box: tuple[float, ...]) -> None:
    white = np.full((240, 320, 3), 255, np.uint8)
    with PoseEstimator(tiny_onnx) as estimator:
        poses = estimator(white, [box])
    assert (poses.scores == 0).all()
    assert (poses.instance_scores == 0).all()
    assert np.isfinite(poses.keypoints_px).all()


def test_a_box_partly_outside_sees_black_there(tiny_onnx: Path) -> None:
    white = np.full((240, 320, 3), 255, np.uint8)
    geometry = CropGeometry.from_boxes_xyxy([[-40, 50, 40, 150]], (48, 64))
    crops = np.empty((1, 64, 48, 3), np.uint8)
    crop_into(white, geometry, crops)
    assert (crops[0, :, :23] == 0).all()
    assert (crops[0, :, 25:] == 255).all()


def test_a_batch_out_of_memory_order_is_refused() -> None:
    geometry = CropGeometry.from_boxes_xyxy([[0, 0, 9, 9]], (48, 64))
    with pytest.raises(InputError, match="crops_nhwc: is not contiguous"):
        crop_into(spots([]), geometry, np.empty((1, 64, 96, 3), np.uint8)[:, :, ::2])


def test_a_person_scores_the_mean_of_the_keypoints_above_the_threshold() -> None:
    scores = np.array([[0.9, 0.1, 0.5], [0.2, 0.1, 0.0], [0.3, 0.3, 0.3]], np.float32)
    np.testing.assert_allclose(instance_scores(scores), [0.7, 0, 0.3], rtol=1e-6)
    np.testing.assert_allclose(instance_scores(scores, [0.5, 1, 0]), [0.35, 0, 0], rtol=1e-6)
    assert instance_scores(np.zeros((0, 3), np.float32)).shape == (0,)


@pytest.mark.parametrize("batch_size", [0, -1, 2.5, True, None, "8"])
def test_a_batch_size_that_is_none_is_named(counting: CountingEngine, batch_size: Any) -> None:
    with pytest.raises(InputError, match=r"^batch_size: is .*\. Give a whole number from 1 on"):
        PoseEstimator(counting, batch_size=batch_size)


def test_an_engine_that_is_none_is_named() -> None:
    with pytest.raises(InputError, match="engine: expected a path or a loaded engine, got int"):
        PoseEstimator(3)  # type: ignore[arg-type]


def test_nan_from_the_engine_is_said(make_tiny_onnx: Any) -> None:
    white = np.full((240, 320, 3), 255, np.uint8)
    with (
        PoseEstimator(make_tiny_onnx(poison=True)) as estimator,
        pytest.raises(NonFiniteOutput, match="engine produced NaN or infinity for 1 of 1 crops"),
    ):
        estimator(white, [[50, 50, 90, 120]])
