"""What ``eval`` does beside one COCO evaluation, and whose turn it is."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from hrnet_deploy.cli.eval_explain import show_explanation
from hrnet_deploy.cli.eval_ladder import show_ladder
from hrnet_deploy.cli.eval_mpii import show_mpii
from hrnet_deploy.cli.eval_options import Further

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
    "explain": (EXPLAIN,),
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
    """What is asked for."""
    if chosen.ladder is not None:
        return LADDER
    if chosen.explain:
        return EXPLAIN
    return MPII if _is_mpii(job, chosen) else COCO


def _refuse_what_is_not_heeded(way: str) -> None:
    """A gate that nobody looks at must not pass, nor a choice be made in vain."""
    context = click.get_current_context()
    for parameter in context.command.params:
        heeded_by = _HEEDED_BY.get(parameter.name or "", (way,))
        given = context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
        if given and way not in heeded_by:
            owners = " and ".join(heeded_by)
            raise click.UsageError(f"{max(parameter.opts, key=len)} is for {owners}, not for {way}")


def _is_mpii(job: EvalJob, chosen: Further) -> bool:
    from hrnet_deploy.evaluation.mpii import looks_like_mpii

    if chosen.dataset is not None:
        return chosen.dataset == "mpii"
    return looks_like_mpii(job.annotations)
