"""The annotated pictures and videos that a job asks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.predict.draw_outputs import DrawnOutput
from hrnet_deploy.predict.frames import Predicted
from hrnet_deploy.predict.job import PredictJob
from hrnet_deploy.predict.overlay import beside, drawn, heated
from hrnet_deploy.predict.video import DEFAULT_FPS, VideoInfo
from hrnet_deploy.spec import ModelSpec


def drawn_outputs(
    job: PredictJob, spec: ModelSpec, infos: Mapping[str, VideoInfo]
) -> Iterator[DrawnOutput]:
    """One output for the poses and one for the heatmaps, where they are wanted."""

    def poses(predicted: Predicted) -> NDArray[np.uint8]:
        picture = drawn(predicted, spec, threshold=job.keypoint_threshold, boxes=job.draw_boxes)
        if job.side_by_side and predicted.frame.image_bgr is not None:
            return beside(predicted.frame.image_bgr, picture)
        return picture

    def fps_of(source: str) -> float:
        info = infos.get(source)
        fps = DEFAULT_FPS if info is None else info.fps
        return max(fps / job.choice.every, 1.0)

    def heat(predicted: Predicted) -> NDArray[np.uint8]:
        return heated(predicted, spec)

    for target, draw in ((job.draw, poses), (job.heatmaps, heat)):
        if target is not None:
            yield DrawnOutput(target, draw, fps_of=fps_of, force=job.may_replace_drawings)
