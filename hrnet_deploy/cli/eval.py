"""``hrnet-deploy eval``: COCO keypoint AP of an engine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hrnet_deploy.cli.eval_options import Further, further_options
from hrnet_deploy.cli.eval_otherwise import evaluated_otherwise
from hrnet_deploy.cli.gates import failed_gates
from hrnet_deploy.cli.options import (
    FILE,
    FiniteRange,
    batch_option,
    boxes_option,
    json_option,
    max_pixels_option,
    print_json,
    print_table,
    say,
    with_engine_options,
)
from hrnet_deploy.cli.progress import progress_bar
from hrnet_deploy.cli.published import published_figures
from hrnet_deploy.cli.signals import advising_to_go_on, stop_on_signal
from hrnet_deploy.cli.usage import given_options
from hrnet_deploy.errors import EXIT_GATE, InputError, printable

if TYPE_CHECKING:
    from hrnet_deploy.runtime.engine_options import EngineOptions


@click.command("eval")
@click.option(
    "--engine",
    "engine_paths",
    type=FILE,
    multiple=True,
    help="The .onnx or .plan file. Several make a report.",
)
@click.option("--annotations", type=FILE, help="COCO keypoints file (.json).")
@click.option(
    "--subset",
    "subsets",
    multiple=True,
    metavar="NAME=FILE",
    help="A part of the data as a COCO file. Several make a report.",
)
@click.option("--images", type=FILE, help="The folder of its pictures.")
@boxes_option
@click.option("-o", "--output", type=FILE, help="Result file. Default: ENGINE.eval.json, here.")
@click.option("--report", type=FILE, help="Folder of the report. Default: eval-report, if any.")
@click.option(
    "--bootstrap",
    type=click.IntRange(100, 100_000),
    default=1000,
    show_default=True,
    help="Resamples for the intervals of a report.",
)
@click.option(
    "--oks-nms",
    type=click.Choice(["hard", "soft", "none"]),
    default="hard",
    show_default=True,
    help="How persons that are found twice are suppressed.",
)
@click.option(
    "--nms-threshold",
    type=FiniteRange(0, 1, min_open=True),
    default=0.9,
    show_default=True,
    help="The OKS above which two persons are one.",
)
@click.option(
    "--score-threshold",
    type=FiniteRange(),
    default=0.0,
    show_default=True,
    help="Leave out boxes below it.",
)
@click.option("--limit", type=click.IntRange(1), help="Only the first images of the file.")
@batch_option
@with_engine_options(flip=True)
@max_pixels_option
@click.option("--min-ap", type=FiniteRange(0, 1), help="Exit with 1 if AP is below it.")
@click.option("--allow-missing", is_flag=True, help="Leave out images that are not there.")
@click.option("--keep-going", is_flag=True, help="Leave out images that give no pose.")
@click.option("--fresh", is_flag=True, help="Start over, and replace an earlier result.")
@json_option
@further_options
def command(
    engine_paths: tuple[Path, ...],
    annotations: Path | None,
    subsets: tuple[str, ...],
    images: Path | None,
    boxes: Path | None,
    output: Path | None,
    report: Path | None,
    bootstrap: int,
    oks_nms: str,
    nms_threshold: float,
    score_threshold: float,
    limit: int | None,
    batch: int,
    engine_options: EngineOptions,
    max_pixels: float,
    min_ap: float | None,
    allow_missing: bool,
    keep_going: bool,
    fresh: bool,
    as_json: bool,
    **further: Any,
) -> None:
    """Evaluate an engine on COCO keypoint annotations.

    Writes ENGINE.eval.json with the figures and ENGINE.eval.keypoints.json with the poses in
    COCO's results format. An interrupted run goes on when the same command is given again. Exit
    code 1: AP is below --min-ap, or images were left out.

    Several engines, or any --subset, give a report on all of them with intervals, curves, error
    kinds and a browser of the failures; --report gives it for one engine too.

    --explain says from a sample why AP is not the expected one; --ladder evaluates every form of
    a checkpoint; MPII annotations give PCKh.
    """
    from hrnet_deploy.evaluation.result import detections_path
    from hrnet_deploy.evaluation.session import EvalJob, Watch, evaluate_to_files
    from hrnet_deploy.evaluation.settings import EvalSettings

    if score_threshold and boxes is None:
        problem = "only the boxes of a detector have scores"
        raise InputError("--score-threshold", problem, "Give --boxes as well, or leave it out")
    chosen_further = Further(**further)
    if not engine_paths and chosen_further.ladder is None:
        raise _missing("--engine")
    if annotations is None and not subsets:
        raise _missing("--annotations")
    if images is None:
        raise _missing("--images")
    engine_path = (engine_paths or (chosen_further.ladder or Path(),))[0]
    job = EvalJob(
        engine=engine_path,
        annotations=annotations or Path(),
        images=images,
        boxes=boxes,
        output=output or Path(f"{engine_path.stem}.eval.json"),
        engine_options=engine_options,
        fresh=fresh,
        settings=EvalSettings(
            score_threshold=score_threshold,
            nms=oks_nms,  # type: ignore[arg-type]
            nms_threshold=nms_threshold,
            limit=limit,
            batch_size=batch,
            allow_missing=allow_missing,
            keep_going=keep_going,
            max_pixels=max_pixels,
        ),
    )
    if evaluated_otherwise(job, engine_paths, output, chosen_further, as_json=as_json):
        return
    if report is not None or subsets or len(engine_paths) > 1:
        from hrnet_deploy.cli.study import StudyOptions, evaluate_study

        chosen = StudyOptions(engine_paths, annotations, subsets, report, output, bootstrap)
        evaluate_study(job, chosen, min_ap=min_ap, as_json=as_json)
        return
    if "bootstrap" in dict(given_options()):
        problem = "is for the intervals of a report"
        raise InputError("--bootstrap", problem, "Give --report as well, or leave it out")
    with stop_on_signal() as stop, progress_bar() as progress, advising_to_go_on():
        facts = evaluate_to_files(job, Watch(say, progress, stop.deferred, stop))
    gates = failed_gates(facts, min_ap)
    published = published_figures(facts)
    if as_json:
        files = {"result": str(job.output), "detections": str(detections_path(job.output))}
        print_json({**facts, "published": published, "files": files, "failed": gates})
    else:
        _print_table(facts, published, f"{engine_path.name} on {job.annotations.name}")
    for line in [*(f"note: {note}" for note in facts["notes"]), *(f"failed: {g}" for g in gates)]:
        say(line)
    if gates:
        raise click.exceptions.Exit(EXIT_GATE)


COLUMNS = ("AP", "AP50", "AP75", "APm", "APl", "AR")


def _missing(option: str) -> InputError:
    return InputError(option, "is missing", "See: hrnet-deploy eval --help")


def _print_table(facts: dict[str, Any], published: dict[str, Any] | None, title: str) -> None:
    from rich.table import Table

    label = "" if facts["label"] == "full" else f"\n{facts['label']}"
    table = Table(title=printable(title) + label, caption=_caption(facts))
    table.add_column()
    for name in COLUMNS:
        table.add_column(name, justify="right")
    measured = [facts[name] for name in COLUMNS]
    table.add_row("measured", *("n/a" if v is None else f"{v:.4f}" for v in measured))
    if published is not None:
        known = [published["figures"].get(name) for name in COLUMNS]
        table.add_row("published", *("" if v is None else f"{v:.3f}" for v in known))
    for name, stats in facts.get("further", {}).items():
        figures = [stats[column] for column in COLUMNS]
        table.add_row(name, *("n/a" if v is None else f"{v:.4f}" for v in figures))
    print_table(table)


def _caption(facts: dict[str, Any]) -> str:
    counts = facts["counts"]
    caption = (
        f"{counts['images']} images, {counts['persons']} person boxes, "
        f"{counts['detections']} detections"
    )
    if "flip" not in facts:
        return caption
    from hrnet_deploy.runtime.flip_choice import second_passes_text

    return f"{caption}\n{second_passes_text(facts['flip'])}"
