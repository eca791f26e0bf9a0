from __future__ import annotations

import os
from pathlib import Path

import pytest

from hrnet_deploy.engines.cuda.probe import Gpu, probe


@pytest.fixture(scope="session")
def gpu() -> Gpu:
    report = probe()
    if report.problem is not None:
        pytest.skip(f"no NVIDIA GPU: {report.problem}")
    pytest.importorskip("cuda.bindings", reason="needs cuda-bindings")
    return report.gpus[0]


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small-128x96.<fp32|fp16>.onnx: prepared by benchmarks/gpu.py, or made here."""
    if prepared := os.environ.get("HRNET_DEPLOY_GPU_FILES"):
        return Path(prepared)
    pytest.importorskip("onnx", reason="needs onnx, or HRNET_DEPLOY_GPU_FILES")
    pytest.importorskip("torch", reason="needs torch, or HRNET_DEPLOY_GPU_FILES")
    from hrnet_deploy.demo import CHECKPOINT
    from hrnet_deploy.export.run import export_checkpoint
    from hrnet_deploy.export.settings import ExportSettings

    folder = tmp_path_factory.mktemp("files")
    for precision in ("fp32", "fp16"):
        settings = ExportSettings(
            output=folder / f"small-128x96.{precision}.onnx",
            precisions=(precision,),
            recipe=str(CHECKPOINT.with_suffix(".toml")),
        )
        export_checkpoint(CHECKPOINT, settings, say=lambda line: None)
    return folder


@pytest.fixture(scope="session", params=["fp32", "fp16"])
def plan(
    request: pytest.FixtureRequest,
    gpu: Gpu,
    files: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A plan of the small trained network, built and proven here."""
    pytest.importorskip("tensorrt", reason="needs TensorRT")
    from hrnet_deploy.engines.build_settings import BuildSettings
    from hrnet_deploy.export.plan import PlanRequest, make_plan

    onnx = files / f"small-128x96.{request.param}.onnx"
    if not onnx.exists():
        pytest.skip(f"{onnx.name} is not prepared")
    output = tmp_path_factory.mktemp("plan") / f"small.{request.param}.plan"
    settings = BuildSettings(opt_batch=8, max_batch=32, level=2)
    make_plan(PlanRequest(onnx, output, settings), say=lambda line: None)
    return output
