"""What ``eval`` does beside one COCO evaluation: explain an AP, and compare forms of a network."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hrnet_deploy.cli.options import print_json, print_table, say
from hrnet_deploy.cli.progress import progress_bar
from hrnet_deploy.cli.published import VAL2017_IMAGES
from hrnet_deploy.cli.signals import stop_on_signal
from hrnet_deploy.errors import EXIT_GATE, DeployError, printable

if TYPE_CHECKING:
    from hrnet_deploy.evaluation.doctor import BareNetwork, Explanation
    from hrnet_deploy.evaluation.resample import Interval
    from hrnet_deploy.evaluation.run import EvalPlan
    from hrnet_deploy.evaluation.session import EvalJob
    from hrnet_deploy.export.ladder import Rung
    from hrnet_deploy.export.recipes import Recipe

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--explain", is_flag=True, help="Say why AP is not the expected one, from a sample."
    ),
    click.option("--expected-ap", type=click.FloatRange(0, 1), help="Default: the published one."),
    click.option(
        "--measured-ap", type=click.FloatRange(0, 1), help="Default: of an earlier result."
    ),
    click.option(
        "--sample",
        type=click.IntRange(1, 100_000),
        default=200,
        show_default=True,
        help="Persons that --explain looks at.",
    ),
    click.option(
        "--seconds",
        type=click.FloatRange(1),
        default=120.0,
        show_default=True,
        help="After so long --explain starts no new run.",
    ),
    click.option("--seed", type=int, default=0, show_default=True, help="Of sample and intervals."),
    click.option(
        "--ladder",
        type=click.Path(path_type=Path),
        help="A checkpoint (.pth): evaluate every form of it, and the differences.",
    ),
    click.option(
        "--dataset",
        type=click.Choice(["coco", "mpii"]),
        help="Whose protocol is followed. Default: told from the annotations.",
    ),
    click.option(
        "--ground-truth",
        type=click.Path(path_type=Path),
        help="MPII's gt_valid.mat, where the annotations have no head boxes.",
    ),
)


def further_options(command: Command) -> Command:
    """Add the options of this module to the command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@dataclasses.dataclass(frozen=True)
class Further:
    """Their values."""

    explain: bool
    expected_ap: float | None
    measured_ap: float | None
    sample: int
    seconds: float
    seed: int
    ladder: Path | None
    dataset: str | None
    ground_truth: Path | None


def evaluated_otherwise(
    job: EvalJob,
    engines: tuple[Path, ...],
    output: Path | None,
    chosen: Further,
    *,
    as_json: bool,
) -> bool:
    """Do what ``chosen`` asks for; False where it asks for a plain COCO evaluation."""
    if chosen.ladder is not None:
        job = dataclasses.replace(job, output=output or Path(f"{chosen.ladder.stem}.ladder.json"))
        show_ladder(job, chosen.ladder, engines, chosen, as_json=as_json)
    elif chosen.explain:
        if len(engines) > 1:
            raise click.UsageError("--explain looks at one engine at a time")
        show_explanation(job, chosen, as_json=as_json)
    elif _is_mpii(job, chosen):
        if len(engines) > 1:
            raise click.UsageError("MPII is evaluated with one engine at a time")
        output = output or Path(f"{job.engine.stem}.mpii.json")
        show_mpii(dataclasses.replace(job, output=output), chosen, as_json=as_json)
    else:
        return False
    return True


def _is_mpii(job: EvalJob, chosen: Further) -> bool:
    from hrnet_deploy.evaluation.mpii import looks_like_mpii

    if chosen.dataset is not None:
        return chosen.dataset == "mpii"
    return looks_like_mpii(job.annotations)


def show_mpii(job: EvalJob, chosen: Further, *, as_json: bool) -> None:
    """PCKh, and predictions as the benchmark takes them where scipy is installed."""
    import importlib.util

    from hrnet_deploy.evaluation.mpii import read_mpii
    from hrnet_deploy.evaluation.mpii_run import evaluate_mpii, write_predictions
    from hrnet_deploy.evaluation.session import check_flip
    from hrnet_deploy.files import check_input_file, check_output_file, write_json

    inputs = (check_input_file(job.engine, what="engine (.onnx or .plan)"), job.annotations)
    matrix = job.output.with_name(f"{job.output.stem}.pred.mat")
    for output in (job.output, matrix):
        check_output_file(output, force=True, inputs=inputs)
    if job.boxes is not None or job.settings.limit is not None:
        raise click.UsageError("MPII has centre and scale of its own: leave --boxes, --limit out")
    persons = read_mpii(job.annotations, chosen.ground_truth)
    with job.open_engine() as engine:
        check_flip(engine, job)
        with progress_bar() as progress:
            result = evaluate_mpii(
                engine,
                persons,
                job.images,
                batch_size=job.settings.batch_size,
                progress=progress,
            )
        facts = result.as_json(engine, persons)
    write_json(job.output, facts)
    written = [str(job.output)]
    if importlib.util.find_spec("scipy") is not None:
        write_predictions(matrix, result.predictions)
        written.append(str(matrix))
    else:
        say("note: predictions as .mat need scipy: pip install 'hrnet-deploy[mpii]'")
    say(f"written: {', '.join(written)}")
    for note in result.notes:
        say(f"note: {note}")
    if as_json:
        print_json(facts)
    elif result.figures is not None:
        _print_pckh(facts, f"{job.engine.name} on {persons.path.name}")


def _print_pckh(facts: dict[str, Any], title: str) -> None:
    from rich.table import Table

    def percent(value: float | None) -> str:
        return "n/a" if value is None else f"{value:.2f}"

    table = Table(title=printable(title), caption=f"{facts['persons']} persons, PCKh in percent")
    table.add_column("")
    table.add_column("PCKh@0.5", justify="right")
    table.add_column("PCKh@0.1", justify="right")
    for name, value in facts["groups"].items():
        table.add_row(name, percent(value), "")
    table.add_section()
    for name, value in facts["joints"].items():
        table.add_row(name.replace("_", " "), percent(value), percent(facts["joints@0.1"][name]))
    table.add_section()
    table.add_row("Mean", percent(facts["PCKh@0.5"]), percent(facts["PCKh@0.1"]))
    table.add_row("Mean, official bin 0.11", "", percent(facts["PCKh@0.1_official_bin_0.11"]))
    print_table(table)


def show_explanation(job: EvalJob, chosen: Further, *, as_json: bool) -> None:
    """``eval --explain``: the causes, the most likely first."""
    from hrnet_deploy.evaluation.doctor import DoctorSettings, explain
    from hrnet_deploy.evaluation.run import prepare
    from hrnet_deploy.evaluation.session import check_inputs

    check_inputs(job)
    settings = dataclasses.replace(job.settings, allow_missing=True, keep_going=True)
    with job.open_engine() as engine:
        plan = prepare(engine, job.annotations, job.images, boxes=job.boxes, settings=settings)
        recipe = _recipe(engine.spec.recipe)
        expected, source, kind = _expected(plan, recipe, chosen.expected_ap)
        measured, measured_from = _measured(job, plan, chosen.measured_ap)
        network, any_size = _bare(job.engine, plan)
        explanation = explain(
            plan,
            network=network,
            any_size=any_size,
            settings=DoctorSettings(chosen.sample, chosen.seconds, chosen.seed),
            expected=expected,
            expected_from=source,
            expected_boxes=kind,
            expected_images=VAL2017_IMAGES if kind else None,
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


def _expected(
    plan: EvalPlan, recipe: Recipe | None, given: float | None
) -> tuple[float | None, str, str | None]:
    """The AP to compare with, where it comes from, and for which boxes it is."""
    if given is not None:
        return given, "--expected-ap", None
    boxes = plan.fingerprint["data"]["boxes"]
    key = f"ap_{boxes.replace(' ', '_')}_boxes"
    if recipe is None or recipe.published_on != "COCO val2017" or key not in recipe.published:
        return None, "no published figure is known", None
    source = f"published for {recipe.name} on COCO val2017 in {boxes} boxes"
    listed = len(plan.annotations.images)
    if listed != VAL2017_IMAGES:
        source += f"; these are {listed} images, not its {VAL2017_IMAGES}: hardly comparable"
    return recipe.published[key] / 100, source, boxes


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
        f"expected AP {_figure(explanation.expected)} ({explanation.expected_from})",
        f"measured AP {_figure(explanation.measured)} ({explanation.measured_from})",
        f"sample: {explanation.sample_persons} boxes in {explanation.sample_images} images,"
        f" AP {_interval(sample)}",
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


def _figure(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def _interval(interval: Interval | None, digits: int = 3, sign: str = "") -> str:
    if interval is None or interval.value is None:
        return "" if interval is None else "n/a"
    text = f"{interval.value:{sign}.{digits}f}"
    if interval.low is None or interval.high is None:
        return text
    return f"{text} [{interval.low:{sign}.{digits}f}, {interval.high:{sign}.{digits}f}]"


def show_ladder(
    job: EvalJob, checkpoint: Path, engines: tuple[Path, ...], chosen: Further, *, as_json: bool
) -> None:
    """``eval --ladder``: one table of all forms of a network, and the same as JSON."""
    from hrnet_deploy.export.ladder import LadderJob, climb
    from hrnet_deploy.files import check_input_file, check_output_file, write_json

    inputs = [check_input_file(checkpoint, what="checkpoint")]
    check_output_file(job.output, force=True, inputs=tuple(inputs))
    ladder = LadderJob(
        checkpoint,
        job.annotations,
        job.images,
        job.boxes,
        engines,
        job.device,
        job.threads,
        chosen.seed,
        job.settings,
    )
    with stop_on_signal() as stop, progress_bar() as progress:
        rungs = climb(ladder, say=say, progress=progress, stop=stop)
    content = {
        "kind": "hrnet-deploy ladder",
        "schema": 1,
        "checkpoint": checkpoint.name,
        "seed": chosen.seed,
        "rungs": [rung.as_json() for rung in rungs],
    }
    write_json(job.output, content)
    say(f"written: {job.output}")
    if as_json:
        print_json(content)
    else:
        _print_ladder(rungs, f"{checkpoint.name} on {job.annotations.name}")
    if any("left out" in rung.label for rung in rungs):
        say(f"failed: {rungs[0].label}")
        raise click.exceptions.Exit(EXIT_GATE)


def _print_ladder(rungs: list[Rung], title: str) -> None:
    from rich.table import Table

    label = "" if rungs[0].label == "full" else f"\n{rungs[0].label}"
    table = Table(title=printable(title) + label, caption="95 % bootstrap intervals over images")
    for name in ("boxes", "flip", "engine", "AP", "AP50", "AP75", "to PyTorch", "by the flip-test"):
        table.add_column(name, justify="left" if name in ("boxes", "flip", "engine") else "right")
    last = None
    for rung in rungs:
        kind = (rung.boxes, rung.flip_test)
        if last is not None and kind != last:
            table.add_section()
        last = kind
        table.add_row(
            rung.boxes,
            "yes" if rung.flip_test else "no",
            printable(rung.name),
            _interval(rung.ap),
            _figure(rung.stats["AP50"]),
            _figure(rung.stats["AP75"]),
            _interval(rung.to_reference, 4, "+"),
            _interval(rung.flip_gain, 3, "+"),
        )
    print_table(table)
