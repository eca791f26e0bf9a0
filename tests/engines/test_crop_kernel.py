"""The crop kernel: its arithmetic against OpenCV, and NVRTC for every GPU generation."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from hrnet_deploy.engines.cuda.compile import CROP_KERNEL, CROP_SOURCE, compile_kernel
from hrnet_deploy.engines.cuda.crops import CROP, FRAME, NO_FRAME, inverted
from hrnet_deploy.errors import EnvironmentFault
from hrnet_deploy.runtime.geometry import CropGeometry
from tests.engines.crop_library import CropLibrary, compiler

SIZE_WH = (96, 128)
FRAME_SIZES_HW = [(480, 640), (1, 1), (1, 57), (61, 1), (7, 3), (90, 1900), (33, 32)]

needs_opencv_4 = pytest.mark.skipif(
    not cv2.__version__.startswith("4."), reason="OpenCV 5 interpolates in floating point"
)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> CropLibrary:
    if compiler() is None:
        pytest.skip("needs g++ or clang++")
    return CropLibrary(tmp_path_factory.mktemp("kernel"))


def noise(seed: int, size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*size_hw, 3), dtype=np.uint8)


def opencv_crops(
    frames: list[NDArray[np.uint8]], affines: NDArray[np.float64], of_crop: NDArray[np.integer]
) -> NDArray[np.uint8]:
    return np.stack(
        [
            cv2.warpAffine(frames[frame], affine, SIZE_WH, flags=cv2.INTER_LINEAR)
            for affine, frame in zip(affines, of_crop, strict=True)
        ]
    )


def random_boxes_xywh(
    rng: np.random.Generator, size_hw: tuple[int, int], count: int
) -> NDArray[np.float64]:
    """Inside, across the edge, wholly outside, below a pixel and as large as a city."""
    height, width = size_hw
    sides = 10 ** rng.uniform(-2, 4, (count, 2))
    spread = rng.choice([0.5, 1.5, 6.0], (count, 1))
    centres = (rng.uniform(-1, 1, (count, 2)) * spread + 0.5) * (width, height)
    return np.concatenate([centres - sides / 2, sides], axis=1)


@needs_opencv_4
@pytest.mark.parametrize("seed", range(4))
def test_random_boxes_give_the_crops_of_opencv(library: CropLibrary, seed: int) -> None:
    rng = np.random.default_rng(seed)
    frames = [noise(seed * 100 + i, size) for i, size in enumerate(FRAME_SIZES_HW)]
    per_frame = 110
    boxes = np.concatenate([random_boxes_xywh(rng, size, per_frame) for size in FRAME_SIZES_HW])
    of_crop = np.repeat(np.arange(len(frames)), per_frame)
    affines = CropGeometry.from_boxes_xywh(boxes, SIZE_WH).image_to_input
    crops = library.cut(frames, affines, of_crop, SIZE_WH)
    expected = opencv_crops(frames, affines, of_crop)
    assert expected.any()
    np.testing.assert_array_equal(crops, expected)


@needs_opencv_4
def test_boxes_on_exact_subpixel_steps_give_the_crops_of_opencv(library: CropLibrary) -> None:
    """Rounding ties: edges on multiples of 1/8 px and power-of-two scales."""
    rng = np.random.default_rng(5)
    frame = noise(6, (300, 400))
    sides = 2.0 ** rng.integers(3, 9, (400, 1)) * 0.8 * (0.75, 1.0)
    corners = rng.integers(-800, 3200, (400, 2)) / 8.0
    boxes = np.concatenate([corners, sides], axis=1)
    affines = CropGeometry.from_boxes_xywh(boxes, SIZE_WH).image_to_input
    of_crop = np.zeros(len(boxes), np.intp)
    crops = library.cut([frame], affines, of_crop, SIZE_WH)
    np.testing.assert_array_equal(crops, opencv_crops([frame], affines, of_crop))


@needs_opencv_4
def test_any_affine_gives_the_crop_of_opencv(library: CropLibrary) -> None:
    """Rotation, shear, mirror, and positions far beyond the fixed point's range."""
    rng = np.random.default_rng(7)
    frame = noise(8, (240, 320))
    affines = rng.normal(0, 1, (600, 2, 3)) * 10 ** rng.uniform(-2, 1, (600, 1, 1))
    affines[:, :, 2] *= 100
    affines[500:, :, 2] *= 10 ** rng.uniform(2, 9, (100, 1))
    of_crop = np.zeros(len(affines), np.intp)
    crops = library.cut([frame], affines, of_crop, SIZE_WH)
    np.testing.assert_array_equal(crops, opencv_crops([frame], affines, of_crop))


@needs_opencv_4
@pytest.mark.parametrize(
    "affine",
    [
        np.zeros((2, 3)),
        np.array([[np.nan, 0, 0], [0, 1, 0]]),
        np.array([[1, 0, np.inf], [0, 1, 0]]),
        np.array([[1e-200, 0, 0], [0, 1e-200, 0]]),
        np.array([[1.0, 2, 3], [2, 4, 5]]),
    ],
    ids=["zero", "nan", "infinite", "tiny", "singular"],
)
def test_degenerate_affines_give_the_crop_of_opencv(
    library: CropLibrary, affine: NDArray[np.float64]
) -> None:
    frame = noise(9, (48, 64))
    of_crop = np.zeros(1, np.intp)
    crops = library.cut([frame], affine[None], of_crop, SIZE_WH)
    np.testing.assert_array_equal(crops, opencv_crops([frame], affine[None], of_crop))


def test_a_crop_of_no_frame_is_black(library: CropLibrary) -> None:
    affines = np.tile(np.eye(2, 3), (2, 1, 1))
    crops = library.cut([noise(1, (200, 200))], affines, np.array([NO_FRAME, 0]), SIZE_WH)
    assert not crops[0].any()
    assert crops[1].any()


def test_rows_may_lie_apart(library: CropLibrary) -> None:
    """A view into a wider picture is cut like its copy."""
    view = noise(2, (150, 400))[:, 100:300]
    affines = CropGeometry.from_boxes_xywh([[20, 10, 90, 120]], SIZE_WH).image_to_input
    first = np.zeros(1, np.intp)
    np.testing.assert_array_equal(
        library.cut([view], affines, first, SIZE_WH),
        library.cut([np.ascontiguousarray(view)], affines, first, SIZE_WH),
    )


def test_the_inversion_is_an_inversion() -> None:
    affines = np.random.default_rng(3).normal(0, 1, (50, 2, 3))
    back = inverted(affines)
    points = np.array([[3.0, -2.0, 1.0], [0.0, 0.0, 1.0]]).T
    there = np.concatenate([affines @ points, np.ones((50, 1, 2))], axis=1)
    np.testing.assert_allclose(back @ there, np.tile(points[:2], (50, 1, 1)), atol=1e-9)


def test_records_have_the_layout_of_the_kernel() -> None:
    """The structs of crop.cu on a 64-bit machine."""
    assert (FRAME.itemsize, CROP.itemsize) == (24, 56)
    assert FRAME.fields is not None
    assert CROP.fields is not None
    assert [FRAME.fields[name][1] for name in FRAME.names or ()] == [0, 8, 16, 20]
    assert [CROP.fields[name][1] for name in CROP.names or ()] == [0, 48, 52]


def known_to_nvrtc(capability: tuple[int, int]) -> bool:
    """Whether the NVRTC at hand has heard of such GPUs: one that PyTorch brought may be older."""
    from cuda.bindings import nvrtc

    _, count = nvrtc.nvrtcGetNumSupportedArchs()
    _, known = nvrtc.nvrtcGetSupportedArchs()
    return capability[0] * 10 + capability[1] in list(known)[:count]


@pytest.mark.parametrize(
    "capability",
    [(7, 5), (8, 0), (8, 6), (8, 7), (8, 9), (9, 0), (10, 0), (10, 3), (12, 0)],
    ids=lambda cc: f"sm_{cc[0]}{cc[1]}",
)
def test_nvrtc_compiles_the_kernel(capability: tuple[int, int]) -> None:
    pytest.importorskip("cuda.bindings", reason="needs cuda-bindings")
    try:
        cubin = compile_kernel(CROP_SOURCE, capability)
    except EnvironmentFault as fault:
        if "cannot be found" in str(fault) or not known_to_nvrtc(capability):
            pytest.skip(str(fault))
        raise
    assert cubin.startswith(b"\x7fELF")
    assert CROP_KERNEL.encode() in cubin


def test_an_nvrtc_that_is_too_new_for_the_driver_is_named() -> None:
    pytest.importorskip("cuda.bindings", reason="needs cuda-bindings")
    with pytest.raises(EnvironmentFault) as caught:
        compile_kernel(CROP_SOURCE, (9, 0), (11, 8))
    if "cannot be found" in str(caught.value):
        pytest.skip(str(caught.value))
    assert "the driver is for CUDA 11.8" in str(caught.value)
    assert str(caught.value).endswith(
        "nvidia-cuda-nvrtc; pip install 'cuda-bindings<12' nvidia-cuda-nvrtc-cu11"
    )
    assert compile_kernel(CROP_SOURCE, (9, 0), (99, 0)).startswith(b"\x7fELF")


def test_a_fault_in_the_source_is_said_in_one_line(tmp_path: Path) -> None:
    pytest.importorskip("cuda.bindings", reason="needs cuda-bindings")
    source = tmp_path / "broken.cu"
    source.write_text('extern "C" __global__ void broken() { nothing; }')
    with pytest.raises(EnvironmentFault) as caught:
        compile_kernel(source, (9, 0))
    if "cannot be found" in str(caught.value):
        pytest.skip(str(caught.value))
    assert "NVRTC cannot compile it for sm_90" in str(caught.value)
    assert "nothing" in str(caught.value)
    assert "\n" not in str(caught.value)
