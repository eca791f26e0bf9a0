"""Everything that goes from the same pictures to keypoints, by name."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from cpu_suite import Context, pipelines, say
from cpu_suite.prepare import Files
from hrnet_deploy.engines import Engine, load_engine
from hrnet_deploy.errors import DeployError
from hrnet_deploy.runtime.flip import FlipEngine, doubt
from hrnet_deploy.runtime.jobs import ImageJob
from hrnet_deploy.runtime.stream import poses_of_images

OFFICIAL = "official pipeline (PyTorch eager, two passes)"
SAME_PX = 0.5
"""Keypoints closer than this to the official pipeline's, in the picture, are called the same."""

SECOND_PASSES = 0.3
"""The share of persons that the adaptive flip-test looks at twice."""

Choice = tuple[Path, str, str]
"""File, backend and precision."""

Way = Callable[[], pipelines.Floats]


def all_ways(context: Context, jobs: Sequence[ImageJob], stack: ExitStack) -> dict[str, Way]:
    """Every way by its name, the official pipeline first; ``stack`` closes the engines."""
    files = Files.of(context)
    ways = {**_pytorch(context, files, jobs), **_onnxruntime(context, files, jobs)}
    for engine in our_engines(context, files, stack):
        ways[_label(engine)] = lambda engine=engine: pipelines.ours(engine, jobs, context.batch)
    for engine in _adaptive_engines(context, files, jobs, stack):
        share = f"adaptive flip-test, {SECOND_PASSES:.0%} second passes"
        label = f"{_label(engine)}, {share}"
        ways[label] = lambda engine=engine: pipelines.ours(engine, jobs, context.batch)
    words = context.only
    return {
        n: w for n, w in ways.items() if n == OFFICIAL or not words or any(x in n for x in words)
    }


def our_engines(context: Context, files: Files, stack: ExitStack) -> list[Engine]:
    """The ways in which this machine runs our files, loaded."""
    choices = [(files.fp32, "onnxruntime", "exact"), *_with_openvino(files.fp32, files.int8)]
    return [_load(choice, context, stack) for choice in choices]


def _adaptive_engines(
    context: Context, files: Files, jobs: Sequence[ImageJob], stack: ExitStack
) -> list[Engine]:
    """The same without flip-test in the graph and an adaptive one around it.

    A threshold says something about trained weights only. Here it is set so that ``SECOND_PASSES``
    of these persons get a second pass.
    """
    found: list[Engine] = []
    for choice in _with_openvino(files.single, files.int8_single):
        engine = _load(choice, context, stack)
        scores = np.concatenate(
            [result.scores for result in poses_of_images(engine, jobs, batch_size=context.batch)]
        )
        found.append(FlipEngine(engine, float(np.quantile(doubt(scores), 1 - SECOND_PASSES))))
    return found


def _with_openvino(fp32: Path, int8: Path) -> list[Choice]:
    """What OpenVINO runs on this processor; nothing where it is not installed."""
    try:
        import openvino
    except ImportError:
        say("openvino is not installed: only ONNX Runtime runs our files")
        return []
    from hrnet_deploy.engines.openvino_model import native_precisions

    half = [(fp32, "openvino", "bf16")] if "bf16" in native_precisions(openvino) else []
    return [(fp32, "openvino", "exact"), *half, (int8, "openvino", "exact")]


def _load(choice: Choice, context: Context, stack: ExitStack) -> Engine:
    path, backend, precision = choice
    return stack.enter_context(
        load_engine(path, backend=backend, precision=precision, threads=context.threads)
    )


def _label(engine: Engine) -> str:
    names = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
    return f"hrnet-deploy, {names[engine.info.backend]} {engine.info.precision}"


def agreement(ways: dict[str, Way]) -> dict[str, float]:
    """Share of keypoints that are those of the official pipeline, by way; runs each once.

    A way that does not run at all (a compiler that is missing) is named and taken out.
    """
    found: dict[str, pipelines.Floats] = {}
    for name in list(ways):
        say(f"first run of: {name}")
        try:
            found[name] = ways[name]()
        except Exception as error:  # compilers fail in ways of their own
            if name == OFFICIAL or isinstance(error, DeployError):
                raise
            say(f"left out: {name}: {(str(error) or repr(error)).splitlines()[0]}")
            del ways[name]
    return {
        name: float((np.linalg.norm(own - found[OFFICIAL], axis=2) <= SAME_PX).mean())
        for name, own in found.items()
    }


def _pytorch(context: Context, files: Files, jobs: Sequence[ImageJob]) -> dict[str, Way]:
    import torch

    from hrnet_deploy.export.checkpoint import read_checkpoint
    from hrnet_deploy.export.hrnet import HRNet

    # The second section that compiles finds what the first one built.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(context.work / "torch-compile"))
    torch.set_num_threads(context.threads)
    loaded = read_checkpoint(files.checkpoint)
    module = HRNet(loaded.architecture)
    module.load_state_dict(dict(loaded.state_dict))
    module.eval()
    spec, batch = files.spec, context.batch
    eager = pipelines.torch_network(module)
    ways: dict[str, Way] = {
        OFFICIAL: lambda: pipelines.official(eager, jobs, spec),
        "PyTorch eager, batches": lambda: pipelines.batched_numpy(eager, jobs, spec, batch),
    }
    if not context.torch_compile:
        return ways
    compiled: Any = torch.compile(module, dynamic=False)
    for name, bf16 in (("fp32", False), ("bf16", True)):
        network = pipelines.filled_up(pipelines.torch_network(compiled, bf16=bf16), batch)
        ways[f"torch.compile {name}, batches"] = lambda network=network: pipelines.batched_numpy(
            network, jobs, spec, batch
        )
    return ways


def _onnxruntime(context: Context, files: Files, jobs: Sequence[ImageJob]) -> dict[str, Way]:
    network = pipelines.onnxruntime_network(Path(files.bare), context.threads)
    spec, batch = files.spec, context.batch
    return {
        "rtmlib's way (ONNX Runtime, a person per call)": lambda: pipelines.one_person_per_call(
            network, jobs, spec
        ),
        "plain ONNX Runtime, batches": lambda: pipelines.batched_numpy(network, jobs, spec, batch),
    }
