"""ncnn's Winograd convolutions against the engines that the package has: the bare W32, in float32.

ncnn is asked for float32 alone (no half precision, no bfloat16), as exact parity wants it. The
three take turns in every round, with each number of threads, and again with one core kept busy by
another process. `pnnx` and `ncnn` come from their wheels; they need not share an environment with
the package, which only makes the network's files:

    python benchmarks/ncnn_engine.py --make FOLDER           # w32.onnx and w32.pt, seeded
    pnnx FOLDER/w32.pt inputshape=[1,3,256,192] fp16=0       # w32.ncnn.param and w32.ncnn.bin
    python benchmarks/ncnn_engine.py FOLDER -o benchmarks/results/ncnn.json
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]
SHAPE = (1, 3, 256, 192)
_ALIVE: list[object] = []
"""ncnn's networks hold their allocators without owning them."""

BUSY = "while True: pass"
REFERENCE = "onnxruntime"
CLOCKS = {"time of day": time.perf_counter, "processor time": time.process_time}
"""Other work on the machine counts into the first alone, waiting threads that spin into both."""


def make(folder: Path) -> None:
    """Write the seeded network as ONNX and as TorchScript, without anything around it."""
    import torch
    from graph_variations import seeded_spec

    from hrnet_deploy.export.architecture import published_architecture
    from hrnet_deploy.export.graph import GraphWriter
    from hrnet_deploy.export.hrnet import HRNet
    from hrnet_deploy.export.network import HRNetWriter

    torch.manual_seed(0)
    architecture = published_architecture(32, 17)
    network = HRNet(architecture).eval()
    with torch.no_grad():
        torch.jit.trace(network, torch.zeros(SHAPE)).save(str(folder / "w32.pt"))
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    graph = GraphWriter()
    writer = HRNetWriter(graph, weights, np.float32, "seeded", reverse_input=False)
    heatmaps = writer.heatmaps("images", architecture)
    value, kind = graph.onnx.helper.make_tensor_value_info, graph.onnx.TensorProto.FLOAT
    model = graph.finish(
        seeded_spec(),
        [value("images", kind, SHAPE)],
        [value(heatmaps, kind, [1, 17, 64, 48])],
    )
    (folder / "w32.onnx").write_bytes(model.SerializeToString())


def with_onnxruntime(folder: Path, threads: int) -> Run:
    """ONNX Runtime, its threads asleep between two runs."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.force_spinning_stop", "1")
    path = folder / "w32.onnx"
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images})[0]  # type: ignore[no-any-return]


def with_openvino(folder: Path, threads: int) -> Run:
    """OpenVINO in float32, all threads on one picture."""
    import openvino as ov

    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": str(threads),
        "NUM_STREAMS": "1",
        "ENABLE_CPU_PINNING": "NO",
    }
    core = ov.Core()
    request = core.compile_model(
        core.read_model(folder / "w32.onnx"), "CPU", settings
    ).create_infer_request()

    def run(images: NDArray[np.float32]) -> NDArray[np.float32]:
        request.infer({"images": images})
        heatmaps: NDArray[np.float32] = request.get_output_tensor().data
        return heatmaps

    return run


def with_ncnn(folder: Path, threads: int, *, winograd: bool) -> Run:
    """The same with ncnn, which keeps its memory from run to run as its own benchmark does."""
    import ncnn

    memory = ncnn.UnlockedPoolAllocator(), ncnn.PoolAllocator()
    net = ncnn.Net()
    net.opt.blob_allocator, net.opt.workspace_allocator = memory
    net.opt.num_threads = threads
    net.opt.use_winograd_convolution = winograd
    for name in vars(type(net.opt)):
        if name.startswith(("use_fp16", "use_bf16", "use_int8")):
            setattr(net.opt, name, False)
    net.load_param(str(folder / "w32.ncnn.param"))
    net.load_model(str(folder / "w32.ncnn.bin"))

    def run(images: NDArray[np.float32]) -> NDArray[np.float32]:
        extractor = net.create_extractor()
        extractor.input("in0", ncnn.Mat(images[0]))
        _, heatmaps = extractor.extract("out0")
        return np.array(heatmaps)[None]

    _ALIVE.append((net, memory))
    return run


def measured(
    engines: dict[str, Run], rounds: int, clock: Callable[[], float], warmup: int = 2
) -> dict[str, list[float]]:
    """Seconds of each engine, in turn; the order is turned round in every round."""
    images = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    for number in range(-warmup, rounds):
        for name in list(engines)[:: 1 if number % 2 else -1]:
            time.sleep(0.005)
            start = clock()
            engines[name](images)
            if number >= 0:
                seconds[name].append(clock() - start)
    return seconds


def rows(seconds: dict[str, list[float]]) -> dict[str, Any]:
    """Median and quartiles, and the median of the ratios within the rounds."""
    first = seconds[REFERENCE]
    return {
        name: {
            "ms": [round(1e3 * float(q), 2) for q in np.percentile(values, [25, 50, 75])],
            "times_faster": round(
                statistics.median(a / b for a, b in zip(first, values, strict=True)), 3
            ),
        }
        for name, values in seconds.items()
    }


def differences(engines: dict[str, Run]) -> dict[str, float]:
    """The largest difference of each engine's heatmaps from the reference's, over its peak."""
    images = np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)
    expected = engines[REFERENCE](images).copy()
    peak = np.abs(expected).max()
    return {name: float(np.abs(run(images) - expected).max() / peak)
            for name, run in engines.items()}  # fmt: skip


def machine() -> dict[str, Any]:
    """Processor, load and versions."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    names = [line.split(":")[1].strip() for line in text.splitlines() if "model name" in line]
    versions = {name: importlib.metadata.version(name)
                for name in ("ncnn", "onnxruntime", "openvino", "numpy")}  # fmt: skip
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "load_average_1min": round(os.getloadavg()[0], 2),
        "versions": versions,
    }


def main() -> None:
    """Make the network's files, or measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--make", action="store_true", help="write w32.onnx and w32.pt")
    parser.add_argument("-o", "--output", type=Path, help="where the figures go (.json)")
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    if arguments.make:
        make(arguments.folder)
        return
    result: dict[str, Any] = {
        "command": f"python benchmarks/ncnn_engine.py FOLDER --rounds {arguments.rounds}",
        "model": "W32, 256x192, one picture, one pass, float32, seeded weights",
        "machine": machine(),
        "times": {},
    }
    for threads in (1, 2):
        engines = {
            REFERENCE: with_onnxruntime(arguments.folder, threads),
            "openvino": with_openvino(arguments.folder, threads),
            "ncnn": with_ncnn(arguments.folder, threads, winograd=True),
            "ncnn without Winograd": with_ncnn(arguments.folder, threads, winograd=False),
        }
        result["difference_over_peak"] = differences(engines)
        for busy in (0, 1):
            others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(busy)]
            name = f"{threads} threads" + (", one core kept busy" if busy else "")
            try:
                for kind, clock in list(CLOCKS.items())[: 1 if busy else None]:
                    seconds = measured(engines, arguments.rounds, clock)
                    result["times"][f"{name}, {kind}"] = rows(seconds)
            finally:
                for other in others:
                    other.kill()
            result["load_average_1min_at_the_end"] = round(os.getloadavg()[0], 2)
            if arguments.output:
                arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["times"], indent=1))


if __name__ == "__main__":
    main()
