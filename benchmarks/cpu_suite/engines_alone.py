"""Engines alone on the same crops, and what the machine can do at all, in the same rounds."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import onnxruntime

from cpu_suite import Context, Steps, layers
from cpu_suite.contenders import our_engines
from cpu_suite.prepare import Files
from hrnet_deploy.benchmark.ceiling import Ceiling, copy_ceiling, gemm_ceilings
from hrnet_deploy.benchmark.cost import graph_convolutions
from hrnet_deploy.benchmark.measure import Task, Timings, interleaved
from hrnet_deploy.export.crops import seeded_crops
from hrnet_deploy.spec import INPUT_NAME, KEYPOINTS_NAME, SCORES_NAME

AS_IT_COMES = "ONNX Runtime fp32 as it comes"
ROUNDS = 2
"""Times the rounds of the way from files."""


def run(context: Context) -> dict[str, Any]:
    """Seconds of a batch by engine, those of the ceilings, and the cost of a person."""
    files = Files.of(context)
    crops = seeded_crops(files.spec.input_size_hw, context.batch)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = context.threads
    session = onnxruntime.InferenceSession(
        str(files.fp32), options, providers=["CPUExecutionProvider"]
    )
    names = [KEYPOINTS_NAME, SCORES_NAME]
    tasks = [Task(AS_IT_COMES, lambda: session.run(names, {INPUT_NAME: crops}))]
    precisions = {AS_IT_COMES: "fp32"}
    with ExitStack() as stack:
        for engine in our_engines(context, files, stack):
            name = f"{engine.info.backend} {engine.info.precision}"
            precisions[name] = engine.info.precision
            tasks.append(Task(name, lambda engine=engine: engine.run(crops)))
        kinds = set(precisions.values())
        ceilings = {**gemm_ceilings(kinds, context.threads), "copy": copy_ceiling()}
        convolutions = graph_convolutions(files.fp32.read_bytes())
        alone = layers.chains(convolutions, kinds, context.threads)
        timings = interleaved(
            [*tasks, *(one.task for one in ceilings.values()), *(one.task for one in alone)],
            rounds=ROUNDS * context.rounds,
            warmup=1,
            progress=Steps("engines alone"),
        )
    return {
        "batch": context.batch,
        "precisions": precisions,
        "gflop": sum(one.flop for one in convolutions) / 1e9,
        "seconds": {task.name: timings.seconds[task.name] for task in tasks},
        "ceilings": {name: _ceiling(one, timings) for name, one in ceilings.items()},
        "layers": [_layers(chain, timings) for chain in alone],
    }


def _ceiling(ceiling: Ceiling, timings: Timings) -> dict[str, Any]:
    return {
        "library": ceiling.library,
        "amount": ceiling.amount,
        "seconds": timings.seconds[ceiling.task.name],
    }


def _layers(chain: layers.Chain, timings: Timings) -> dict[str, Any]:
    return {
        "precision": chain.precision,
        "layers": chain.layers,
        "flop": chain.flop,
        "amount": chain.amount,
        "seconds": timings.seconds[chain.task.name],
    }
