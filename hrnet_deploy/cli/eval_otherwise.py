"""What ``eval`` does beside one COCO evaluation, and whose turn it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hrnet_deploy.cli.eval_explain import show_explanation
from hrnet_deploy.cli.eval_ladder import show_ladder
from hrnet_deploy.cli.eval_mpii import show_mpii
from hrnet_deploy.cli.eval_options import Further

if TYPE_CHECKING:
    from hrnet_deploy.evaluation.session import EvalJob


def evaluated_otherwise(
    job: EvalJob,
    engines: tuple[Path, ...],
    output: Path | None,
    chosen: Further,
    of_coco: Sequence[str],
    *,
    as_json: bool,
) -> bool:
    """Do what ``chosen`` asks for; False where it asks for a plain COCO evaluation.

    ``of_coco`` are the options given that only such an evaluation heeds.
    """
    way = _way(job, chosen)
    if way is None:
        return False
    if of_coco:
        raise click.UsageError(f"{of_coco[0]} is for COCO evaluations, not for {way}")
    if job.engine_options.flip == "adaptive" and (chosen.ladder is not None or chosen.explain):
        raise click.UsageError("--explain and --ladder look at engines without --flip adaptive")
    if chosen.ladder is not None:
        job = dataclasses.replace(job, output=output or Path(f"{chosen.ladder.stem}.ladder.json"))
        show_ladder(job, chosen.ladder, engines, chosen, as_json=as_json)
    elif chosen.explain:
        if len(engines) > 1:
            raise click.UsageError("--explain looks at one engine at a time")
        show_explanation(job, chosen, as_json=as_json)
    else:
        if len(engines) > 1:
            raise click.UsageError("MPII is evaluated with one engine at a time")
        output = output or Path(f"{job.engine.stem}.mpii.json")
        show_mpii(dataclasses.replace(job, output=output), chosen, as_json=as_json)
    return True


def _way(job: EvalJob, chosen: Further) -> str | None:
    """What is asked for instead of a plain COCO evaluation; None where nothing is."""
    if chosen.ladder is not None:
        return "--ladder"
    if chosen.explain:
        return "--explain"
    return "MPII" if _is_mpii(job, chosen) else None


def _is_mpii(job: EvalJob, chosen: Further) -> bool:
    from hrnet_deploy.evaluation.mpii import looks_like_mpii

    if chosen.dataset is not None:
        return chosen.dataset == "mpii"
    return looks_like_mpii(job.annotations)
