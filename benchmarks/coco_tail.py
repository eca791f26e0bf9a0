"""What comes after the last inference: rescoring, OKS-NMS, COCO's figures and the files.

    python benchmarks/coco_tail.py

On a made-up set of val2017's shape with 104,125 detector boxes, against the official steps with
pycocotools, in turns; CPU seconds. All ten figures and all detections have to be equal. Writes
benchmarks/results/coco_tail.json.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import official_tail
import script
from cpu_suite.pipelines import StubEngine
from stand_in import coco_spec
from synthetic_coco import SyntheticSet, write_synthetic_set

from hrnet_deploy.benchmark.machine import machine_facts
from hrnet_deploy.benchmark.statistics import paired_ratio, summarise
from hrnet_deploy.evaluation.metric import coco_stats
from hrnet_deploy.evaluation.plan import EvalPlan, prepare
from hrnet_deploy.evaluation.result import Inferred, detections_of, measure, write_result
from hrnet_deploy.evaluation.settings import EvalSettings
from hrnet_deploy.files import read_json

STAGES = ("rescoring and OKS-NMS", "figures", "files")
Seconds = dict[str, float]


def main() -> None:
    """Measure, write the result and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--share", type=float, default=1.0, help="of val2017's counts")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path, default=script.RESULTS / "coco_tail.json")
    arguments = parser.parse_args()
    script.run("coco_tail", arguments.output, lambda folder: measured(arguments, folder), show)


def measured(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The content of the result file; refuses to compare what is not equal."""
    made = write_synthetic_set(folder, share=arguments.share)
    engine = StubEngine(coco_spec())
    plan = prepare(engine, made.annotations, made.images, boxes=made.boxes, settings=EvalSettings())
    ways: dict[str, Callable[[], tuple[Seconds, list[float | None]]]] = {
        "official steps": lambda: official(plan, made, folder),
        "hrnet-deploy": lambda: ours(plan, made, folder),
    }
    seconds: dict[str, list[Seconds]] = {name: [] for name in ways}
    figures = {}
    for number in range(arguments.rounds):
        for name in sorted(ways, reverse=bool(number % 2)):
            taken, figures[name] = ways[name]()
            seconds[name].append(taken)
            print(f"{number + 1}: {name} {sum(taken.values()):.2f} s", file=sys.stderr)
    first, second = figures.values()
    if first != second or not same_files(folder):
        sys.exit(f"coco_tail: the results differ: {figures}")
    return {
        "command": script.command(),
        "machine": machine_facts(1),
        "pycocotools": metadata.version("pycocotools"),
        "pictures": len(plan.images),
        "persons": len(plan.annotations.annotations),
        "boxes": len(plan.persons),
        "detections": measure(plan, Inferred(made.poses, [])).counts["detections"],
        "equal": "all ten figures to the last bit, all detections",
        "cpu_seconds": seconds,
        "times_less": ratios(seconds),
    }


def official(
    plan: EvalPlan, made: SyntheticSet, folder: Path
) -> tuple[Seconds, list[float | None]]:
    """Seconds by stage and the figures, by the official steps."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = official_tail.COCO(str(made.annotations))
    ids = np.array([image.id for image in plan.images])[plan.persons.image_index]
    poses = np.concatenate([made.poses[i.id] for i in plan.images if i.id in made.poses])
    geometry, sigmas = plan.geometry, np.array(plan.engine.spec.sigmas)
    clock = [time.process_time()]
    grouped = official_tail.persons_by_image(
        ids, poses, plan.persons.scores, geometry.area, geometry.center, geometry.scale
    )
    kept = official_tail.rescored_and_kept(grouped, sigmas)
    clock.append(time.process_time())
    official_tail.write_results(kept, folder / "official.json")
    clock.append(time.process_time())
    figures = official_tail.summary(truth, folder / "official.json")
    clock.append(time.process_time())
    nms, files, metric = np.diff(clock).tolist()
    values = [None if value < 0 else value for value in figures]
    return dict(zip(STAGES, (nms, metric, files), strict=True)), values


def ours(plan: EvalPlan, made: SyntheticSet, folder: Path) -> tuple[Seconds, list[float | None]]:
    """The same by this package: the whole at once, with the first two stages timed apart before."""
    poses = np.concatenate([made.poses[i.id] for i in plan.images if i.id in made.poses])
    clock = [time.process_time()]
    detections = detections_of(plan, poses)
    clock.append(time.process_time())
    coco_stats(
        plan.annotations.annotations,
        detections,
        image_ids=[image.id for image in plan.images],
        category_ids=plan.annotations.categories,
        sigmas=plan.engine.spec.sigmas or (),
    )
    clock.append(time.process_time())
    result = measure(plan, Inferred(made.poses, []))
    clock.append(time.process_time())
    write_result(result, folder / "ours.json")
    clock.append(time.process_time())
    nms, metric, both, files = np.diff(clock).tolist()
    share = both / (nms + metric)
    stages = dict(zip(STAGES, (nms * share, metric * share, files), strict=True))
    return stages, list(result.stats.values())


def same_files(folder: Path) -> bool:
    """Whether both files hold the same detections; their order within a picture may differ."""
    official, own = (
        sorted(
            ((d["image_id"], d["score"], d["center"], d["keypoints"]) for d in read_json(path)),
        )
        for path in (folder / "official.json", folder / "ours.keypoints.json")
    )
    return official == own


def of_stage(rounds: list[Seconds], stage: str) -> list[float]:
    """Seconds of one stage, or of all together, round by round."""
    return [sum(one.values()) if stage == "all" else one[stage] for one in rounds]


def ratios(seconds: dict[str, list[Seconds]]) -> dict[str, list[float]]:
    """How many times less CPU time ours takes by stage and in all, with its 95 % interval."""
    first, second = seconds.values()
    found = {}
    for stage in (*STAGES, "all"):
        ratio = paired_ratio(of_stage(first, stage), of_stage(second, stage))
        found[stage] = [round(value, 2) for value in (ratio.value, ratio.low, ratio.high)]
    return found


def show(result: dict[str, Any]) -> None:
    """Print the table as Markdown."""
    official, own = result["cpu_seconds"].values()
    print(
        f"{result['boxes']} boxes, {result['detections']} detections, {result['pictures']} pictures"
    )
    print("| CPU seconds | official steps | hrnet-deploy | times |\n| --- | ---: | ---: | ---: |")
    for stage, (value, low, high) in result["times_less"].items():
        cells = [summarise(of_stage(rounds, stage)).median for rounds in (official, own)]
        numbers = " | ".join(f"{cell:.2f}" for cell in cells)
        print(f"| {stage} | {numbers} | {value:.1f} [{low:.1f}, {high:.1f}] |")


if __name__ == "__main__":
    main()
