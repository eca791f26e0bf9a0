"""Which measure of doubt an adaptive flip-test should follow, and what it costs: AP against share.

    python benchmarks/adaptive_flip.py
    python benchmarks/adaptive_flip.py --name mine --engine w32.onnx --annotations A --images B

Without arguments the demo network looks at generated people, as they come and blurred, darkened and
noisy by chance, so that easy and hard persons are mixed. With arguments it is any engine without
flip-test on any COCO set. For every measure: AP against the exact flip-test with a second pass for
a third of the persons, and held out: each half of the pictures with the threshold that the other
half asks for. Writes benchmarks/results/adaptive_flip.json, where sets of other names stay.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.demo import CHECKPOINT
from hrnet_deploy.demo.people import write_dataset
from hrnet_deploy.engines import Engine, load_engine
from hrnet_deploy.errors import DeployError
from hrnet_deploy.evaluation.flip import MAX_AP_DROP, Trial, chosen_step
from hrnet_deploy.evaluation.plan import EvalPlan, prepare
from hrnet_deploy.evaluation.run import infer
from hrnet_deploy.evaluation.settings import EvalSettings
from hrnet_deploy.files import read_json, write_json
from hrnet_deploy.runtime.flip import FlipEngine, doubt
from hrnet_deploy.runtime.image import read_image
from hrnet_deploy.runtime.persons import run_persons

RESULTS = Path(__file__).resolve().parent / "results" / "adaptive_flip.json"
IMAGES = 500
SEED = 2_000_000
"""That of the demo, whose network has not seen these pictures."""

SHARES = (0.1, 0.2, 1 / 3, 0.5, 2 / 3)
THIRD = SHARES.index(1 / 3)
VISIBLE = 0.2
SAME_PEAK = 1 / 16
"""Maxima nearer to the highest than this part of the heatmap's height belong to it."""

Scores = NDArray[np.float64]


def measures(heatmaps_nkhw: NDArray[np.float32]) -> dict[str, Scores]:
    """Every measure (N,) of how ambiguous the heatmaps of persons are; more is more."""
    count, joints, height, width = heatmaps_nkhw.shape
    flat = heatmaps_nkhw.reshape(count, joints, -1).astype(np.float64)
    peak = flat.max(axis=2)
    visible = peak > VISIBLE
    seen = np.maximum(visible.sum(axis=1), 1)
    other = np.array([[_second_peak(one) for one in person] for person in heatmaps_nkhw])
    other = other.reshape(count, joints)
    share = np.maximum(flat, 0)
    share /= np.maximum(share.sum(axis=2, keepdims=True), 1e-9)
    y, x = (axis.ravel() for axis in np.mgrid[:height, :width])
    middle_x, middle_y = share @ x, share @ y
    ratio = other / np.maximum(peak, 1e-6)
    return {
        "mean of 4 p (1 - p)": doubt(peak.astype(np.float32)),
        "low mean peak": -peak.mean(axis=1),
        "low smallest peak": -peak.min(axis=1),
        "low mean of visible peaks": -(peak * visible).sum(axis=1) / seen,
        "mean nearness to the visibility threshold": -np.abs(peak - VISIBLE).mean(axis=1),
        "mean ratio of second peak": ratio.mean(axis=1),
        "largest ratio of second peak": ratio.max(axis=1),
        "small gap to second peak, visible": -((peak - other) * visible).sum(axis=1) / seen,
        "mean entropy": -(share * np.log(share + 1e-12)).sum(axis=2).mean(axis=1),
        "mean spread": (share @ (x**2 + y**2) - middle_x**2 - middle_y**2).mean(axis=1),
    }


def _second_peak(heatmap: NDArray[np.float32]) -> float:
    """The highest local maximum apart from the highest one, at least 0."""
    reach = max(2, round(heatmap.shape[0] * SAME_PEAK))
    top = heatmap == cv2.dilate(heatmap, np.ones((3, 3)))
    y, x = np.unravel_index(heatmap.argmax(), heatmap.shape)
    top[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1] = False
    return float(max(heatmap[top].max(initial=0), 0))


def main() -> None:
    """Measure, write, print."""
    arguments = _parsed()
    found: dict[str, Any] = read_json(arguments.output) if arguments.output.exists() else {}
    try:
        with tempfile.TemporaryDirectory() as folder:
            for name, engine, annotations, images in _sets(arguments, Path(folder)):
                with load_engine(engine) as loaded:
                    found[name] = _measured(loaded, annotations, images)
                print(_markdown(name, found[name]))
    except DeployError as error:
        sys.exit(f"adaptive_flip: error: {error}")
    write_json(arguments.output, found)
    print(f"written to {arguments.output}", file=sys.stderr)


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--name", help="of the set in the result")
    for option in ("--engine", "--annotations", "--images"):
        parser.add_argument(option, type=Path)
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    given = [arguments.name, arguments.engine, arguments.annotations, arguments.images]
    if any(given) and not all(given):
        parser.error("--name, --engine, --annotations and --images belong together")
    return arguments


def _sets(arguments: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Path, Path, Path]]:
    if arguments.name:
        yield arguments.name, arguments.engine, arguments.annotations, arguments.images
        return
    from hrnet_deploy.export.run import export_checkpoint
    from hrnet_deploy.export.settings import ExportSettings

    settings = ExportSettings(
        output=folder / "demo.onnx",
        precisions=("fp32",),
        recipe=str(CHECKPOINT.with_suffix(".toml")),
        flip_test=False,
    )
    engine = export_checkpoint(CHECKPOINT, settings, say=lambda line: None)[0].path
    annotations = write_dataset(folder / "people", images=IMAGES, seed=SEED)
    images = annotations.parent / "images"
    yield "demo network, generated people", engine, annotations, images
    for index, path in enumerate(sorted(images.iterdir())):
        _spoil(path, np.random.default_rng(index))
    yield "demo network, generated people of mixed quality", engine, annotations, images


def _spoil(path: Path, rng: np.random.Generator) -> None:
    """Blur, darken and add noise, each picture as much as chance says."""
    amount = rng.uniform(0, 1)
    image = cv2.GaussianBlur(cv2.imread(str(path)), (0, 0), 0.3 + 2 * amount).astype(float)
    image = image * (1 - 0.35 * amount) + 30 * amount + rng.normal(0, 25 * amount, image.shape)
    cv2.imwrite(str(path), np.clip(image, 0, 255).astype(np.uint8))


def _measured(engine: Engine, annotations: Path, images: Path) -> dict[str, Any]:
    plan = prepare(engine, annotations, images, boxes=None, settings=EvalSettings())
    exact = infer(dataclasses.replace(plan, engine=FlipEngine(engine, 0)), None)
    trial = Trial.of(plan, infer(plan, None), exact)
    names = _all_measures(plan)
    names["by chance"] = np.random.default_rng(0).random(len(trial.rows))
    ends = trial.curve(np.array([2.0, 0.0]))[:, 0]
    return {
        "command": " ".join(["adaptive_flip.py", *(Path(word).name for word in sys.argv[1:])]),
        "engine": Path(engine.info.path).name,
        "engine_sha256": engine.info.sha256,
        "data": plan.fingerprint["data"],
        "versions": plan.fingerprint["versions"] | dict(engine.info.versions),
        "persons": len(trial.rows),
        "images": len(trial.image_ids),
        "ap": {"single": float(ends[0]), "exact": float(ends[1])},
        "budget": MAX_AP_DROP,
        "shares": [round(share, 4) for share in SHARES],
        "measures": {name: _judged(trial, values) for name, values in names.items()},
    }


def _all_measures(plan: EvalPlan) -> dict[str, Scores]:
    parts = []
    for job in plan.jobs:
        if len(job.geometry):
            image = read_image(job.path)
            (output,) = run_persons(
                plan.engine, [image], [job.geometry], batch_size=32, heatmaps=True
            )
            assert output.heatmaps_nkhw is not None
            parts.append(measures(output.heatmaps_nkhw))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _judged(trial: Trial, values: Scores) -> dict[str, Any]:
    """Drops in points at ``SHARES``, and where each half follows the threshold of the other."""
    ranks = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    trial = dataclasses.replace(trial, doubts=(ranks + 0.5) / len(ranks))
    drops = trial.drops([trial.doubts >= 1 - share for share in SHARES])
    thresholds = trial.thresholds()
    _, even, odd = (chosen_step(column, MAX_AP_DROP) for column in trial.curve(thresholds).T)
    of_others = np.where(trial.in_odd_half, thresholds[even], thresholds[odd])
    (held_out,) = trial.drops([trial.doubts >= of_others])
    return {
        "drop": [drop.as_json() for drop in drops],
        "held_out": {"drop": held_out.as_json(), "share": trial.share(of_others)},
    }


def _markdown(name: str, facts: dict[str, Any]) -> str:
    """One line a measure, the smallest drop at a third first."""
    gain = 100 * (facts["ap"]["exact"] - facts["ap"]["single"])
    lines = [
        f"{name}: {facts['persons']} persons, AP {facts['ap']['single']:.4f} with one pass, "
        f"{facts['ap']['exact']:.4f} with two ({gain:+.2f} points)",
        "",
        "| Doubt | drop at a third, points | held out: drop | share | passes saved |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    rows = sorted(facts["measures"].items(), key=lambda item: item[1]["drop"][THIRD]["value"])
    for measure, row in rows:
        out = row["held_out"]
        saved = 2 / (1 + out["share"])
        cells = (_text(row["drop"][THIRD]), _text(out["drop"]), f"{out['share']:.0%}")
        lines.append(f"| {measure} | {' | '.join(cells)} | {saved:.2f}x |")
    return "\n".join([*lines, ""])


def _text(drop: dict[str, float]) -> str:
    return f"{drop['value']:.2f} [{drop['low']:.2f}, {drop['high']:.2f}]"


if __name__ == "__main__":
    main()
