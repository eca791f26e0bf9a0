"""Boxes in pictures to poses: the one way of the command and of the Python interface."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.engines import Engine, EngineOutput
from hrnet_deploy.predict.frames import Boxes
from hrnet_deploy.runtime.geometry import CropGeometry
from hrnet_deploy.runtime.persons import start_persons
from hrnet_deploy.runtime.pose import Poses, instance_scores
from hrnet_deploy.spec import ModelSpec


@dataclass(frozen=True, eq=False)
class Found:
    """The poses of one picture.

    ``heatmaps_nkhw`` (N, K, h, w) float32 only where they were asked for; ``second_passes`` counts
    the persons that an adaptive flip-test looked at twice.
    """

    poses: Poses
    heatmaps_nkhw: NDArray[np.float32] | None
    second_passes: int


def start_poses(
    engine: Engine,
    images_bgr: Sequence[NDArray[np.uint8] | None],
    persons: Sequence[Boxes],
    *,
    batch_size: int,
    heatmaps: bool = False,
) -> Callable[[], list[Found]]:
    """Start looking for the poses of the persons in each picture; the call returned gives them.

    An engine that cuts crops itself works meanwhile, any other then. Persons of several pictures
    (H, W, 3) uint8 BGR share batches of ``batch_size``; a picture without persons may be None. The
    call raises NonFiniteOutput where there is NaN for anybody.
    """
    spec = engine.spec
    geometries = [
        CropGeometry.from_boxes_xyxy(own.xyxy, spec.input_size_wh, padding=spec.box_padding)
        for own in persons
    ]
    outputs_of = start_persons(
        engine, images_bgr, geometries, batch_size=batch_size, heatmaps=heatmaps
    )

    def poses() -> list[Found]:
        outputs = outputs_of()
        return [_found(spec, *each) for each in zip(persons, geometries, outputs, strict=True)]

    return poses


def _found(spec: ModelSpec, boxes: Boxes, geometry: CropGeometry, output: EngineOutput) -> Found:
    poses = Poses(
        geometry.to_image(output.keypoints_heatmap, spec.heatmap_size_wh),
        output.scores,
        boxes.xyxy,
        instance_scores(output.scores, boxes.scores),
        spec.keypoint_names,
        spec.skeleton,
    )
    twice = 0 if output.second_pass is None else int(output.second_pass.sum())
    return Found(poses, output.heatmaps_nkhw, twice)
