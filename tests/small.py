"""A small seeded HRNet in the official key layout: random but well-conditioned weights."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from hrnet_deploy.engines.onnxruntime import check_rounding
from hrnet_deploy.errors import EnvironmentFault
from hrnet_deploy.export.architecture import HRNetArchitecture, StageArchitecture
from hrnet_deploy.export.hrnet import HRNet
from hrnet_deploy.export.model import build_hrnet
from hrnet_deploy.keypoints import keypoint_set
from hrnet_deploy.spec import ModelSpec

SIZE_HW = (96, 64)


def architecture(joints: int = 17) -> HRNetArchitecture:
    stages = tuple(
        StageArchitecture(1, tuple(8 << i for i in range(branches)), (1,) * branches)
        for branches in (2, 3, 4)
    )
    return HRNetArchitecture(
        joints=joints, stages=stages, stem=(16, 16), layer1_planes=16, layer1_blocks=1
    )


def skip_where_rounded_wrongly(precision: str, float_precision: str) -> None:
    """Skip a test that runs such a file in an ONNX Runtime that is too old for it."""
    try:
        check_rounding("the file", precision, float_precision)
    except EnvironmentFault as fault:
        pytest.skip(str(fault))


def weights(joints: int = 17, seed: int = 0) -> dict[str, NDArray[Any]]:
    """The state dict (official names) as numpy arrays, drawn per tensor from its name."""
    state = HRNet(architecture(joints)).state_dict()
    return {name: _draw(name, tuple(value.shape), seed) for name, value in state.items()}


def _draw(name: str, shape: tuple[int, ...], seed: int) -> NDArray[Any]:
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    if name.endswith("num_batches_tracked"):
        return np.array(1000, np.int64)
    if name.endswith("running_var"):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    if len(shape) == 4:
        spread = np.sqrt(2.0 / np.prod(shape[1:]))
        return rng.normal(0, spread, shape).astype(np.float32)
    if name.endswith("weight"):
        return rng.uniform(0.4, 0.8, shape).astype(np.float32)
    return rng.normal(0, 0.05, shape).astype(np.float32)


def write_small_checkpoint(path: Path, joints: int = 17, seed: int = 0) -> Path:
    state = {n: torch.from_numpy(np.asarray(v)) for n, v in weights(joints, seed).items()}
    torch.save(state, path)
    return path


def small_spec(**changes: Any) -> ModelSpec:
    points = keypoint_set("coco_17")
    values: dict[str, Any] = {
        "architecture": architecture().name,
        "input_size_hw": SIZE_HW,
        "heatmap_size_hw": (SIZE_HW[0] // 4, SIZE_HW[1] // 4),
        "keypoint_set": points.name,
        "keypoint_names": points.names,
        "flip_pairs": points.flip_pairs,
        "sigmas": points.sigmas,
        "skeleton": points.skeleton,
        "flip_test": True,
        "shift_heatmap": True,
        "source_sha256": "0" * 64,
    }
    return ModelSpec(**(values | changes))


def small_model(**changes: Any) -> onnx.ModelProto:
    return build_hrnet(small_spec(**changes), architecture(), weights(), source="small.pth")


def write_small_onnx(path: Path, **changes: Any) -> Path:
    path.write_bytes(small_model(**changes).SerializeToString())
    return path
