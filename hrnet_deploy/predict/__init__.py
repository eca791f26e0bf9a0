"""From pictures, videos and cameras to poses: sources, boxes, the pipeline and its outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["Boxes", "Frame", "PersonDetector", "PoseEstimator"]

if TYPE_CHECKING:
    from hrnet_deploy.predict.detector.detector import PersonDetector
    from hrnet_deploy.predict.estimator import PoseEstimator
    from hrnet_deploy.predict.frames import Boxes, Frame

_HOMES = {
    "Boxes": "hrnet_deploy.predict.frames",
    "Frame": "hrnet_deploy.predict.frames",
    "PersonDetector": "hrnet_deploy.predict.detector.detector",
    "PoseEstimator": "hrnet_deploy.predict.estimator",
}


def __getattr__(name: str) -> object:
    """Load the public names on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'hrnet_deploy.predict' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
