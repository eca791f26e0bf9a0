"""What TensorRT makes of our graphs: kernels and bytes, counted in plans built without a GPU.

    python benchmarks/tensorrt_kernels.py                  # W32 and W48, both sizes, all precisions
    python benchmarks/tensorrt_kernels.py a.onnx b.onnx    # files that export wrote, compared

These are facts about plans, not timings: TensorRT for RTX builds for a GPU that is not there and
lists each kernel with the tensors that it reads and writes. Plans are built for one batch size, and
bytes are those of one crop; caches are left out of account. Needs the extra ``rtx``. Without files
the networks have no trained weights, which changes nothing here. Prints a table and, without files,
writes benchmarks/results/tensorrt_kernels.json.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from gpu_suite import MODELS, Model
from gpu_suite.prepare import seeded
from stand_in import coco_spec

from hrnet_deploy import __version__
from hrnet_deploy.engines.build_settings import BuildSettings
from hrnet_deploy.engines.onnx_file import read_onnx_file, spec_of
from hrnet_deploy.engines.trt_ahead import build_ahead, load_ahead
from hrnet_deploy.engines.trt_kernels import Kernel
from hrnet_deploy.errors import DeployError
from hrnet_deploy.files import write_json
from hrnet_deploy.spec import INPUT_NAME, ModelSpec

RESULT = Path(__file__).resolve().parent / "results" / "tensorrt_kernels.json"
NOTE = "static facts of plans by TensorRT for RTX; nothing ran, nothing was timed"
BEFORE = ("crops.", "normalise", "mirror", "network.input")
AFTER = ("flip.", "decode.", "heatmaps", "keypoints", "scores")
"""How the names of the nodes before and behind the network begin."""

RANGE = 6.0
"""Of every quantised value: which one it is changes no kernel."""

Row = dict[str, Any]


def main() -> None:
    """Build, count, print, and write the result."""
    arguments = parsed()
    rows: dict[str, Row] = {}
    try:
        for name, content, spec in files(arguments):
            rows[name] = counted(name, content, spec, arguments)
            print(line(name, rows[name]), flush=True)
        if not arguments.files:
            command = " ".join(["tensorrt_kernels.py", *sys.argv[1:]])
            facts = {"note": NOTE, "command": command, "hrnet_deploy": __version__}
            facts |= {"target": arguments.target, "batch": arguments.batch}
            write_json(RESULT, {**facts, "plans": rows})
    except DeployError as error:
        sys.exit(f"tensorrt_kernels: error: {error}")


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, help="ONNX files; none: the published ones")
    parser.add_argument("--target", default="SM89", help="what to build for")
    parser.add_argument("--batch", type=int, default=8, help="crops in a batch")
    parser.add_argument("--list", action="store_true", help="print every kernel")
    return parser.parse_args()


def files(arguments: argparse.Namespace) -> Iterator[tuple[str, bytes, ModelSpec]]:
    """Name, bytes and spec of each file."""
    for path in arguments.files:
        content = path.read_bytes()
        yield path.name, content, spec_of(read_onnx_file(content, path), path)
    if not arguments.files:
        for model in MODELS:
            if model.width is not None:
                yield from variants(model)


def variants(model: Model) -> Iterator[tuple[str, bytes, ModelSpec]]:
    """fp32, fp16 and int8 of ``model``, with the flip-test and without."""
    from hrnet_deploy.export.architecture import published_architecture
    from hrnet_deploy.export.calibration import convolution_inputs
    from hrnet_deploy.export.hrnet import HRNet
    from hrnet_deploy.export.model import build_hrnet
    from hrnet_deploy.export.quantization import NEVER, Quantization

    architecture = published_architecture(int(model.width or 0), 17)
    shapes = HRNet(architecture).state_dict()
    weights = {name: seeded(name, tuple(value.shape)) for name, value in shapes.items()}
    quantization = None
    precisions: tuple[Literal["fp32", "fp16", "int8"], ...] = ("fp32", "fp16", "int8")
    for precision in precisions:
        for flip in (False, True):
            spec = coco_spec(
                architecture.name, size_hw=model.size_hw, flip_test=flip, precision=precision
            )
            written = build_hrnet(
                spec,
                architecture,
                weights,
                source=model.name,
                quantization=quantization if precision == "int8" else None,
            )
            if quantization is None:
                inputs = convolution_inputs(written)
                limits = dict.fromkeys(inputs.values(), RANGE)
                quantization = Quantization(limits, frozenset(inputs) - set(NEVER))
            name = f"{model.name}.{precision}{'' if flip else '-noflip'}"
            yield name, written.SerializeToString(), spec


def counted(name: str, content: bytes, spec: ModelSpec, arguments: argparse.Namespace) -> Row:
    """What became of one file."""
    batch = spec.static_batch or arguments.batch
    settings = BuildSettings(min_batch=batch, opt_batch=batch, max_batch=batch)
    tensorrt = load_ahead(arguments.target, subject="--target")
    report = build_ahead(tensorrt, content, spec, settings, subject=name)
    if arguments.list:
        print(*(told(kernel, batch) for kernel in report.kernels), sep="\n")
    parts: dict[str, list[Kernel]] = {"before": [], "network": [], "after": []}
    for kernel in report.kernels:
        parts[part_of(kernel)].append(kernel)
    alone = [kernel for kernel in parts["network"] if not has_convolution(kernel)]
    return {
        "tensorrt_rtx": report.version,
        "kernels": len(report.kernels),
        "kinds": dict(Counter(kernel.kind for kernel in report.kernels).most_common()),
        "written_types": dict(Counter(kernel.dtype for kernel in report.kernels).most_common()),
        "megabytes_per_crop": {part: megabytes(found, batch) for part, found in parts.items()},
        "kernels_of": {part: len(found) for part, found in parts.items()},
        "weight_megabytes": round(sum(k.weight_bytes for k in report.kernels) / 1e6, 2),
        "without_convolution": without_convolution(alone, batch),
        "largest": {kernel.name: megabytes([kernel], batch) for kernel in heaviest(report.kernels)},
        "warnings": list(report.warnings),
    }


def part_of(kernel: Kernel) -> str:
    """Where a kernel stands: before, in or behind the network."""
    if any(tensor.name == INPUT_NAME for tensor in kernel.inputs):
        return "before"
    if kernel.sources and all(source.startswith(AFTER) for source in kernel.sources):
        return "after"
    if kernel.sources and all(source.startswith(BEFORE) for source in kernel.sources):
        return "before"
    return "network"


def has_convolution(kernel: Kernel) -> bool:
    """Whether a kernel holds the weights of a convolution."""
    return any(len(tensor.shape) == 4 and tensor.shape[0] > 1 for tensor in kernel.constants)


def without_convolution(kernels: list[Kernel], batch: int) -> Row:
    """Additions, upsampling and type changes that cost a launch of their own, by what they do."""
    by_work: dict[str, list[Kernel]] = {}
    for kernel in kernels:
        by_work.setdefault(work_of(kernel), []).append(kernel)
    ordered = sorted(by_work.items(), key=lambda item: -megabytes(item[1], batch))
    return {
        work: {"kernels": len(found), "megabytes_per_crop": megabytes(found, batch)}
        for work, found in ordered
    }


def work_of(kernel: Kernel) -> str:
    """What TensorRT's name of a generated kernel says that it does, such as "ResiAddRelu"."""
    match = re.match(r"__myl_(\w+?)_myl", kernel.name)
    return match[1] if match else kernel.kind


def heaviest(kernels: tuple[Kernel, ...]) -> list[Kernel]:
    """The ten that move most."""
    return sorted(kernels, key=lambda kernel: -kernel.bytes)[:10]


def megabytes(kernels: list[Kernel], batch: int) -> float:
    """Activations read and written for one crop, in 1e6 bytes."""
    return round(sum(kernel.bytes for kernel in kernels) / batch / 1e6, 2)


def told(kernel: Kernel, batch: int) -> str:
    """One kernel in one line."""
    sources = " ".join(kernel.sources[:4])
    return f"{megabytes([kernel], batch):8.2f} MB  {work_of(kernel):24} {kernel.dtype:6} {sources}"


def line(name: str, row: Row) -> str:
    """One file in one line."""
    moved = row["megabytes_per_crop"]
    alone = row["without_convolution"].values()
    return (
        f"{name:24} {row['kernels']:4} kernels, {sum(moved.values()):7.1f} MB a crop "
        f"({moved['before']:.1f} before, {moved['after']:.1f} after), without a convolution: "
        f"{sum(entry['kernels'] for entry in alone)} kernels, "
        f"{sum(entry['megabytes_per_crop'] for entry in alone):.1f} MB"
    )


if __name__ == "__main__":
    main()
