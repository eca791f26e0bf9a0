"""What only a GPU can show: the kernel's crops, a plan's poses, its graphs and its memory.

``python benchmarks/gpu.py`` runs them with everything else that needs a GPU.
"""

from __future__ import annotations

import dataclasses
import resource
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from hrnet_deploy.engines import Engine, EngineOutput, load_engine
from hrnet_deploy.engines.cuda.device import Device
from hrnet_deploy.engines.cuda.frames import CropCutter, FrameUpload
from hrnet_deploy.engines.cuda.probe import Gpu
from hrnet_deploy.engines.manifest import manifest_path, read_manifest, write_manifest
from hrnet_deploy.engines.tensorrt import TensorRTEngine, load_plan_engine
from hrnet_deploy.errors import EnvironmentFault, InputError
from hrnet_deploy.runtime.geometry import CropGeometry

pytestmark = pytest.mark.gpu

MEBIBYTE = 1 << 20
SIZE_WH = (96, 128)
FRAME_SIZES_HW = [(480, 640), (1, 1), (1, 57), (61, 1), (7, 3), (1080, 1920)]
NEAR_PX = 0.01
"""Input pixels within which two keypoints are the same."""


def noise(seed: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def seeded(count: int) -> NDArray[np.uint8]:
    from hrnet_deploy.export.crops import seeded_crops

    return seeded_crops((128, 96), count)


@pytest.mark.parametrize("seed", range(4))
def test_the_kernel_cuts_the_crops_of_opencv(gpu: Gpu, seed: int) -> None:
    rng = np.random.default_rng(seed)
    frames = [noise(i, (*size, 3)) for i, size in enumerate(FRAME_SIZES_HW)]
    count = 240
    of_crop = rng.integers(0, len(frames), count)
    sides = 10 ** rng.uniform(-1, 3.5, (count, 2))
    corners = rng.uniform(-500, 2000, (count, 2))
    geometry = CropGeometry.from_boxes_xywh(np.concatenate([corners, sides], 1), SIZE_WH)
    affines = geometry.image_to_input
    with closing(Device(0)) as device, device:
        stream = device.stream()
        records = FrameUpload(device).send(frames, affines, of_crop, stream)
        result = device.pinned((count, *SIZE_WH[::-1], 3), np.uint8)
        target = device.allocate(result.array.nbytes)
        CropCutter(device).cut(*records, count, target, SIZE_WH, stream)
        device.download(result.address, target, result.array.nbytes, stream)
        device.drain(stream)
        crops = result.array.copy()
    expected = [
        cv2.warpAffine(frames[frame], affine, SIZE_WH, flags=cv2.INTER_LINEAR)
        for frame, affine in zip(of_crop, affines, strict=True)
    ]
    np.testing.assert_array_equal(crops, np.stack(expected))


@pytest.fixture
def engine(plan: Path) -> Iterator[TensorRTEngine]:
    with closing(load_plan_engine(plan)) as loaded:
        yield loaded


@pytest.fixture(scope="session")
def reference(plan: Path, files: Path) -> Iterator[Engine]:
    precision = read_manifest(plan).precision
    with load_engine(files / f"small-128x96.{precision}.onnx", device="cpu") as loaded:
        yield loaded


def identical(output: EngineOutput, expected: EngineOutput) -> float:
    """The share of keypoints in the same place."""
    moved = np.abs(output.keypoints_heatmap - expected.keypoints_heatmap).max(axis=2) * 4
    return float((moved <= NEAR_PX).mean())


def test_every_batch_size_gives_the_same_poses(engine: Engine, reference: Engine) -> None:
    crops = seeded(70)
    expected = reference.run(crops)
    for count in (1, 2, 3, 5, 8, 13, 31, 32, 33, 70):
        for _ in range(3):  # plain, then from the graphs of both slots
            output = engine.run(crops[:count])
            part = EngineOutput(expected.keypoints_heatmap[:count], expected.scores[:count])
            assert identical(output, part) >= 0.99
            np.testing.assert_allclose(output.scores, part.scores, atol=1e-2)


def test_graphs_change_nothing(plan: Path, engine: Engine) -> None:
    crops = seeded(40)
    engine.run(crops)
    with closing(load_plan_engine(plan, graphs=False)) as plain:
        from_graph, enqueued = engine.run(crops), plain.run(crops)
    np.testing.assert_array_equal(from_graph.keypoints_heatmap, enqueued.keypoints_heatmap)
    np.testing.assert_array_equal(from_graph.scores, enqueued.scores)


def test_frames_give_the_poses_of_their_crops(engine: TensorRTEngine) -> None:
    rng = np.random.default_rng(3)
    frames = [noise(i, (240, 320, 3)) for i in range(5)]
    boxes = np.concatenate([rng.uniform(0, 200, (20, 2)), rng.uniform(30, 150, (20, 2))], 1)
    affines = CropGeometry.from_boxes_xywh(boxes, SIZE_WH).image_to_input
    of_crop = rng.integers(0, 5, 20)
    crops = np.stack(
        [
            cv2.warpAffine(frames[frame], affine, SIZE_WH, flags=cv2.INTER_LINEAR)
            for frame, affine in zip(of_crop, affines, strict=True)
        ]
    )
    expected = engine.run(crops)
    pending = [engine.submit_frames(frames, affines, of_crop) for _ in range(5)]
    for batch in pending:
        np.testing.assert_array_equal(batch.result().keypoints_heatmap, expected.keypoints_heatmap)


def test_arrays_of_torch_are_taken_from_the_gpu(engine: TensorRTEngine) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this torch has no CUDA")
    crops = seeded(9)
    expected = engine.run(crops)
    output = engine.submit(torch.from_numpy(crops).cuda()).result()
    np.testing.assert_array_equal(output.keypoints_heatmap, expected.keypoints_heatmap)
    frame = noise(1, (200, 300, 3))
    affines = CropGeometry.from_boxes_xywh([[20, 10, 90, 120]], SIZE_WH).image_to_input
    first = np.zeros(1, np.intp)
    on_gpu = engine.submit_frames([torch.from_numpy(frame).cuda()], affines, first).result()
    on_host = engine.submit_frames([frame], affines, first).result()
    np.testing.assert_array_equal(on_gpu.keypoints_heatmap, on_host.keypoints_heatmap)


def test_memory_returns_when_engines_close(plan: Path) -> None:
    with closing(Device(0)) as device:

        def free() -> int:
            with device:
                return device.free_memory()[0]

        for _ in range(3):  # CUDA loads kernels when they run for the first time, and keeps them
            with closing(load_plan_engine(plan)) as engine:
                engine.run(seeded(4))
        before = free()
        for _ in range(20):
            with closing(load_plan_engine(plan)) as engine:
                engine.run(seeded(4))
        assert before - free() < 20 * MEBIBYTE


def test_hundreds_of_batches_need_no_more_memory(engine: Engine) -> None:
    crops = seeded(8)
    for _ in range(50):
        engine.run(crops)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(300):
        engine.run(crops)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024


def test_two_engines_in_two_threads(plan: Path, engine: Engine) -> None:
    crops = seeded(24)
    expected = engine.run(crops)
    outputs: list[EngineOutput] = []

    def work() -> None:
        with closing(load_plan_engine(plan)) as own:
            for _ in range(20):
                outputs.append(own.run(crops))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(outputs) == 40
    for output in outputs:
        np.testing.assert_array_equal(output.keypoints_heatmap, expected.keypoints_heatmap)


def test_a_plan_of_another_gpu_or_with_a_changed_byte_is_refused(
    plan: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.plan"
    copy.write_bytes(plan.read_bytes())
    manifest_path(copy).write_bytes(manifest_path(plan).read_bytes())
    manifest = read_manifest(copy)
    write_manifest(copy, dataclasses.replace(manifest, compute_capability=(5, 3)))
    with pytest.raises(EnvironmentFault, match=r"built for .* \(sm 5\.3\)"):
        load_plan_engine(copy)
    write_manifest(copy, manifest)
    content = bytearray(copy.read_bytes())
    content[len(content) // 2] ^= 1
    copy.write_bytes(content)
    with pytest.raises(InputError, match="does not match its manifest"):
        load_plan_engine(copy)


def test_a_gpu_out_of_range_lists_those_there_are(plan: Path, gpu: Gpu) -> None:
    with pytest.raises(EnvironmentFault, match=f"there is no GPU 99; there are: 0 {gpu.name}"):
        load_plan_engine(plan, device="cuda:99")
