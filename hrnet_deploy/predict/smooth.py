"""One-Euro smoothing: still points are held still, fast ones hardly lag.

Casiez, Roussel and Vogel, CHI 2012: a low-pass filter of first order whose cutoff rises with the
speed, ``MIN_CUTOFF_HZ + BETA * speed``. Speeds are in sizes of the person (the root of the box's
area) a second, so that near and far persons are smoothed alike.

The lag of such a filter is ``1 / (2 pi cutoff)``: 80 ms at rest, 40 ms at one body size a second,
20 ms at three.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.predict.frames import Predicted
from hrnet_deploy.runtime.pose import KEYPOINT_THRESHOLD

MIN_CUTOFF_HZ = 2.0
BETA = 2.0
"""Hertz for each body size a second."""
SPEED_CUTOFF_HZ = 1.0
"""Cutoff for the speed itself, as in the paper."""
FORGOTTEN_S = 1.0
"""After such a gap a track is smoothed anew."""


def lag_s(speed: float = 0.0) -> float:
    """By how much the smoothed motion trails at ``speed`` (body sizes a second), in seconds."""
    return 1 / (2 * math.pi * (MIN_CUTOFF_HZ + BETA * abs(speed)))


@dataclass
class _State:
    """Places as measured and smoothed (K, 2) px, speeds (K, 2) px/s, what was seen (K,)."""

    raw: NDArray[np.float64]
    places: NDArray[np.float64]
    speeds: NDArray[np.float64]
    seen: NDArray[np.bool_]
    time_s: float


class OneEuroSmoother:
    """Smooths the keypoints of one video along its track numbers."""

    def __init__(self) -> None:
        self._states: dict[int, _State] = {}

    def __call__(self, predicted: Predicted) -> Predicted:
        """The same result with smoothed keypoints; persons without a number stay as they are.

        A keypoint that is not seen (score up to 0.2) is left alone and starts anew afterwards.
        """
        if predicted.ids is None:
            return predicted
        time_s = predicted.frame.time_s or 0.0
        known = self._states.items()
        self._states = {i: s for i, s in known if time_s - s.time_s <= FORGOTTEN_S}
        keypoints_px = predicted.poses.keypoints_px.copy()
        for person, track in enumerate(predicted.ids.tolist()):
            if track >= 0:
                keypoints_px[person] = self._smoothed(predicted, person, track, time_s)
        return replace(predicted, poses=replace(predicted.poses, keypoints_px=keypoints_px))

    def _smoothed(
        self, predicted: Predicted, person: int, track: int, time_s: float
    ) -> NDArray[np.float64]:
        raw: NDArray[np.float64] = predicted.poses.keypoints_px[person].astype(np.float64)
        seen = predicted.poses.scores[person] > KEYPOINT_THRESHOLD
        state = self._states.get(track)
        if state is None or time_s <= state.time_s:
            self._states[track] = _State(raw, raw, np.zeros_like(raw), seen, time_s)
            return raw
        elapsed = time_s - state.time_s
        box = predicted.poses.boxes_xyxy[person]
        size = math.sqrt(max(1.0, float((box[2] - box[0]) * (box[3] - box[1]))))
        going_on = (seen & state.seen)[:, None]
        # From measured to measured place. The paper's listing takes the smoothed one before,
        # which trails behind and would make every motion look several times as fast.
        measured = (raw - state.raw) / elapsed
        weight = _weight(np.full((1, 1), SPEED_CUTOFF_HZ), elapsed)
        speeds = np.where(going_on, state.speeds + weight * (measured - state.speeds), 0.0)
        pace = np.linalg.norm(speeds, axis=1, keepdims=True) / size
        weights = _weight(MIN_CUTOFF_HZ + BETA * pace, elapsed)
        places: NDArray[np.float64] = np.where(
            going_on, state.places + weights * (raw - state.places), raw
        )
        self._states[track] = _State(raw, places, speeds, seen, time_s)
        return places


def _weight(cutoff_hz: NDArray[np.float64], elapsed_s: float) -> NDArray[np.float64]:
    """The share of the new value (paper, equation 5)."""
    rate: NDArray[np.float64] = 2 * math.pi * cutoff_hz * elapsed_s
    share: NDArray[np.float64] = rate / (rate + 1)
    return share
