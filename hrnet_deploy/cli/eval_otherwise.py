"""What ``eval`` does beside one COCO evaluation, and whose turn it is."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hrnet_deploy.cli.eval_explain import show_explanation
from hrnet_deploy.cli.eval_ladder import show_ladder
from hrnet_deploy.cli.eval_mpii import show_mpii
from hrnet_deploy.cli.eval_options import Further
from hrnet_deploy.cli.usage import given_options

if TYPE_CHECKING:
    from hrnet_deploy.evaluation.session import EvalJob


COCO, EXPLAIN, LADDER, MPII = "COCO evaluations", "--explain", "--ladder", "MPII"

_HEEDED_BY = {
    **dict.fromkeys(("subsets", "report", "bootstrap", "min_ap"), (COCO,)),
    **dict.fromkeys(
        ("boxes", "oks_nms", "nms_threshold", "score_threshold"), (COCO, EXPLAIN, LADDER)
    ),
    **dict.fromkeys(("limit", "allow_missing", "keep_going"), (COCO, EXPLAIN, LADDER)),
    **dict.fromkeys(("backend", "precision", "flip", "flip_threshold"), (COCO, EXPLAIN, MPII)),
    "fresh": (COCO, LADDER, MPII),
    **dict.fromkeys(("expected_ap", "measured_ap", "sample", "seconds"), (EXPLAIN,)),
    "seed": (EXPLAIN, LADDER),
    "ground_truth": (MPII,),
}
"""What heeds an option of ``eval``, by the option's parameter; the others mean the same to all."""


def evaluated_otherwise(
    job: EvalJob,
    engines: tuple[Path, ...],
    output: Path | None,
    chosen: Further,
    *,
    as_json: bool,
) -> bool:
    """Do what ``chosen`` asks for; False where it asks for a plain COCO evaluation.

    Raises UsageError for an option of the current command that would not be heeded.
    """
    way = _way(job, chosen)
    _refuse_what_is_not_heeded(way)
    if way == COCO:
        return False
    if job.engine_options.flip == "adaptive" and way == EXPLAIN:
        raise click.UsageError("--explain looks at engines without --flip adaptive")
    if chosen.ladder is not None:
        job = dataclasses.replace(job, output=output or Path(f"{chosen.ladder.stem}.ladder.json"))
        show_ladder(job, chosen.ladder, engines, chosen, as_json=as_json)
        return True
    if len(engines) > 1:
        raise click.UsageError(f"{way} looks at one engine at a time")
    if way == EXPLAIN:
        show_explanation(job, chosen, as_json=as_json)
    else:
        output = output or Path(f"{job.engine.stem}.mpii.json")
        show_mpii(dataclasses.replace(job, output=output), chosen, as_json=as_json)
    return True


def _way(job: EvalJob, chosen: Further) -> str:
    """What is asked for; UsageError where two things are."""
    from hrnet_deploy.evaluation.mpii import looks_like_mpii

    asked = {
        LADDER: chosen.ladder is not None,
        EXPLAIN: chosen.explain,
        MPII: chosen.dataset == "mpii",
    }
    first, *others = [way for way, given in asked.items() if given] or [COCO]
    if others:
        raise click.UsageError(f"{first} and {others[0]} do not go together")
    if first == COCO and chosen.dataset is None and looks_like_mpii(job.annotations):
        return MPII
    return first


def _refuse_what_is_not_heeded(way: str) -> None:
    """A gate that nobody looks at must not pass, nor a choice be made in vain."""
    for name, option in given_options():
        heeded_by = _HEEDED_BY.get(name, (way,))
        if way not in heeded_by:
            raise click.UsageError(f"{option} is for {' and '.join(heeded_by)}, not for {way}")
