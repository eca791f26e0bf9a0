"""Who is who from frame to frame: poses are matched by their object keypoint similarity.

As in ByteTrack (Zhang et al., ECCV 2022) certain persons are matched first, uncertain ones only
to tracks that are left, and never begin a track. Similarity is OKS of the poses, as in the flow
trackers of Xiao et al. (ECCV 2018), against where a track would be had it gone on moving.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.predict.frames import Predicted
from hrnet_deploy.runtime.pose import KEYPOINT_THRESHOLD

CERTAIN = 0.4
"""Score of a person from which on it is matched first and may begin a track."""
MIN_SIMILARITY = 0.3
"""Below it two poses are not the same person."""
KEPT_S = 1.0
"""A person may be out of sight for so long and come back under the same number."""
MIN_SHARED = 3
"""With fewer keypoints seen in both, boxes are compared instead."""
DEFAULT_SIGMA = 0.079
"""For keypoint sets without published sigmas: COCO's shoulder, about the middle of all."""
_EPSILON = 1e-9


@dataclass
class _Track:
    """A person that was seen: pose and box of the last time, and how it moved (px a second)."""

    id: int
    keypoints_px: NDArray[np.float64]
    scores: NDArray[np.float64]
    box_xyxy: NDArray[np.float64]
    time_s: float
    velocity: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))

    def moved(self, time_s: float) -> NDArray[np.float64]:
        """How far it would have gone by then (2,)."""
        return self.velocity * (time_s - self.time_s)


class OksTracker:
    """Numbers for the persons of one video: call it with one result after the other.

    ``sigmas`` (K,) are those of the keypoint set, None where there are none.
    """

    def __init__(self, sigmas: tuple[float, ...] | None, joints: int) -> None:
        self._sigmas = np.array(sigmas if sigmas is not None else [DEFAULT_SIGMA] * joints)
        self._tracks: list[_Track] = []
        self._next_id = 1

    def __call__(self, predicted: Predicted) -> NDArray[np.int64]:
        """The numbers (N,) of the persons, from 1 on; -1 for one too uncertain to have any."""
        poses, time_s = predicted.poses, predicted.frame.time_s or 0.0
        self._tracks = [t for t in self._tracks if time_s - t.time_s <= KEPT_S]
        ids = np.full(len(poses), -1, np.int64)
        free = list(self._tracks)
        certain = poses.instance_scores >= CERTAIN
        for group in (np.flatnonzero(certain), np.flatnonzero(~certain)):
            self._match(predicted, group, free, ids, time_s)
        for person in np.flatnonzero(certain & (ids < 0)):
            self._tracks.append(self._new(predicted, int(person), time_s))
            ids[person] = self._tracks[-1].id
        return ids

    def _match(
        self,
        predicted: Predicted,
        persons: NDArray[np.intp],
        free: list[_Track],
        ids: NDArray[np.int64],
        time_s: float,
    ) -> None:
        """Give tracks to persons, the most similar pair first; used tracks leave ``free``."""
        pairs = [
            (self._similarity(predicted, int(person), track, time_s), int(person), track)
            for person in persons
            for track in free
        ]
        for similarity, person, track in sorted(pairs, key=lambda pair: -pair[0]):
            if similarity < MIN_SIMILARITY:
                break
            if ids[person] < 0 and track in free:
                ids[person] = track.id
                free.remove(track)
                self._update(track, predicted, person, time_s)

    def _similarity(self, predicted: Predicted, person: int, track: _Track, time_s: float) -> float:
        poses, shift = predicted.poses, track.moved(time_s)
        box = poses.boxes_xyxy[person]
        seen = (poses.scores[person] > KEYPOINT_THRESHOLD) & (track.scores > KEYPOINT_THRESHOLD)
        if seen.sum() < MIN_SHARED:
            return _iou(box, track.box_xyxy + np.tile(shift, 2))
        squared = ((poses.keypoints_px[person] - track.keypoints_px - shift) ** 2).sum(axis=1)
        area = (_area(box) + _area(track.box_xyxy)) / 2
        # As in cocoapi's evaluation: variances are (2 sigma) squared.
        exponent = squared / (2 * (2 * self._sigmas) ** 2 * (area + _EPSILON))
        return float(np.exp(-exponent[seen]).mean())

    def _new(self, predicted: Predicted, person: int, time_s: float) -> _Track:
        track = _Track(self._next_id, *_pose(predicted, person), time_s)
        self._next_id += 1
        return track

    def _update(self, track: _Track, predicted: Predicted, person: int, time_s: float) -> None:
        keypoints_px, scores, box = _pose(predicted, person)
        elapsed = time_s - track.time_s
        if elapsed > 0:
            step = (box[:2] + box[2:] - track.box_xyxy[:2] - track.box_xyxy[2:]) / 2
            track.velocity = 0.5 * track.velocity + 0.5 * step / elapsed
        track.keypoints_px, track.scores, track.box_xyxy = keypoints_px, scores, box
        track.time_s = time_s


def _pose(
    predicted: Predicted, person: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    poses = predicted.poses
    return (
        poses.keypoints_px[person].astype(np.float64),
        poses.scores[person].astype(np.float64),
        poses.boxes_xyxy[person],
    )


def _area(box_xyxy: NDArray[np.float64]) -> float:
    return float((box_xyxy[2] - box_xyxy[0]) * (box_xyxy[3] - box_xyxy[1]))


def _iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = float(np.prod(np.maximum(sides, 0)))
    return shared / (_area(a) + _area(b) - shared + _EPSILON)
