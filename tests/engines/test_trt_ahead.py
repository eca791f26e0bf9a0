"""Our builder's code against a real TensorRT: that for RTX, which needs no GPU."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

trt = pytest.importorskip("tensorrt_rtx_bindings", reason="needs TensorRT for RTX (extra rtx)")
# That of RTX keeps no timings; the calls do nothing.
pytestmark = pytest.mark.filterwarnings("ignore:.*Timing cache operations:DeprecationWarning")

from hrnet_deploy.engines.build import _Build, build_plan  # noqa: E402
from hrnet_deploy.engines.build_settings import BuildSettings  # noqa: E402
from hrnet_deploy.engines.onnx_file import read_onnx_file, spec_of  # noqa: E402
from hrnet_deploy.engines.trt_ahead import (  # noqa: E402
    AheadOfTime,
    build_ahead,
    known_targets,
    load_ahead,
)
from hrnet_deploy.errors import EnvironmentFault, InputError  # noqa: E402
from hrnet_deploy.spec import ModelSpec  # noqa: E402

SUBJECT = "w.onnx"


@pytest.fixture
def tensorrt() -> AheadOfTime:
    return load_ahead("SM89", subject="the test")


@pytest.fixture
def file(tiny_onnx: Path) -> tuple[bytes, ModelSpec]:
    content = tiny_onnx.read_bytes()
    return content, spec_of(read_onnx_file(content, tiny_onnx), tiny_onnx)


def configured(tensorrt: AheadOfTime, spec: ModelSpec, **settings: Any) -> Any:
    """A real builder's configuration after our code went over it."""
    build = _Build(tensorrt, spec, BuildSettings(**settings), SUBJECT)
    builder = trt.Builder(tensorrt.log)
    config = builder.create_builder_config()
    tensorrt.aim(config)
    build._configure(config)
    build._add_profile(builder, config)
    return config


def test_the_settings_arrive(tensorrt: AheadOfTime, file: tuple[bytes, ModelSpec]) -> None:
    config = configured(tensorrt, file[1], workspace_mb=64, level=2)
    assert config.builder_optimization_level == 2
    assert config.profiling_verbosity == trt.ProfilingVerbosity.DETAILED
    assert config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) == 64 << 20
    assert config.num_optimization_profiles == 1
    assert config.get_compute_capability(0) == trt.ComputeCapability.SM89
    sources = (trt.TacticSource.EDGE_MASK_CONVOLUTIONS, trt.TacticSource.JIT_CONVOLUTIONS)
    assert config.get_tactic_sources() == sum(1 << int(source) for source in sources)


def test_tf32_is_off_unless_asked_for(tensorrt: AheadOfTime, file: tuple[bytes, ModelSpec]) -> None:
    assert trt.Builder(tensorrt.log).create_builder_config().get_flag(trt.BuilderFlag.TF32)
    assert not configured(tensorrt, file[1]).get_flag(trt.BuilderFlag.TF32)
    assert configured(tensorrt, file[1], tf32=True).get_flag(trt.BuilderFlag.TF32)


def test_version_compatible_plans_carry_no_code(
    tensorrt: AheadOfTime, file: tuple[bytes, ModelSpec]
) -> None:
    config = configured(tensorrt, file[1], version_compatible=True)
    assert config.get_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    assert config.get_flag(trt.BuilderFlag.EXCLUDE_LEAN_RUNTIME)


def test_types_are_strong_where_they_can_be(
    tensorrt: AheadOfTime, file: tuple[bytes, ModelSpec]
) -> None:
    build = _Build(tensorrt, file[1], BuildSettings(), SUBJECT)
    network = trt.Builder(tensorrt.log).create_network(build._network_flags())
    assert network.get_flag(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


@pytest.mark.parametrize("target", ["SM80", "sm89", "SM120"])
def test_a_build_for_a_gpu_that_is_not_there(file: tuple[bytes, ModelSpec], target: str) -> None:
    report = build_ahead(
        load_ahead(target, subject="the test"), *file, BuildSettings(), subject=SUBJECT
    )
    assert report.target == target.upper()
    assert report.version == trt.__version__
    assert report.plan_bytes > 1000
    assert report.warnings == ()
    read = {tensor.name: tensor.dtype for kernel in report.kernels for tensor in kernel.inputs}
    written = {tensor.name for kernel in report.kernels for tensor in kernel.outputs}
    assert read["crops"] == "UInt8"
    assert {"keypoints", "scores", "heatmaps"} <= written


def test_targets(tensorrt: AheadOfTime) -> None:
    assert {"SM75", "SM86", "SM89", "SM120"} <= set(known_targets(tensorrt.module))
    with pytest.raises(InputError, match=r"asks for 'SM90', TensorRT for RTX .* builds for SM75"):
        load_ahead("SM90", subject="--tensorrt")


def test_progress_and_what_the_builder_learnt(
    tensorrt: AheadOfTime, file: tuple[bytes, ModelSpec]
) -> None:
    phases: list[str] = []
    plan = build_plan(tensorrt, *file, BuildSettings(), subject=SUBJECT, progress=phases.append)
    assert plan.strongly_typed
    assert all(re.fullmatch(r".+: \d+ steps", phase) for phase in phases)
    assert phases
    again = build_plan(
        tensorrt, *file, BuildSettings(), subject=SUBJECT, timing_cache=plan.timing_cache
    )
    assert len(again.timing_cache) == len(plan.timing_cache) > 0


def test_a_foreign_timing_cache_does_no_harm(
    tensorrt: AheadOfTime, file: tuple[bytes, ModelSpec]
) -> None:
    built = build_plan(tensorrt, *file, BuildSettings(), subject=SUBJECT, timing_cache=b"rubbish")
    assert built.content


@pytest.mark.parametrize("content", [b"rubbish", b"\x08\x08"])
def test_what_the_parser_refuses(
    tensorrt: AheadOfTime, file: tuple[bytes, ModelSpec], content: bytes
) -> None:
    with pytest.raises((InputError, EnvironmentFault)) as caught:
        build_plan(tensorrt, content, file[1], BuildSettings(), subject=SUBJECT)
    assert str(caught.value).startswith(f"{SUBJECT}: TensorRT ")


def test_an_unknown_operator_is_named(tensorrt: AheadOfTime, file: tuple[bytes, ModelSpec]) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(file[0])
    next(node for node in model.graph.node if node.op_type == "Mul").op_type = "Frobnicate"
    with pytest.raises(InputError, match=r"cannot read it \(In node \d+ .*Frobnicate"):
        build_plan(tensorrt, model.SerializeToString(), file[1], BuildSettings(), subject=SUBJECT)


def test_one_log_for_all(tensorrt: AheadOfTime, file: tuple[bytes, ModelSpec]) -> None:
    """TensorRT ignores a second logger while anything of the first one lives, with a warning."""
    messages: list[tuple[str, str]] = []
    alive = trt.Builder(tensorrt.log)
    other = load_ahead("SM80", subject="the test")
    with other.heard_by(lambda severity, message: messages.append((severity, message))):
        build_plan(other, *file, BuildSettings(), subject=SUBJECT)
    assert alive is not None
    assert "INFO" in {severity for severity, _ in messages}
    assert [message for severity, message in messages if severity == "WARNING"] == []
    count = len(messages)
    build_plan(other, *file, BuildSettings(), subject=SUBJECT)
    assert len(messages) == count


BUILD = """
import sys
import threading
from pathlib import Path
from hrnet_deploy.engines.build import build_plan
from hrnet_deploy.engines.build_settings import BuildSettings
from hrnet_deploy.engines.onnx_file import read_onnx_file, spec_of
from hrnet_deploy.engines.trt_ahead import load_ahead
from hrnet_deploy.errors import InterruptedRun

path = Path(sys.argv[1])
spec = spec_of(read_onnx_file(path.read_bytes(), path), path)
tensorrt = load_ahead("SM89", subject="the test")
tell = lambda line: print(line, flush=True)
try:
    while True:
        build_plan(
            tensorrt, path.read_bytes(), spec, BuildSettings(), subject="w.onnx", progress=tell
        )
except InterruptedRun as stop:
    print(stop, threading.active_count(), flush=True)
"""


UNSTOPPABLE = """
import sys, time
from pathlib import Path
from hrnet_deploy.engines import build
from hrnet_deploy.engines.build_settings import BuildSettings
from hrnet_deploy.engines.onnx_file import read_onnx_file, spec_of
from hrnet_deploy.engines.trt_ahead import load_ahead
from hrnet_deploy.errors import InterruptedRun

interruptible = build.interruptible
build._monitor = lambda *_: None
build.interruptible = lambda *a, stoppable: interruptible(*a, stoppable=False)
path = Path(sys.argv[1])
spec = spec_of(read_onnx_file(path.read_bytes(), path), path)
tensorrt = load_ahead("SM89", subject="the test")

def slow(severity, message):
    print("at work", flush=True)
    time.sleep(0.1)

try:
    with tensorrt.heard_by(slow):
        build.build_plan(tensorrt, path.read_bytes(), spec, BuildSettings(), subject="w.onnx")
except InterruptedRun as stop:
    print(stop, flush=True)
"""


def test_a_builder_that_cannot_be_stopped_does_not_crash_the_end(tiny_onnx: Path) -> None:
    """As that of 8.6, which has no progress monitor."""
    process = subprocess.Popen(
        [sys.executable, "-c", UNSTOPPABLE, str(tiny_onnx)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert "at work" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "w.onnx: the build was interrupted" in stdout


def test_ctrl_c_stops_the_builder_before_the_process_ends(tiny_onnx: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", BUILD, str(tiny_onnx)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert "steps" in process.stdout.readline()
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    last = stdout.splitlines()[-1]
    assert last.startswith("w.onnx: the build was interrupted")
    assert last.endswith(" 1")
