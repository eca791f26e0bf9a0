"""From picture files to keypoints, against other ways to do it; reproduces the README's table.

    python benchmarks/peers.py

Everything is made here: an HRNet-W32 for 256x192 crops with weights from a seed (the speed does not
depend on them) and pictures of synthetic people. ``--checkpoint``, ``--images`` and
``--annotations`` take real ones. All ways take turns in every round. Prints a Markdown table and
appends the run to benchmarks/results/peers.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pipelines

from hrnet_deploy.benchmark.end_to_end import Pictures, jobs_for
from hrnet_deploy.benchmark.machine import machine_facts, momentary_facts
from hrnet_deploy.benchmark.measure import Task, Timings, interleaved
from hrnet_deploy.benchmark.statistics import paired_ratio, summarise
from hrnet_deploy.benchmark.watch import Watch
from hrnet_deploy.engines import load_engine
from hrnet_deploy.engines.cpu import physical_cores
from hrnet_deploy.engines.signature import read_engine_file
from hrnet_deploy.errors import DeployError, InputError
from hrnet_deploy.files import read_json, write_json
from hrnet_deploy.runtime.stream import ImageJob
from hrnet_deploy.spec import ModelSpec

RESULTS = Path(__file__).resolve().parent / "results" / "peers.json"
FIRST = "official pipeline (PyTorch eager, batch 32, two passes)"
SAME_PX = 0.5
"""Keypoints closer than this to the official pipeline's are called the same."""

Way = Callable[[], Any]


def main() -> None:
    """Measure all ways, write the result and print the table."""
    arguments = _parsed()
    try:
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            run = _run(arguments, Path(folder), stack)
        count = _append(arguments.output, run)
    except DeployError as error:
        sys.exit(f"peers: error: {error}")
    print(_markdown(run))
    print(f"written to {arguments.output}, run {count}", file=sys.stderr)


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, help="default: a W32 with seeded weights")
    parser.add_argument("--images", type=Path)
    parser.add_argument("--annotations", type=Path)
    parser.add_argument("--limit", type=int, default=24, help="pictures with persons")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=8, help="persons at a time in our stream")
    parser.add_argument("--threads", type=int, default=physical_cores())
    parser.add_argument("--only", nargs="*", default=[], help="ways whose names contain a word")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if bool(arguments.images) != bool(arguments.annotations):
        parser.error("--images and --annotations belong together")
    if min(arguments.rounds, arguments.limit, arguments.batch, arguments.threads) < 1:
        parser.error("--rounds, --limit, --batch and --threads are at least 1")
    return arguments


def _run(arguments: argparse.Namespace, folder: Path, stack: ExitStack) -> dict[str, Any]:
    checkpoint = arguments.checkpoint or _seeded_checkpoint(folder)
    onnx = _exported(checkpoint, folder, seeded=arguments.checkpoint is None)
    spec = read_engine_file(onnx)[1]
    jobs = jobs_for(_pictures(arguments, folder), spec)
    persons = sum(len(job.geometry) for job in jobs)
    _say(f"{persons} persons in {len(jobs)} pictures")
    ways = _ways(arguments, checkpoint, onnx, jobs, folder, stack)
    chosen = {
        name: way
        for name, way in ways.items()
        if name == FIRST or not arguments.only or any(word in name for word in arguments.only)
    }
    agreement = _agreement(chosen)
    watch, before = Watch(), momentary_facts()
    timings = interleaved(
        [Task(name, way) for name, way in chosen.items()],
        rounds=arguments.rounds,
        warmup=0,  # comparing the keypoints has warmed all of them up
        progress=lambda done, total: _say(f"{done} of {total}"),
    )
    host = _host_only(jobs, spec, arguments.rounds)
    disturbance = watch.disturbance()
    return {
        "time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": " ".join(["peers.py", *(Path(word).name for word in sys.argv[1:])]),
        "machine": machine_facts(arguments.threads),
        "before": before,
        "after": momentary_facts(),
        "disturbance": dataclasses.asdict(disturbance),
        "warnings": disturbance.warnings(None),
        "model": f"{spec.architecture} {spec.input_size_hw[0]}x{spec.input_size_hw[1]}",
        "weights": "seeded" if arguments.checkpoint is None else checkpoint.name,
        "pictures": len(jobs),
        "persons": persons,
        "seconds": timings.seconds,
        "same_keypoints": agreement,
        "host_seconds": host.seconds,
    }


def _ways(
    arguments: argparse.Namespace,
    checkpoint: Path,
    onnx: Path,
    jobs: list[ImageJob],
    folder: Path,
    stack: ExitStack,
) -> dict[str, Way]:
    """Every way by its name; the official pipeline is the first."""
    import torch

    from hrnet_deploy.export.checkpoint import read_checkpoint
    from hrnet_deploy.export.hrnet import HRNet

    torch.set_num_threads(arguments.threads)
    loaded = read_checkpoint(checkpoint)
    module = HRNet(loaded.architecture)
    module.load_state_dict(dict(loaded.state_dict))
    module.eval()
    spec, batch = read_engine_file(onnx)[1], arguments.batch
    bare = pipelines.write_bare_network(folder / "bare.onnx", loaded, spec.input_size_hw)
    eager, ort = (
        pipelines.torch_network(module),
        pipelines.onnxruntime_network(bare, arguments.threads),
    )
    ways: dict[str, Way] = {
        FIRST: lambda: pipelines.official(eager, jobs, spec),
        "PyTorch eager, batches, numpy": lambda: pipelines.batched_numpy(eager, jobs, spec, batch),
        "plain ONNX Runtime, one person per call": lambda: pipelines.one_person_per_call(
            ort, jobs, spec
        ),
        "plain ONNX Runtime, batches, numpy": lambda: pipelines.batched_numpy(
            ort, jobs, spec, batch
        ),
    }
    if not arguments.no_compile:
        compiled = torch.compile(module, dynamic=False)
        for name, bf16 in (("fp32", False), ("bf16", True)):
            network = pipelines.filled_up(pipelines.torch_network(compiled, bf16=bf16), batch)
            ways[f"torch.compile {name}, batches, numpy"] = lambda network=network: (
                pipelines.batched_numpy(network, jobs, spec, batch)
            )
    for backend, precision in _our_ways():
        engine = stack.enter_context(
            load_engine(onnx, backend=backend, precision=precision, threads=arguments.threads)
        )
        name = f"hrnet-deploy, {engine.info.backend} {engine.info.precision}"
        ways[name] = lambda engine=engine: pipelines.ours(engine, jobs, batch)
    return ways


def _our_ways() -> list[tuple[str, str]]:
    try:
        import openvino
    except ImportError:
        return [("onnxruntime", "exact")]
    from hrnet_deploy.engines.openvino import native_precisions

    ways = [("onnxruntime", "exact"), ("openvino", "exact")]
    return [*ways, ("openvino", "bf16")] if "bf16" in native_precisions(openvino) else ways


def _agreement(ways: dict[str, Way]) -> dict[str, float]:
    """Share of keypoints within SAME_PX of the official pipeline's, by way; runs each once.

    A way that does not run at all (a compiler that is missing) is left out and named.
    """
    found: dict[str, Any] = {}
    for name in list(ways):
        _say(f"first run of: {name}")
        try:
            found[name] = ways[name]()
        except Exception as error:  # compilers fail in ways of their own
            if name == FIRST or isinstance(error, DeployError):
                raise
            _say(f"left out: {name}: {str(error).splitlines()[0] if str(error) else error!r}")
            del ways[name]
    distances = {
        name: np.linalg.norm(keypoints - found[FIRST], axis=2) for name, keypoints in found.items()
    }
    return {name: float((distance <= SAME_PX).mean()) for name, distance in distances.items()}


def _host_only(jobs: list[ImageJob], spec: ModelSpec, rounds: int) -> Timings:
    """The same with networks that cost nothing: what is left is the host's work."""
    stub, engine = pipelines.stub_network(spec), pipelines.StubEngine(spec)
    tasks = [
        Task("official pipeline", lambda: pipelines.official(stub, jobs, spec)),
        Task("one person per call", lambda: pipelines.one_person_per_call(stub, jobs, spec)),
        Task("batches, numpy", lambda: pipelines.batched_numpy(stub, jobs, spec, 8)),
        Task("hrnet-deploy", lambda: pipelines.ours(engine, jobs, 8)),
    ]
    return interleaved(tasks, rounds=rounds, warmup=1)


def _seeded_checkpoint(folder: Path) -> Path:
    import torch

    from hrnet_deploy.export.hrnet import HRNet, published_architecture

    torch.manual_seed(0)
    path = folder / "seeded.pth"
    torch.save(HRNet(published_architecture(32, 17)).state_dict(), path)
    return path


def _exported(checkpoint: Path, folder: Path, *, seeded: bool) -> Path:
    from hrnet_deploy.export.run import export_checkpoint
    from hrnet_deploy.export.settings import ExportSettings

    recipe = checkpoint.with_suffix(".toml")
    settings = ExportSettings(
        output=folder / "model.onnx",
        precisions=("fp32",),
        input_size_hw=(256, 192) if seeded else None,
        keypoints="coco_17" if seeded else None,
        recipe=str(recipe) if recipe.exists() else None,
        allow_unknown=True,
    )
    return export_checkpoint(checkpoint, settings, say=_say)[0].path


def _pictures(arguments: argparse.Namespace, folder: Path) -> Pictures:
    if arguments.images:
        return Pictures(arguments.images, arguments.annotations, None, arguments.limit)
    from hrnet_deploy.demo.people import write_dataset

    annotations = write_dataset(folder / "pictures", images=2 * arguments.limit, seed=0)
    return Pictures(annotations.parent / "images", annotations, None, arguments.limit)


def _append(path: Path, run: dict[str, Any]) -> int:
    """Add the run behind the earlier ones; a file that is something else is refused."""
    runs: Any = read_json(path, what="result of peers.py") if path.exists() else []
    if not isinstance(runs, list):
        raise InputError(path, "is not a result of peers.py", "Give another file (-o)")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, [*runs, json.loads(json.dumps(run))])
    return len(runs) + 1


def _markdown(run: dict[str, Any]) -> str:
    """Both tables under a line on the machine."""
    machine, others = run["machine"], run["disturbance"]["others_cores"]
    lines = [
        f"{run['model']} ({run['weights']} weights), flip-test, {run['persons']} persons in "
        f"{run['pictures']} pictures; {machine['cpu']}, {machine['threads']} threads; "
        f"commit {machine['commit']}; others took {others or 0:.2f} cores; {run['time']}",
        *(f"**{warning}**" for warning in run["warnings"]),
        "",
        "| from files to keypoints | ms/person | p5 | p95 | persons/s | times | same keypoints |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, seconds in run["seconds"].items():
        cells = _cells(seconds, run["seconds"][FIRST], run["persons"])
        lines.append(f"| {name} | {' | '.join(cells)} | {run['same_keypoints'][name]:.1%} |")
    lines += [
        "",
        "| the host's part alone | ms/person | p5 | p95 | persons/s | times |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, seconds in run["host_seconds"].items():
        cells = _cells(seconds, run["host_seconds"]["official pipeline"], run["persons"])
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cells(seconds: list[float], first: list[float], persons: int) -> list[str]:
    summary = summarise([1e3 * value / persons for value in seconds])
    cells = [f"{value:.2f}" for value in (summary.median, summary.p5, summary.p95)]
    cells.append(f"{1e3 / summary.median:.2f}")
    if seconds is first or seconds == first:
        return [*cells, "1"]
    ratio = paired_ratio(first, seconds)
    return [*cells, f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"]


def _say(line: str) -> None:
    print(line, file=sys.stderr)


if __name__ == "__main__":
    main()
