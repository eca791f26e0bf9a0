"""HRNet pose checkpoints to engines that are proven to give the same poses."""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = ["PoseEstimator", "Poses", "__version__", "load_engine"]

if TYPE_CHECKING:
    from hrnet_deploy.engines import load_engine
    from hrnet_deploy.predict.estimator import PoseEstimator
    from hrnet_deploy.runtime.pose import Poses

_HOMES = {
    "PoseEstimator": "hrnet_deploy.predict.estimator",
    "Poses": "hrnet_deploy.runtime.pose",
    "load_engine": "hrnet_deploy.engines",
}


def __getattr__(name: str) -> object:
    """Load the public names on first use, so that ``import hrnet_deploy`` stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module 'hrnet_deploy' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
