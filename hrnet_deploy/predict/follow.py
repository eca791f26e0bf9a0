"""Track numbers and smoothing along each video."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from hrnet_deploy.predict.frames import Predicted
from hrnet_deploy.predict.smooth import OneEuroSmoother
from hrnet_deploy.predict.track import OksTracker
from hrnet_deploy.spec import ModelSpec


def followed(
    results: Iterable[Predicted], spec: ModelSpec, *, track: bool, smooth: bool
) -> Iterator[Predicted]:
    """The same results with track numbers and smoothed keypoints, begun anew for every video.

    Numbers that came with the boxes are kept; pictures and errors pass as they are.
    """
    place, follower = -1, _Follower(spec, track=track, smooth=smooth)
    for predicted in results:
        if predicted.frame.place != place:
            place = predicted.frame.place
            follower = _Follower(spec, track=track, smooth=smooth)
        yield follower(predicted)


class _Follower:
    """What is remembered of one video."""

    def __init__(self, spec: ModelSpec, *, track: bool, smooth: bool) -> None:
        self._tracker = OksTracker(spec.sigmas, spec.joints) if track or smooth else None
        self._smoother = OneEuroSmoother() if smooth else None

    def __call__(self, predicted: Predicted) -> Predicted:
        if predicted.frame.number is None or predicted.error is not None:
            return predicted
        if self._tracker is not None and predicted.ids is None:
            predicted = replace(predicted, ids=self._tracker(predicted))
        return predicted if self._smoother is None else self._smoother(predicted)
