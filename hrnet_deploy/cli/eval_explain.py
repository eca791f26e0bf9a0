"""``eval --explain``: the causes of an unexpected AP, the most likely first."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hrnet_deploy.cli.figures import figure, interval_text
from hrnet_deploy.cli.options import print_json, print_table, say
from hrnet_deploy.cli.published import VAL2017_IMAGES
from hrnet_deploy.errors import DeployError, printable

if TYPE_CHECKING:
    from hrnet_deploy.cli.eval_options import Further
    from hrnet_deploy.evaluation.case import BareNetwork, Expected
    from hrnet_deploy.evaluation.doctor import Explanation
    from hrnet_deploy.evaluation.plan import EvalPlan
    from hrnet_deploy.evaluation.session import EvalJob
    from hrnet_deploy.export.recipes import Recipe


def show_explanation(job: EvalJob, chosen: Further, *, as_json: bool) -> None:
    """``eval --explain``: the causes, the most likely first."""
    from hrnet_deploy.evaluation.case import DoctorSettings
    from hrnet_deploy.evaluation.doctor import explain
    from hrnet_deploy.evaluation.plan import prepare
    from hrnet_deploy.evaluation.session import check_inputs

    check_inputs(job)
    settings = dataclasses.replace(job.settings, allow_missing=True, keep_going=True)
    with job.engine_options.open(job.engine, say) as engine:
        plan = prepare(engine, job.annotations, job.images, boxes=job.boxes, settings=settings)
        recipe = _recipe(engine.spec.recipe)
        measured, measured_from = _measured(job, plan, chosen.measured_ap)
        network, any_size = _bare(job.engine, plan)
        explanation = explain(
            plan,
            network=network,
            any_size=any_size,
            settings=DoctorSettings(chosen.sample, chosen.seconds, chosen.seed),
            expected=_expected(plan, recipe, chosen.expected_ap),
            measured=measured,
            measured_from=measured_from,
            trained_size_hw=None if recipe is None else recipe.input_size_hw,
            say=say,
        )
    if as_json:
        print_json(explanation.as_json())
    else:
        _print_explanation(explanation)


def _recipe(name: str | None) -> Recipe | None:
    from hrnet_deploy.export.recipes import load_recipe

    if name is None:
        return None
    try:
        return load_recipe(name)
    except DeployError:
        return None


def _expected(plan: EvalPlan, recipe: Recipe | None, given: float | None) -> Expected:
    """The AP to compare with: as given, or as the recipe's publisher has it for such boxes."""
    from hrnet_deploy.evaluation.case import Expected

    if given is not None:
        return Expected(given, "--expected-ap")
    boxes = plan.fingerprint["data"]["boxes"]
    key = f"ap_{boxes.replace(' ', '_')}_boxes"
    if recipe is None or recipe.published_on != "COCO val2017" or key not in recipe.published:
        return Expected(source="no published figure is known")
    source = f"published for {recipe.name} on COCO val2017 in {boxes} boxes"
    listed = len(plan.annotations.images)
    if listed != VAL2017_IMAGES:
        source += f"; these are {listed} images, not its {VAL2017_IMAGES}: hardly comparable"
    return Expected(recipe.published[key] / 100, source, boxes, VAL2017_IMAGES)


def _measured(job: EvalJob, plan: EvalPlan, given: float | None) -> tuple[float | None, str]:
    """The AP to explain: as given, or that of a finished evaluation of the same run."""
    from hrnet_deploy.evaluation.result import read_finished

    if given is not None:
        return given, "--measured-ap"
    try:
        finished = read_finished(job.output, plan.fingerprint)
    except DeployError:
        finished = None
    if finished is None or finished.get("AP") is None:
        return None, ""
    return float(finished["AP"]), str(job.output)


def _bare(engine_path: Path, plan: EvalPlan) -> tuple[BareNetwork | None, bool]:
    """The network without what surrounds it, and whether it takes crops of any size.

    From the file, from the ONNX file of the same network beside a plan, or from an engine without
    flip-test; None where none of them gives it.
    """
    spec = plan.engine.spec
    source = engine_path.with_suffix(".onnx")
    if source.is_file():
        from hrnet_deploy.export.bare import bare_engine

        try:
            bare = bare_engine(source)
        except DeployError as error:
            say(f"note: {error}")
        else:
            if bare.spec.source_sha256 == spec.source_sha256:
                return bare.raw_heatmaps, True
    engine = plan.engine
    if spec.flip_test or not spec.has_heatmaps:
        return None, False

    def heatmaps(crops_nhwc: Any) -> Any:
        return engine.run(crops_nhwc, heatmaps=True).heatmaps_nkhw

    return heatmaps, False


def _print_explanation(explanation: Explanation) -> None:
    from rich.table import Table

    from hrnet_deploy.evaluation.findings import CAUSES

    sample = explanation.sample_ap
    lines = [
        f"expected AP {figure(explanation.expected)} ({explanation.expected_from})",
        f"measured AP {figure(explanation.measured)} ({explanation.measured_from})",
        f"sample: {explanation.sample_persons} boxes in {explanation.sample_images} images,"
        f" AP {interval_text(sample)}",
    ]
    table = Table(title="\n".join(map(printable, lines)), title_justify="left")
    table.add_column("cause")
    table.add_column("verdict")
    table.add_column("what speaks for it")
    for finding in explanation.findings:
        says = finding.says + (f". {finding.remedy}" if finding.remedy else "")
        table.add_row(CAUSES[finding.cause], finding.verdict, printable(says))
    print_table(table)
    click.echo(printable(conclusion(explanation)))


def conclusion(explanation: Explanation) -> str:
    """The answer in one line."""
    from hrnet_deploy.evaluation.findings import CAUSES

    found = [f for f in explanation.findings if f.verdict == "found"]
    gap = None
    if explanation.expected is not None and explanation.measured is not None:
        gap = explanation.expected - explanation.measured
    if not found:
        say_gap = "." if gap is None else f" for a gap of {gap:+.3f} AP."
        possible = [CAUSES[f.cause] for f in explanation.findings if f.verdict == "possible"]
        rest = f" Possible: {'; '.join(possible)}." if possible else ""
        return f"No cause was found{say_gap}{rest}"
    first = found[0]
    share = f" It is worth {first.effect:.3f} AP on the sample"
    share += "." if gap is None else f"; {gap:+.3f} are to be explained."
    return f"Most likely: {CAUSES[first.cause]}.{share} {first.remedy}."
