"""The AP of a trained network on synthetic people, measured by the package's own evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from hrnet_deploy.demo.samples import INPUT_SIZE_WH, STRIDE
from hrnet_deploy.evaluation.metric import Stats
from hrnet_deploy.evaluation.run import evaluate
from hrnet_deploy.export.architecture import HRNetArchitecture
from hrnet_deploy.export.reference import TorchEngine
from hrnet_deploy.keypoints import COCO_17
from hrnet_deploy.spec import ModelSpec


def average_precision(
    architecture: HRNetArchitecture, state_dict: Mapping[str, Tensor], folder: Path
) -> Stats:
    """COCO figures in ground-truth boxes, with flip-test, of a set by ``write_dataset``."""
    width, height = INPUT_SIZE_WH
    spec = ModelSpec(
        architecture=architecture.name,
        input_size_hw=(height, width),
        heatmap_size_hw=(height // STRIDE, width // STRIDE),
        keypoint_set=COCO_17.name,
        keypoint_names=COCO_17.names,
        flip_pairs=COCO_17.flip_pairs,
        sigmas=COCO_17.sigmas,
        skeleton=COCO_17.skeleton,
        flip_test=True,
        shift_heatmap=True,
        source_sha256="",
    )
    engine = TorchEngine(spec, architecture, state_dict, path="training")
    return evaluate(engine, folder / "annotations.json", folder / "images").stats
