"""The options that more than one method of ``PoseEstimator`` takes, for type checkers."""

from __future__ import annotations

from typing import TypedDict

from hrnet_deploy.talk import Say


class EstimatorOptions(TypedDict, total=False):
    """Those of ``PoseEstimator``, which ``from_pretrained`` hands on."""

    device: str | None
    threads: int | None
    backend: str | None
    precision: str
    batch_size: int
    flip: str | None
    flip_threshold: float | None


class VideoOptions(TypedDict, total=False):
    """Those of ``PoseEstimator.video``, which ``astream`` hands on."""

    every: int
    start_s: float
    duration_s: float | None
    track: bool
    smooth: bool
    note: Say
