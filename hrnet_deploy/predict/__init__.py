"""From pictures, videos and cameras to poses: sources, boxes, the pipeline and its outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["PersonDetector", "poses_of_video", "stream"]

if TYPE_CHECKING:
    from hrnet_deploy.predict.api import poses_of_video, stream
    from hrnet_deploy.predict.detector.detector import PersonDetector

_HOMES = {
    "PersonDetector": "hrnet_deploy.predict.detector.detector",
    "poses_of_video": "hrnet_deploy.predict.api",
    "stream": "hrnet_deploy.predict.api",
}


def __getattr__(name: str) -> object:
    """Load the public names on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'hrnet_deploy.predict' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
