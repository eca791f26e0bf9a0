"""``eval`` on MPII: PCKh and the benchmark's predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hrnet_deploy.cli.options import print_json, print_table, say
from hrnet_deploy.cli.progress import progress_bar
from hrnet_deploy.errors import printable

if TYPE_CHECKING:
    from hrnet_deploy.cli.eval_options import Further
    from hrnet_deploy.evaluation.session import EvalJob


def show_mpii(job: EvalJob, chosen: Further, *, as_json: bool) -> None:
    """PCKh, and predictions as the benchmark takes them where scipy is installed."""
    import importlib.util

    from hrnet_deploy.evaluation.mpii import read_mpii
    from hrnet_deploy.evaluation.mpii_run import evaluate_mpii, write_predictions
    from hrnet_deploy.files import check_input_file, check_output_file, write_json

    inputs = (check_input_file(job.engine, what="engine (.onnx or .plan)"), job.annotations)
    matrix = job.output.with_name(f"{job.output.stem}.pred.mat")
    for output in (job.output, matrix):
        check_output_file(output, force=True, inputs=inputs)
    persons = read_mpii(job.annotations, chosen.ground_truth)
    with job.engine_options.open(job.engine, say) as engine:
        with progress_bar() as progress:
            result = evaluate_mpii(
                engine,
                persons,
                job.images,
                batch_size=job.settings.batch_size,
                max_pixels=job.settings.max_pixels,
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
