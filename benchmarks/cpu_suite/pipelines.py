"""Other ways from pictures to keypoints, written anew as small baselines.

Each takes the same jobs and gives keypoints in picture pixels, (persons, K, 2). A network here is
a function from normalised images (N, 3, h, w) float32 RGB to heatmaps (N, K, h/4, w/4).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.engines import Engine, EngineInfo, EngineOutput
from hrnet_deploy.runtime.crops import crop_into
from hrnet_deploy.runtime.geometry import UNIT_PX
from hrnet_deploy.runtime.jobs import ImageJob
from hrnet_deploy.runtime.stream import poses_of_images
from hrnet_deploy.spec import ModelSpec

OFFICIAL_BATCH = 32
"""``TEST.BATCH_SIZE_PER_GPU`` of the official W32 configuration."""

Floats = NDArray[np.float32]
Network = Callable[[Floats], Floats]
READ_FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION


def ours(engine: Engine, jobs: Sequence[ImageJob], batch: int) -> Floats:
    """The stream of this package: persons share batches, reading overlaps with the engine."""
    results = []
    for result in poses_of_images(engine, as_new(jobs), batch_size=batch):
        if result.error is not None:
            raise result.error
        results.append(result.keypoints_px)
    return np.concatenate(results)


def as_new(jobs: Sequence[ImageJob]) -> list[ImageJob]:
    """The same jobs without the affines that an earlier run left in them."""
    return [ImageJob(job.key, job.path, job.geometry[:]) for job in jobs]


def our_crops(
    images: Sequence[NDArray[np.uint8]], jobs: Sequence[ImageJob], spec: ModelSpec
) -> None:
    """All that this package does to decoded pictures before the engine takes them."""
    for image, job in zip(images, as_new(jobs), strict=True):
        crops = np.empty((len(job.geometry), *spec.input_size_hw, 3), np.uint8)
        crop_into(image, job.geometry, crops)


def normalised_one_by_one(
    images: Sequence[NDArray[np.uint8]], jobs: Sequence[ImageJob], spec: ModelSpec
) -> None:
    """The same for a network that wants normalised images, person by person."""
    for image, job in zip(images, jobs, strict=True):
        for index in range(len(job.geometry)):
            _normalised(image, job, index, spec)


def official(network: Network, jobs: Sequence[ImageJob], spec: ModelSpec) -> Floats:
    """The official test script's steps: a file is read for every box, two passes, numpy between."""
    boxes = [(job, index) for job in jobs for index in range(len(job.geometry))]
    found = []
    for start in range(0, len(boxes), OFFICIAL_BATCH):
        chosen = boxes[start : start + OFFICIAL_BATCH]
        images = np.stack([_official_sample(job, index, spec) for job, index in chosen])
        straight = network(images)
        mirrored = network(np.flip(images, 3).copy())
        turned = np.flip(mirrored, 3).copy()
        for left, right in spec.flip_pairs or ():
            former = turned[:, left].copy()
            turned[:, left] = turned[:, right]
            turned[:, right] = former
        turned[..., 1:] = turned[..., :-1].copy()
        heatmaps = (straight + turned) * np.float32(0.5)
        keypoints = _official_decode(heatmaps)
        for (job, index), own in zip(chosen, keypoints, strict=True):
            found.append(_official_to_picture(own, job, index, spec))
    return np.stack(found)


def one_person_per_call(network: Network, jobs: Sequence[ImageJob], spec: ModelSpec) -> Floats:
    """Pictures are read once; every person is a call of its own, normalised on the host."""
    found = []
    for job in jobs:
        image = cv2.imread(str(job.path), READ_FLAGS)
        for index in range(len(job.geometry)):
            found.append(_two_passes(network, _normalised(image, job, index, spec), spec))
        if len(job.geometry):
            own = np.concatenate(found[-len(job.geometry) :])
            found[-len(job.geometry) :] = [job.geometry.to_image(own, spec.heatmap_size_wh)]
    return np.concatenate(found)


def batched_numpy(
    network: Network, jobs: Sequence[ImageJob], spec: ModelSpec, batch: int
) -> Floats:
    """What one writes around a bare network first: read once, batches, numpy for all the rest."""
    mean, std = (np.array(v, np.float32) * 255 for v in (spec.mean_rgb, spec.std_rgb))
    images: list[Floats] = []
    for job in jobs:
        image = cv2.imread(str(job.path), READ_FLAGS)
        for affine in job.geometry.image_to_input:
            crop = cv2.warpAffine(image, affine, spec.input_size_wh, flags=cv2.INTER_LINEAR)
            images.append(((crop[..., ::-1] - mean) / std).transpose(2, 0, 1).astype(np.float32))
    found = [
        _two_passes(network, np.stack(images[start : start + batch]), spec)
        for start in range(0, len(images), batch)
    ]
    keypoints = np.concatenate(found)
    edges = np.cumsum([len(job.geometry) for job in jobs])[:-1]
    return np.concatenate(
        [
            job.geometry.to_image(own, spec.heatmap_size_wh)
            for job, own in zip(jobs, np.split(keypoints, edges), strict=True)
        ]
    )


def torch_network(module: Any, *, bf16: bool = False) -> Network:
    """A PyTorch module as a network; with ``bf16`` under autocast."""
    import torch

    def run(images: Floats) -> Floats:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            heatmaps: Floats = module(torch.from_numpy(images)).float().numpy()
        return heatmaps

    return run


def filled_up(network: Network, batch: int) -> Network:
    """Always ``batch`` images at a time, the last ones black: a compiler sees one shape only."""

    def run(images: Floats) -> Floats:
        missing = np.zeros((batch - len(images), *images.shape[1:]), np.float32)
        return network(np.concatenate([images, missing]))[: len(images)]

    return run


def onnxruntime_network(path: Path, threads: int) -> Network:
    """A bare ONNX network in ONNX Runtime with its settings as they come, but for the threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images})[0]


def stub_network(spec: ModelSpec) -> Network:
    """Heatmaps that cost nothing, to measure what is around the network."""
    rng = np.random.default_rng(0)
    width, height = spec.heatmap_size_wh
    heatmaps = rng.random((OFFICIAL_BATCH, spec.joints, height, width), np.float32)
    return lambda images: heatmaps[: len(images)]


class StubEngine(Engine):
    """An engine whose answers cost nothing."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec, EngineInfo("stub", "cpu", "stub", "0" * 64, "fp32"), None)

    def _infer(self, crops_nhwc: NDArray[np.uint8], *, heatmaps: bool) -> EngineOutput:
        shape = (len(crops_nhwc), self.spec.joints)
        return EngineOutput(np.ones((*shape, 2), np.float32), np.ones(shape, np.float32))


def write_bare_network(path: Path, checkpoint: Any, size_hw: tuple[int, int]) -> Path:
    """The network alone as ONNX, from normalised RGB images to heatmaps."""
    import onnx
    from onnx import TensorProto, helper

    from hrnet_deploy.export.graph import IR_VERSIONS, OPSET, GraphWriter
    from hrnet_deploy.export.network import HRNetWriter

    graph = GraphWriter()
    weights = checkpoint.arrays
    writer = HRNetWriter(graph, weights, np.float32, path, reverse_input=False)
    name = writer.heatmaps("images", checkpoint.architecture)
    joints = checkpoint.architecture.joints
    shapes = ["N", 3, *size_hw], ["N", joints, size_hw[0] // 4, size_hw[1] // 4]
    images, heatmaps = (
        helper.make_tensor_value_info(label, TensorProto.FLOAT, shape)
        for label, shape in zip(("images", name), shapes, strict=True)
    )
    proto = helper.make_graph(
        graph._nodes, "network", [images], [heatmaps], list(graph._constants.values())
    )
    opsets = [helper.make_opsetid("", OPSET)]
    onnx.save(
        helper.make_model(proto, opset_imports=opsets, ir_version=IR_VERSIONS[OPSET]), str(path)
    )
    return path


def _normalised(image: NDArray[np.uint8], job: ImageJob, index: int, spec: ModelSpec) -> Floats:
    """One person (1, 3, h, w): affine, warp, and the arithmetic in float64 as rtmlib does it."""
    mean, std = (np.array(v) * 255 for v in (spec.mean_rgb, spec.std_rgb))
    affine = job.geometry[index].image_to_input[0]
    crop = cv2.warpAffine(image, affine, spec.input_size_wh, flags=cv2.INTER_LINEAR)
    normal = (crop[..., ::-1] - mean) / std
    return np.ascontiguousarray(normal.transpose(2, 0, 1)[None], np.float32)


def _official_sample(job: ImageJob, index: int, spec: ModelSpec) -> Floats:
    """One sample of the official data set: read, RGB, warp, to a tensor, normalise."""
    image = cv2.cvtColor(cv2.imread(str(job.path), READ_FLAGS), cv2.COLOR_BGR2RGB)
    affine = job.geometry[index].image_to_input[0]
    crop = cv2.warpAffine(image, affine, spec.input_size_wh, flags=cv2.INTER_LINEAR)
    planes = np.ascontiguousarray(crop.transpose(2, 0, 1)).astype(np.float32) / np.float32(255)
    mean, std = (np.array(v, np.float32)[:, None, None] for v in (spec.mean_rgb, spec.std_rgb))
    normal: Floats = (planes - mean) / std
    return normal


def _official_decode(heatmaps: Floats) -> Floats:
    """Arg-max for the batch, then the quarter offset person by person and joint by joint."""
    count, joints, height, width = heatmaps.shape
    flat = heatmaps.reshape(count, joints, -1)
    peak, score = flat.argmax(2), flat.max(2)
    keypoints = np.stack([peak % width, peak // width], 2).astype(np.float32)
    keypoints *= score[..., None] > 0
    for person in range(count):
        for joint in range(joints):
            heatmap = heatmaps[person, joint]
            x, y = (int(np.floor(value + 0.5)) for value in keypoints[person, joint])
            if 1 < x < width - 1 and 1 < y < height - 1:
                slope = [
                    heatmap[y, x + 1] - heatmap[y, x - 1],
                    heatmap[y + 1, x] - heatmap[y - 1, x],
                ]
                keypoints[person, joint] += np.sign(slope) * 0.25
    return keypoints


def _official_to_picture(keypoints: Floats, job: ImageJob, index: int, spec: ModelSpec) -> Floats:
    """An affine from three points, applied to one keypoint after another."""
    width, height = spec.heatmap_size_wh
    centre = job.geometry.center[index]
    half = float(job.geometry.scale[index, 0]) * UNIT_PX / 2
    top = [centre[0], centre[1] - half]
    source = np.array([centre, top, [top[0] - half, top[1]]], np.float32)
    middle = [width * 0.5, height * 0.5]
    above = [middle[0], middle[1] - width * 0.5]
    target = np.array([middle, above, [above[0] - width * 0.5, above[1]]], np.float32)
    affine = cv2.getAffineTransform(target, source)
    moved = np.zeros_like(keypoints)
    for joint, (x, y) in enumerate(keypoints):
        moved[joint] = affine @ np.array([x, y, 1.0])
    return moved


def _two_passes(network: Network, images: Floats, spec: ModelSpec) -> Floats:
    """Flip-test with whole arrays; keypoints (N, K, 2) in heatmap pixels."""
    straight = network(images)
    mirrored = network(np.ascontiguousarray(images[..., ::-1]))[..., ::-1].copy()
    for left, right in spec.flip_pairs or ():
        mirrored[:, [left, right]] = mirrored[:, [right, left]]
    mirrored[..., 1:] = mirrored[..., :-1].copy()
    heatmaps = (straight + mirrored) * np.float32(0.5)
    count, joints, height, width = heatmaps.shape
    padded = np.pad(heatmaps, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    peak = heatmaps.reshape(count, joints, -1).argmax(2)
    x, y = peak % width, peak // width
    n, k = np.ogrid[:count, :joints]
    slope_x = padded[n, k, y + 1, x + 2] - padded[n, k, y + 1, x]
    slope_y = padded[n, k, y + 2, x + 1] - padded[n, k, y, x + 1]
    inside = (x > 1) & (x < width - 1) & (y > 1) & (y < height - 1)
    step = np.stack([np.sign(slope_x), np.sign(slope_y)], 2) * 0.25 * inside[..., None]
    keypoints: Floats = (np.stack([x, y], 2) + step).astype(np.float32)
    keypoints[heatmaps.max(axis=(2, 3)) <= 0] = 0
    return keypoints
