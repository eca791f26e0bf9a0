from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrnet_deploy.runtime.crops import crop_into
from hrnet_deploy.runtime.geometry import CropGeometry

SIZES_WH = {"256x192": (192, 256), "384x288": (288, 384), "256x256": (256, 256)}
NETWORKS = {
    "w32_256x192": (192, 256),
    "w32_384x288": (288, 384),
    "w48_384x288": (288, 384),
    "w32_mpii_256x256": (256, 256),
}
boxes_xywh = st.lists(
    st.tuples(st.floats(-500, 5000), st.floats(-500, 5000), st.floats(1, 4000), st.floats(1, 4000)),
    max_size=5,
)
sizes_wh = st.sampled_from(sorted(SIZES_WH.values()))


@pytest.mark.parametrize("name", SIZES_WH)
def test_geometry_equals_the_official_one(data: Path, name: str) -> None:
    golden = np.load(data / "geometry.npz")
    size_wh = SIZES_WH[name]
    geometry = CropGeometry.from_boxes_xywh(golden[f"{name}/boxes_xywh"], size_wh)
    np.testing.assert_array_equal(geometry.center, golden[f"{name}/center"])
    np.testing.assert_array_equal(geometry.scale, golden[f"{name}/scale"])
    assert geometry.center.dtype == geometry.scale.dtype == np.float32
    heatmap_wh = (size_wh[0] // 4, size_wh[1] // 4)
    for ours, theirs in (
        (geometry.image_to_input, golden[f"{name}/image_to_input"]),
        (geometry.heatmap_to_image(heatmap_wh), golden[f"{name}/heatmap_to_image"]),
    ):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("name", "size_wh"), [("64x48", (48, 64)), ("96x72", (72, 96))])
def test_keypoints_land_where_the_official_ones_do(
    data: Path, name: str, size_wh: tuple[int, int]
) -> None:
    golden = np.load(data / "keypoints_to_image.npz")
    input_wh = (size_wh[0] * 4, size_wh[1] * 4)
    geometry = CropGeometry(golden[f"{name}/center"], golden[f"{name}/scale"], input_wh)
    keypoints_px = geometry.to_image(golden[f"{name}/keypoints_heatmap"], size_wh)
    assert keypoints_px.dtype == np.float32
    np.testing.assert_allclose(keypoints_px, golden[f"{name}/keypoints_image"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_crops_equal_the_official_ones(shared: Path, name: str) -> None:
    import json

    golden = np.load(shared / f"golden/network_{name}.npz")
    persons = json.loads((shared / "golden/about.json").read_text())["persons"]
    folder = shared / "data/coco-train2017-mini/images"
    size_wh = NETWORKS[name]
    crops = np.empty(golden["crops_rgb"].shape, np.uint8)
    for index, person in enumerate(persons[: len(crops)]):
        picture = cv2.imread(
            str(folder / person["file_name"]), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        )
        one = slice(index, index + 1)
        geometry = CropGeometry(golden["center"][one], golden["scale"][one], size_wh)
        crop_into(picture, geometry, crops[one])
    same = (crops[..., ::-1] == golden["crops_rgb"]).mean()
    assert same >= 0.999


@pytest.mark.parametrize("name", SIZES_WH)
def test_a_crop_is_the_one_that_the_official_affine_gives(data: Path, name: str) -> None:
    golden = np.load(data / "geometry.npz")
    picture = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    boxes = golden[f"{name}/boxes_xywh"][:16]
    size_wh = SIZES_WH[name]
    crops = np.empty((len(boxes), size_wh[1], size_wh[0], 3), np.uint8)
    crop_into(picture, CropGeometry.from_boxes_xywh(boxes, size_wh), crops)
    for crop, affine in zip(crops, golden[f"{name}/image_to_input"], strict=False):
        expected = cv2.warpAffine(picture, affine, size_wh, flags=cv2.INTER_LINEAR)
        assert (crop == expected).mean() >= 0.999


@given(boxes_xywh, sizes_wh)
def test_the_way_back_undoes_the_way_there(
    boxes: list[tuple[float, ...]], size_wh: tuple[int, int]
) -> None:
    geometry = CropGeometry.from_boxes_xywh(boxes, size_wh)
    corners = np.array([[0, 0], size_wh, [size_wh[0], 0], [17.25, 3.5]], np.float64)
    back = geometry.heatmap_to_image(size_wh)
    forth = geometry.image_to_input
    in_image = np.einsum("nij,kj->nki", back[:, :, :2], corners) + back[:, None, :, 2]
    returned = np.einsum("nij,nkj->nki", forth[:, :, :2], in_image) + forth[:, None, :, 2]
    assert np.abs(returned - corners).max(initial=0) < 1e-4


@given(boxes_xywh, sizes_wh)
def test_a_box_keeps_its_centre_and_fits_with_the_padding(
    boxes: list[tuple[float, ...]], size_wh: tuple[int, int]
) -> None:
    geometry = CropGeometry.from_boxes_xywh(boxes, size_wh)
    given_xywh = np.array(boxes).reshape(-1, 4)
    middle = given_xywh[:, :2] + given_xywh[:, 2:] / 2
    np.testing.assert_allclose(geometry.center, middle, rtol=1e-6, atol=1e-3)
    sides = geometry.scale * 200.0
    assert (sides >= given_xywh[:, 2:] * 1.25 * (1 - 1e-5)).all()
    np.testing.assert_allclose(sides[:, 0] / sides[:, 1], size_wh[0] / size_wh[1], rtol=1e-5)
    np.testing.assert_allclose(geometry.area, sides.prod(axis=1), rtol=1e-6)


@given(boxes_xywh, sizes_wh)
def test_both_ways_to_write_a_box_agree(
    boxes: list[tuple[float, ...]], size_wh: tuple[int, int]
) -> None:
    given_xywh = np.array(boxes).reshape(-1, 4)
    given_xyxy = np.concatenate([given_xywh[:, :2], given_xywh[:, :2] + given_xywh[:, 2:]], 1)
    one = CropGeometry.from_boxes_xywh(given_xywh, size_wh)
    other = CropGeometry.from_boxes_xyxy(given_xyxy, size_wh)
    np.testing.assert_allclose(one.center, other.center, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(one.scale, other.scale, rtol=1e-4)


@pytest.mark.parametrize(
    ("box", "scale"),
    [
        ([10, 20, 0, 80], [1.25 * 60 / 200, 1.25 * 80 / 200]),
        ([10, 20, 60, 0], [1.25 * 60 / 200, 1.25 * 80 / 200]),
        ([10, 20, 0, 0], [0, 0]),
        ([10, 20, -30, -80], [-1.25 * 30 / 200, -1.25 * 40 / 200]),
        ([-31, 20, 60, 80], [60 / 200, 80 / 200]),  # centre at x = -1: no padding
    ],
)
def test_odd_boxes_are_evaluated_as_officially(box: list[float], scale: list[float]) -> None:
    with np.errstate(all="raise"):
        geometry = CropGeometry.from_boxes_xywh([box], (192, 256))
        affine = geometry.image_to_input
        keypoints_px = geometry.to_image(np.ones((1, 17, 2), np.float32), (48, 64))
    np.testing.assert_allclose(geometry.scale[0], scale, rtol=1e-6)
    assert np.isfinite(affine).all()
    assert np.isfinite(keypoints_px).all()


def test_a_box_without_extent_crops_one_colour_and_maps_back_to_its_place() -> None:
    geometry = CropGeometry.from_boxes_xywh([[10, 20, 0, 0]], (192, 256))
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    crops = np.empty((1, 256, 192, 3), np.uint8)
    crop_into(picture, geometry, crops)
    assert (crops == picture[0, 0]).all()
    keypoints_px = geometry.to_image(np.full((1, 17, 2), 9, np.float32), (48, 64))
    np.testing.assert_array_equal(keypoints_px, np.full((1, 17, 2), [10, 20], np.float32))


def test_no_boxes_give_empty_arrays() -> None:
    geometry = CropGeometry.from_boxes_xywh([], (192, 256))
    assert len(geometry) == 0
    assert geometry.center.shape == geometry.scale.shape == (0, 2)
    assert geometry.image_to_input.shape == geometry.heatmap_to_image((48, 64)).shape == (0, 2, 3)
    assert geometry.area.shape == (0,)
    assert geometry.to_image(np.zeros((0, 17, 2), np.float32), (48, 64)).shape == (0, 17, 2)
    assert len(CropGeometry.concatenate([], (192, 256))) == 0


def test_choosing_and_joining_keep_the_order() -> None:
    boxes = np.arange(40, dtype=np.float64).reshape(10, 4) + 1
    geometry = CropGeometry.from_boxes_xywh(boxes, (192, 256))
    parts = [geometry[:3], geometry[3], geometry[np.array([4, 5])], geometry[6:]]
    joined = CropGeometry.concatenate(parts, (192, 256))
    np.testing.assert_array_equal(joined.center, geometry.center)
    np.testing.assert_array_equal(joined.image_to_input, geometry.image_to_input)
    chosen = geometry[np.arange(10) % 2 == 0]
    np.testing.assert_array_equal(chosen.scale, geometry.scale[::2])
    assert chosen.input_size_wh == (192, 256)
