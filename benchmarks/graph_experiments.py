"""Other ways to write the same network, each measured against the graph that `export` writes.

Every variation runs in the same rounds as the reference, in turn, so that what drifts on the
machine meets all alike; a ratio above 1 means that the variation is faster. Times are those of the
processor, so that other work on the machine does not count as such. Seeded weights: times do not
depend on them. With TensorRT for RTX installed its kernels are counted as well.

    python benchmarks/graph_experiments.py -o benchmarks/results/graph_experiments.json
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from graph_variations import REFERENCE, seeded_spec, variations

from hrnet_deploy.benchmark.machine import machine_facts
from hrnet_deploy.benchmark.measure import Task, interleaved
from hrnet_deploy.benchmark.statistics import paired_ratio, summarise
from hrnet_deploy.engines import load_engine
from hrnet_deploy.errors import DeployError
from hrnet_deploy.export.architecture import published_architecture
from hrnet_deploy.export.crops import seeded_crops
from hrnet_deploy.export.graph import GraphWriter
from hrnet_deploy.export.hrnet import HRNet
from hrnet_deploy.export.pipeline import decode, normalise, with_mirrored
from hrnet_deploy.files import write_json
from hrnet_deploy.spec import HEATMAPS_NAME, INPUT_NAME, KEYPOINTS_NAME, SCORES_NAME, ModelSpec

ENGINES = {
    "onnxruntime fp32": {"backend": "onnxruntime"},
    "openvino fp32": {"backend": "openvino"},
    "openvino bf16": {"backend": "openvino", "precision": "bf16"},
}
TARGETS = ("SM80", "SM89")
WARMUP = 2


def parts(spec: ModelSpec) -> dict[str, bytes]:
    """What stands before and behind the network, alone; the decoding reads random heatmaps."""
    before = GraphWriter()
    with_mirrored(before, normalise(before, INPUT_NAME, spec, reverse=False), spec)
    behind = GraphWriter()
    decode(behind, HEATMAPS_NAME, spec)
    make, kinds = onnx.helper.make_tensor_value_info, onnx.TensorProto
    crops = make(INPUT_NAME, kinds.UINT8, ["N", *spec.input_size_hw, 3])
    mirrored = make("mirror.batch", kinds.FLOAT, ["B", 3, *spec.input_size_hw])
    maps = make(HEATMAPS_NAME, kinds.FLOAT, ["N", spec.joints, *spec.heatmap_size_hw])
    points = make(KEYPOINTS_NAME, kinds.FLOAT, ["N", spec.joints, 2])
    scores = make(SCORES_NAME, kinds.FLOAT, ["N", spec.joints])
    return {
        "normalise and mirror": before.finish(spec, [crops], [mirrored]).SerializeToString(),
        "decode": behind.finish(spec, [maps], [points, scores]).SerializeToString(),
    }


def times(
    files: dict[str, bytes], options: dict[str, Any], batch: int, rounds: int, threads: int
) -> dict[str, Any]:
    """Milliseconds a crop of every file in one engine, and how often faster than the first."""
    crops = seeded_crops((256, 192), batch)
    engines, tasks, taken = [], [], dict[str, list[float]]()
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, content) in enumerate(files.items()):
            path = Path(folder) / f"{number}.onnx"
            path.write_bytes(content)
            engine = load_engine(path, threads=threads, **options)
            engines.append(engine)
            taken[name] = []
            tasks.append(Task(name, processor_time(partial(engine.run, crops), taken[name])))
        maps = [engine.run(crops, heatmaps=True).heatmaps_nkhw for engine in engines]
        interleaved(tasks, rounds=rounds, warmup=WARMUP)
        for engine in engines:
            engine.close()
    rows = {}
    first = taken[REFERENCE][WARMUP:]
    for (name, every), heatmaps in zip(taken.items(), maps, strict=True):
        seconds = every[WARMUP:]
        ratio = paired_ratio(first, seconds)
        rows[name] = {
            "ms_per_crop": summarise([1e3 * value / batch for value in seconds]).median,
            "times_faster": dataclasses.asdict(ratio),
            "largest_difference": float(np.abs(heatmaps - maps[0]).max()),  # type: ignore[operator]
        }
    return rows


def processor_time(work: Callable[[], object], taken: list[float]) -> Callable[[], None]:
    """``work``, whose seconds of this process's processor time are added to ``taken``."""

    def timed() -> None:
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)

    return timed


def operator_shares(content: bytes, batch: int) -> dict[str, float]:
    """Shares of the time by operator, of ONNX Runtime with one thread."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        for _ in range(3):
            session.run(None, {INPUT_NAME: seeded_crops((256, 192), batch)})
        events = json.loads(Path(session.end_profiling()).read_text())
    total: dict[str, float] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            kind = event["args"]["op_name"]
            total[kind] = total.get(kind, 0) + event["dur"]
    everything = sum(total.values())
    shares = {kind: round(value / everything, 5) for kind, value in total.items()}
    return dict(sorted(shares.items(), key=lambda item: -item[1])[:10])


def part_times(spec: ModelSpec, batch: int, rounds: int, threads: int) -> dict[str, float]:
    """Milliseconds a crop of what is not the network, in ONNX Runtime."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    maps = np.random.default_rng(0).random((batch, spec.joints, *spec.heatmap_size_hw), np.float32)
    feeds = {INPUT_NAME: seeded_crops((256, 192), batch), HEATMAPS_NAME: maps}
    tasks = []
    for name, content in parts(spec).items():
        session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        feed = {value.name: feeds[value.name] for value in session.get_inputs()}
        tasks.append(Task(name, lambda s=session, f=feed: s.run(None, f)))  # type: ignore[misc]
    seconds = interleaved(tasks, rounds=rounds, warmup=2).seconds
    return {name: summarise([1e3 * v / batch for v in values]).median
            for name, values in seconds.items()}  # fmt: skip


def kernels(spec: ModelSpec, weights: dict[str, Any]) -> dict[str, Any] | None:
    """Kernels and megabytes of activations a crop in TensorRT for RTX; None without it."""
    try:
        from hrnet_deploy.engines.trt_ahead import build_ahead, load_ahead

        tensorrt = {target: load_ahead(target, subject="kernels") for target in TARGETS}
    except DeployError as fault:
        print(f"left out: {fault}", file=sys.stderr)
        return None
    from hrnet_deploy.engines.build_settings import BuildSettings

    spec = dataclasses.replace(spec, static_batch=1)
    rows: dict[str, Any] = {}
    for precision in ("fp32", "fp16"):
        typed = dataclasses.replace(spec, precision=precision)
        for name, content in variations(typed, weights).items():
            for target, builder in tensorrt.items():
                key = f"{precision} {target}"
                settings = BuildSettings(min_batch=1, opt_batch=1, max_batch=1)
                try:
                    report = build_ahead(builder, content, typed, settings, subject=name)
                except DeployError as fault:
                    rows.setdefault(name, {})[key] = {"refused": fault.problem[:80]}
                    continue
                megabytes = sum(kernel.bytes for kernel in report.kernels) / 1e6
                rows.setdefault(name, {})[key] = {
                    "kernels": len(report.kernels),
                    "megabytes": round(megabytes, 2),
                }
    return rows


def main() -> None:
    """Measure everything and write it after each engine."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, action="append")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    state = HRNet(published_architecture(32, 17)).state_dict()
    weights = {name: value.numpy() for name, value in state.items()}
    spec = seeded_spec()
    result: dict[str, Any] = {
        "command": "python benchmarks/graph_experiments.py "
        f"--rounds {arguments.rounds} --threads {arguments.threads}",
        "machine": machine_facts(arguments.threads),
        "model": f"{spec.architecture} 256x192, flip-test, seeded weights",
        "parts_ms_per_crop": part_times(spec, 8, arguments.rounds, arguments.threads),
        "onnxruntime_share_of_time": {},
        "tensorrt_rtx_kernels_at_batch_1": kernels(spec, weights),
        "engines": {},
    }
    files = variations(spec, weights)
    for batch in arguments.batch or (1, 8):
        shares = operator_shares(files[REFERENCE], batch)
        result["onnxruntime_share_of_time"][f"batch {batch}"] = shares
    for engine, options in ENGINES.items():
        for batch in arguments.batch or (1, 8):
            rows = times(files, options, batch, arguments.rounds, arguments.threads)
            result["engines"][f"{engine}, batch {batch}"] = rows
            for name, row in rows.items():
                ratio = row["times_faster"]
                print(f"{engine:18s} {batch:2d} {name:32s} {row['ms_per_crop']:8.2f} ms "
                      f"{ratio['value']:.3f} [{ratio['low']:.3f}, {ratio['high']:.3f}] "
                      f"{row['largest_difference']:.1e}", flush=True)  # fmt: skip
            write_json(arguments.output, result)


if __name__ == "__main__":
    main()
