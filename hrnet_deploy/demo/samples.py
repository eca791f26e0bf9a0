"""Training samples of the demo network: augmented crops and their Gaussian heatmaps."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import IterableDataset

from hrnet_deploy.demo import skeleton as sk
from hrnet_deploy.demo.people import Scene, make_scene
from hrnet_deploy.demo.skeleton import FloatArray
from hrnet_deploy.keypoints import COCO_17
from hrnet_deploy.runtime.geometry import UNIT_PX
from hrnet_deploy.spec import BOX_PADDING, IMAGENET_MEAN_RGB, IMAGENET_STD_RGB

INPUT_SIZE_WH = (96, 128)
STRIDE = 4
"""Input pixels per heatmap pixel; fixed by the architecture."""

SIGMA = 1.5
"""Standard deviation of a target in heatmap pixels."""

MEAN_RGB = np.array(IMAGENET_MEAN_RGB, np.float32)
STD_RGB = np.array(IMAGENET_STD_RGB, np.float32)

MIRRORED = np.array(COCO_17.flip_order)
"""For every joint the one that it becomes in a mirrored picture."""

ROTATION_DEG = 12.0
SCALE_RANGE = (0.8, 1.25)
SHIFT_RANGE = 0.05
"""Augmentation: rotation (deviation), size of the box, and its shift in parts of its side."""


def box_to_centre_scale(box_xywh: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Centre (2,) in pixels and padded scale (2,) in units of 200 px, at the input's aspect."""
    x, y, width, height = (float(v) for v in box_xywh)
    aspect = INPUT_SIZE_WH[0] / INPUT_SIZE_WH[1]
    if width > aspect * height:
        height = width / aspect
    else:
        width = height * aspect
    centre = np.array([x + float(box_xywh[2]) * 0.5, y + float(box_xywh[3]) * 0.5])
    return centre, np.array([width, height]) / UNIT_PX * BOX_PADDING


def crop_affine(centre: FloatArray, scale: FloatArray, rotation_deg: float = 0.0) -> FloatArray:
    """Affine (2, 3) from picture pixels to crop pixels; the centre goes to (w/2, h/2)."""
    factor = INPUT_SIZE_WH[0] / (scale[0] * UNIT_PX)
    linear = factor * sk.rotation_matrix(float(np.radians(rotation_deg)))
    offset = np.array(INPUT_SIZE_WH) / 2 - linear @ centre
    return np.concatenate([linear, offset[:, None]], axis=1)


def normalise(crop_bgr: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A BGR crop (h, w, 3) uint8 as normalised RGB (3, h, w) float32."""
    rgb = crop_bgr[:, :, ::-1].astype(np.float32) / np.float32(255)
    return np.ascontiguousarray(((rgb - MEAN_RGB) / STD_RGB).transpose(2, 0, 1))


def target_heatmaps(
    joints_px: FloatArray, labelled: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Heatmaps (17, h/4, w/4) and weights (17,) for joints (17, 2) in crop pixels.

    The peak of 1 lies on the pixel nearest to the joint, as the official decoding expects. A
    labelled joint outside the map has weight 0 and an empty map. Unlike the official training
    joints without a label count, with an empty map: a drawn figure has no label only where the
    joint cannot be seen, and the score of a nose on the back of a head shall be low.
    """
    width, height = INPUT_SIZE_WH[0] // STRIDE, INPUT_SIZE_WH[1] // STRIDE
    cells = np.floor(joints_px / STRIDE + 0.5)
    inside = (cells >= 0).all(axis=1) & (cells < [width, height]).all(axis=1)
    x = np.exp(-((np.arange(width) - cells[:, :1]) ** 2) / (2 * SIGMA**2))
    y = np.exp(-((np.arange(height) - cells[:, 1:]) ** 2) / (2 * SIGMA**2))
    maps = y[:, :, None] * x[:, None, :] * (inside & labelled)[:, None, None]
    return maps.astype(np.float32), (inside | ~labelled).astype(np.float32)


def training_sample(
    scene: Scene, index: int, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], FloatArray, NDArray[np.bool_]]:
    """An augmented crop (h, w, 3) of person ``index``, its joints (17, 2) and their labels."""
    person = scene.persons[index]
    box = np.array(person.box_xywh, np.float64)
    centre, scale = box_to_centre_scale(box)
    centre = centre + rng.uniform(-SHIFT_RANGE, SHIFT_RANGE, size=2) * box[2:]
    scale = scale * rng.uniform(*SCALE_RANGE)
    rotation = float(np.clip(rng.normal(0, ROTATION_DEG), -36, 36)) if rng.random() < 0.6 else 0.0
    affine = crop_affine(centre, scale, rotation)
    crop = cv2.warpAffine(scene.image_bgr, affine, INPUT_SIZE_WH, flags=cv2.INTER_LINEAR)
    joints = person.keypoints_px[:, :2] @ affine[:, :2].T + affine[:, 2]
    labelled = person.keypoints_px[:, 2] > 0
    if rng.random() < 0.5:
        crop = np.ascontiguousarray(crop[:, ::-1])
        joints, labelled = joints[MIRRORED], labelled[MIRRORED]
        joints[:, 0] = INPUT_SIZE_WH[0] - 1 - joints[:, 0]
    return crop.astype(np.uint8, copy=False), joints, labelled


class SampleStream(IterableDataset[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]):
    """Endless samples: crop (3, h, w), heatmaps (17, h/4, w/4), weights (17,), all float32.

    Scenes are drawn one after the other and kept in a ring of ``capacity``; every fresh scene
    is followed by ``repeats`` samples of its persons' number from the whole ring. ``stream``
    tells a resumed run from the first one, so that it sees new scenes.
    """

    def __init__(
        self,
        seed: int,
        stream: int = 0,
        *,
        capacity: int = 5000,
        first: int = 48,
        repeats: int = 8,
    ) -> None:
        self.seed, self.stream = seed, stream
        self.capacity, self.first, self.repeats = capacity, first, repeats

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        cv2.setNumThreads(1)
        rng = np.random.default_rng([self.seed, self.stream, 1])
        ring: list[Scene] = []
        pool: list[tuple[int, int]] = []
        drawn = 0
        while True:
            scene = make_scene(np.random.default_rng([self.seed, self.stream, 2, drawn]))
            slot = drawn % self.capacity
            drawn += 1
            if slot < len(ring):
                ring[slot] = scene
                pool = [entry for entry in pool if entry[0] != slot]
            else:
                ring.append(scene)
            fresh = [(slot, i) for i, p in enumerate(scene.persons) if p.num_keypoints > 0]
            pool += fresh
            if drawn < self.first or not pool:
                continue
            picks = [pool[rng.integers(len(pool))] for _ in range(len(fresh) * (self.repeats - 1))]
            for entry in fresh + picks:
                crop, joints, labelled = training_sample(ring[entry[0]], entry[1], rng)
                maps, weights = target_heatmaps(joints, labelled)
                image = torch.from_numpy(normalise(crop))
                yield image, torch.from_numpy(maps), torch.from_numpy(weights)
