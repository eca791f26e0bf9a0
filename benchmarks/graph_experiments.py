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
from onnx import numpy_helper

from hrnet_deploy.benchmark.machine import machine_facts
from hrnet_deploy.benchmark.measure import Task, interleaved
from hrnet_deploy.benchmark.statistics import paired_ratio, summarise
from hrnet_deploy.engines import load_engine
from hrnet_deploy.errors import DeployError
from hrnet_deploy.export.crops import seeded_crops
from hrnet_deploy.export.graph import GraphWriter
from hrnet_deploy.export.hrnet import HRNet, published_architecture
from hrnet_deploy.export.model import DTYPES, build_model
from hrnet_deploy.export.network import HRNetWriter
from hrnet_deploy.export.pipeline import decode, normalise, with_mirrored
from hrnet_deploy.files import write_json
from hrnet_deploy.keypoints import keypoint_set
from hrnet_deploy.spec import HEATMAPS_NAME, INPUT_NAME, KEYPOINTS_NAME, SCORES_NAME, ModelSpec

ENGINES = {
    "onnxruntime fp32": {"backend": "onnxruntime"},
    "openvino fp32": {"backend": "openvino"},
    "openvino bf16": {"backend": "openvino", "precision": "bf16"},
}
REFERENCE = "as exported"
TARGETS = ("SM80", "SM89")
WARMUP = 2


class Coarsest(HRNetWriter):
    """Sums are formed from the coarsest branch upwards: up2(up2(a) + b) + c."""

    def _fuse(self, features: list[str], prefix: str, target: int) -> str:
        terms, low = [], ""
        for source in range(len(features) - 1, target, -1):
            name = f"{prefix}.{source}"
            x = self._conv(features[source], f"{name}.0", f"{name}.1")
            if low:
                x = self.graph.node("Add", [x, low], f"{name}.sum")
            low = self._upsample(x, f"{name}.2", 2)
        for source, x in enumerate(features[: target + 1]):
            for step in range(target - source):
                last = step == target - source - 1
                conv = f"{prefix}.{source}.{step}"
                x = self._conv(x, f"{conv}.0", f"{conv}.1", stride=2, relu=not last)
            terms.append(x)
        return self._sum_relu([*terms, low] if low else terms, prefix)


def written(writer: type[HRNetWriter], spec: ModelSpec, weights: dict[str, Any]) -> Any:
    """The whole graph with the network as ``writer`` writes it."""

    def write(graph: GraphWriter, images: str) -> str:
        dtype = DTYPES[spec.precision]
        network = writer(graph, weights, dtype, "seeded", reverse_input=True)
        return network.heatmaps(images, published_architecture(32, 17))

    return build_model(spec, write, reverse_channels=False)


def by_enlarging_in_the_sum(model: Any) -> None:
    """No ``Resize``: the sum repeats the small summand by broadcasting over split axes."""
    nodes = {node.output[0]: node for node in model.graph.node}
    inferred = onnx.shape_inference.infer_shapes(model)
    shapes = {v.name: v.type.tensor_type.shape.dim for v in inferred.graph.value_info}
    changed = []
    for node in model.graph.node:
        resized = nodes.get(node.input[1]) if node.op_type == "Add" else None
        if resized is None or resized.op_type != "Resize":
            changed.append(node)
            continue
        channels, height, width = (d.dim_value for d in shapes[resized.input[0]][1:])
        factor = shapes[node.output[0]][2].dim_value // height
        parts = {
            "split": [0, channels, height, factor, width, factor],
            "small": [0, channels, height, 1, width, 1],
            "whole": [0, channels, height * factor, width * factor],
        }
        for part, shape in parts.items():
            name = f"{node.name}.{part}.shape"
            model.graph.initializer.append(numpy_helper.from_array(np.array(shape), name))
        split, small, total = (f"{node.name}.{part}" for part in ("split", "small", "total"))
        make = onnx.helper.make_node
        changed += [
            make("Reshape", [node.input[0], f"{split}.shape"], [split]),
            make("Reshape", [resized.input[0], f"{small}.shape"], [small]),
            make("Add", [split, small], [total]),
            make("Reshape", [total, f"{node.name}.whole.shape"], [node.output[0]]),
        ]
    kept = [node for node in changed if node.op_type != "Resize"]
    del model.graph.node[:]
    model.graph.node.extend(kept)


def with_the_scale_in_the_weights(model: Any) -> None:
    """Pixels minus their mean; the division stands in the first convolution. Zero padding stays."""
    constants = {c.name: c for c in model.graph.initializer}
    factor, offset, weight = (
        numpy_helper.to_array(constants[name]).astype(np.float64)
        for name in ("normalise.factor", "normalise.offset", "conv1.weight")
    )
    replace(constants, "normalise.offset", (offset / factor).astype(np.float32))
    scaled = weight * factor.reshape(1, 3, 1, 1)
    replace(constants, "conv1.weight", scaled.astype(constant_dtype(constants["conv1.weight"])))
    drop(model, "normalise.scaled", "crops.planes")


def with_four_channels(model: Any) -> None:
    """A black fourth plane, which some convolutions want."""
    constants = {c.name: c for c in model.graph.initializer}
    weight = numpy_helper.to_array(constants["conv1.weight"])
    replace(constants, "conv1.weight", np.pad(weight, [(0, 0), (0, 1), (0, 0), (0, 0)]))
    pads = numpy_helper.from_array(np.array([0, 0, 0, 0, 0, 1, 0, 0]), "plane.pads")
    model.graph.initializer.append(pads)
    index = position(model, "conv1")
    convolution = model.graph.node[index]
    node = onnx.helper.make_node("Pad", [convolution.input[0], "plane.pads"], ["plane"])
    convolution.input[0] = "plane"
    model.graph.node.insert(index, node)


def with_bytes_transposed(model: Any) -> None:
    """First the transposition, of bytes, then the conversion. TensorRT has none of bytes."""
    cast, planes = (model.graph.node[position(model, n)] for n in ("crops.float", "crops.planes"))
    cast.op_type, planes.op_type = "Transpose", "Cast"
    attributes = list(cast.attribute), list(planes.attribute)
    for node, other in zip((planes, cast), attributes, strict=True):
        del node.attribute[:]
        node.attribute.extend(other)


def replace(constants: dict[str, Any], name: str, value: Any) -> None:
    """Give a constant another value."""
    constants[name].CopyFrom(numpy_helper.from_array(value, name))


def constant_dtype(tensor: Any) -> Any:
    """Its numpy type."""
    return onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)


def position(model: Any, name: str) -> int:
    """The index of the node that writes ``name``."""
    return next(i for i, node in enumerate(model.graph.node) if name in node.output)


def drop(model: Any, name: str, instead: str) -> None:
    """Leave a node out; its readers read ``instead``."""
    del model.graph.node[position(model, name)]
    for node in model.graph.node:
        node.input[:] = [instead if value == name else value for value in node.input]


Change = Callable[[Any], None]
VARIATIONS: dict[str, tuple[type[HRNetWriter], Change | None]] = {
    REFERENCE: (HRNetWriter, None),
    "sums from the coarsest branch": (Coarsest, None),
    "sums that broadcast": (HRNetWriter, by_enlarging_in_the_sum),
    "scale in the first weights": (HRNetWriter, with_the_scale_in_the_weights),
    "four input channels": (HRNetWriter, with_four_channels),
    "bytes transposed": (HRNetWriter, with_bytes_transposed),
}


def variations(spec: ModelSpec, weights: dict[str, Any]) -> dict[str, bytes]:
    """Every variation as a file."""
    files = {}
    for name, (writer, change) in VARIATIONS.items():
        model = written(writer, spec, weights)
        if change is not None:
            change(model)
            onnx.checker.check_model(model, full_check=True)
        files[name] = model.SerializeToString()
    return files


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


def seeded_spec() -> ModelSpec:
    """W32 at 256x192 with flip-test."""
    points = keypoint_set("coco_17")
    return ModelSpec(
        architecture=published_architecture(32, 17).name,
        input_size_hw=(256, 192),
        heatmap_size_hw=(64, 48),
        keypoint_set=points.name,
        keypoint_names=points.names,
        flip_pairs=points.flip_pairs,
        sigmas=points.sigmas,
        skeleton=points.skeleton,
        flip_test=True,
        shift_heatmap=True,
        source_sha256="0" * 64,
    )


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
