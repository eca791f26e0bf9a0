"""Raw heatmaps of a sample, from which every kind of flip-test and order is tried without a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.evaluation.sample import Sample
from hrnet_deploy.runtime.decode import decode_heatmaps, merge_flipped
from hrnet_deploy.spec import ModelSpec

Floats = NDArray[np.float32]
Network = Callable[[NDArray[np.uint8]], Floats]
"""Takes crops (N, h, w, 3) uint8 BGR and gives raw heatmaps (N, K, h', w') without flip-test."""

SIMILARITY_SIGMA = 0.1
"""One generous sigma for all keypoints: which of them is meant is asked, not how exactly."""

CLEARLY = 0.1
"""Another channel must fit so much better (in mean similarity) than its own to be taken."""


@dataclass(frozen=True)
class Treatment:
    """What is done with raw heatmaps; ``order`` (K,) says which channel a keypoint is read from."""

    flip_test: bool
    shift: bool
    pairs: tuple[tuple[int, int], ...]
    decode: str
    order: tuple[int, ...] | None = None

    @classmethod
    def of(cls, spec: ModelSpec) -> Treatment:
        """What the engine itself does."""
        return cls(spec.flip_test, spec.shift_heatmap, spec.flip_pairs or (), spec.decode)

    def but(self, **changes: object) -> Treatment:
        """The same with something changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True)
class RawHeatmaps:
    """Heatmaps (M, K, h, w) of crops and of their mirror images, neither of them turned back."""

    straight: Floats
    mirrored: Floats

    @classmethod
    def run(cls, network: Network, crops_nhwc: NDArray[np.uint8]) -> RawHeatmaps:
        """Ask the network twice."""
        return cls(network(crops_nhwc), network(np.ascontiguousarray(crops_nhwc[:, :, ::-1])))

    def decoded(self, treatment: Treatment) -> tuple[Floats, Floats]:
        """Keypoints (M, K, 2) in heatmap pixels and scores (M, K)."""
        straight, mirrored = self.straight, self.mirrored
        if treatment.order is not None:
            chosen = list(treatment.order)
            straight, mirrored = straight[:, chosen], mirrored[:, chosen]
        if treatment.flip_test:
            straight = merge_flipped(straight, mirrored, treatment.pairs, shift=treatment.shift)
        return decode_heatmaps(straight, treatment.decode)


def discovered_pairs(raw: RawHeatmaps) -> tuple[tuple[int, int], ...]:
    """Which channels swap in a mirror image, as the network itself shows it."""
    straight, scores = decode_heatmaps(raw.straight, "quarter")
    back, _ = decode_heatmaps(np.ascontiguousarray(raw.mirrored[..., ::-1]), "quarter")
    area = np.full(len(straight), float(np.prod(raw.straight.shape[2:])))
    partner = _assigned(straight, scores > np.median(scores) / 2, back, area, keep=None)
    return tuple((k, other) for k, other in enumerate(partner) if k < other and partner[other] == k)


def discovered_order(sample: Sample, keypoints_px: Floats) -> tuple[int, ...] | None:
    """The channel that fits each annotated keypoint best, None where each fits its own.

    ``keypoints_px`` (M, K, 2) are poses of the sample's boxes; each labelled person is compared
    with the box that fits it best.
    """
    plan = sample.plan
    truth, labelled, found, areas = [], [], [], []
    spans = {image.id: span for image, span in zip(plan.images, plan.spans, strict=True)}
    for entry in plan.annotations.annotations:
        span = spans.get(entry["image_id"])
        if span is None or span.start == span.stop or entry["iscrowd"] or entry["area"] <= 0:
            continue
        points = np.asarray(entry["keypoints"], np.float64).reshape(-1, 3)
        if not points[:, 2].any():
            continue
        truth.append(points[:, :2])
        labelled.append(points[:, 2] > 0)
        found.append(keypoints_px[span.start + _best_box(plan.persons.boxes_xywh[span], entry)])
        areas.append(float(entry["area"]))
    if not truth:
        return None
    order = _assigned(
        np.stack(truth).astype(np.float32),
        np.stack(labelled),
        np.stack(found),
        np.array(areas),
        keep=CLEARLY,
    )
    return None if order == list(range(len(order))) else tuple(order)


def _best_box(boxes_xywh: NDArray[np.float64], entry: dict[str, list[float]]) -> int:
    """The box that overlaps the annotated one most."""
    x, y, width, height = entry["bbox"]
    left = np.maximum(boxes_xywh[:, 0], x)
    top = np.maximum(boxes_xywh[:, 1], y)
    right = np.minimum(boxes_xywh[:, 0] + boxes_xywh[:, 2], x + width)
    bottom = np.minimum(boxes_xywh[:, 1] + boxes_xywh[:, 3], y + height)
    shared = np.maximum(0, right - left) * np.maximum(0, bottom - top)
    union = boxes_xywh[:, 2] * boxes_xywh[:, 3] + width * height - shared
    return int(np.argmax(shared / np.maximum(union, 1e-9)))


def _assigned(
    wanted: Floats,
    counted: NDArray[np.bool_],
    offered: Floats,
    areas: NDArray[np.float64],
    *,
    keep: float | None,
) -> list[int]:
    """For each wanted point (M, K, 2) the offered channel that lies nearest, each taken once.

    ``counted`` (M, K) says which wanted points are known; ``areas`` (M,) in their square units.
    A channel stays where it is unless another one is better by more than ``keep``.
    """
    joints = wanted.shape[1]
    similar = np.zeros((joints, joints))
    spread = 2 * (2 * SIMILARITY_SIGMA) ** 2 * np.maximum(areas, 1e-9)
    for k in range(joints):
        rows = np.flatnonzero(counted[:, k])
        if len(rows):
            squared = ((offered[rows] - wanted[rows, k][:, None]) ** 2).sum(axis=2)
            similar[k] = np.exp(-squared / spread[rows][:, None]).mean(axis=0)
    if keep is not None:
        stays = np.diagonal(similar) >= similar.max(axis=1) - keep
        similar[np.diag_indices(joints)] += np.where(stays, 1.0, 0.0)
    order = list(range(joints))
    free_rows, free_columns = set(range(joints)), set(range(joints))
    for place in np.argsort(-similar, axis=None, kind="stable").tolist():
        k, channel = divmod(place, joints)
        if k in free_rows and channel in free_columns:
            order[k] = channel
            free_rows.remove(k)
            free_columns.remove(channel)
    return order
