"""One evaluation on disk: its result file, its detections, and the journal between them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hrnet_deploy.evaluation.journal import Journal
from hrnet_deploy.evaluation.plan import EvalPlan, prepare
from hrnet_deploy.evaluation.result import detections_path, measure, read_finished, write_result
from hrnet_deploy.evaluation.run import Progress, StopSignal, infer
from hrnet_deploy.evaluation.settings import EvalSettings
from hrnet_deploy.files import check_input_file, check_output_file
from hrnet_deploy.runtime.engine_options import EngineOptions
from hrnet_deploy.talk import Say


@dataclass(frozen=True)
class EvalJob:
    """The files and choices of one command.

    ``fresh`` starts over and replaces the result of any earlier run.
    """

    engine: Path
    annotations: Path
    images: Path
    output: Path
    boxes: Path | None = None
    engine_options: EngineOptions = field(default_factory=EngineOptions)
    fresh: bool = False
    settings: EvalSettings = field(default_factory=EvalSettings)

    @property
    def journal(self) -> Path:
        """Where the journal lies until the result is complete."""
        return self.output.with_name(self.output.name + ".journal")


@dataclass(frozen=True)
class Watch:
    """Who is told what happens: talk, progress within one evaluation, and signals.

    ``working`` surrounds the inference, which ``stop`` can end and which goes on the next time.
    """

    say: Say
    progress: Progress | None = None
    working: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext
    stop: StopSignal = lambda: None


def evaluate_to_files(job: EvalJob, watch: Watch) -> dict[str, Any]:
    """The content of the result file, from an earlier run where one is complete.

    The journal stays where pictures had to be left out: another run tries only those again.
    """
    check_inputs(job)
    with job.engine_options.open(job.engine, watch.say) as engine:
        plan = prepare(engine, job.annotations, job.images, boxes=job.boxes, settings=job.settings)
        finished = None if job.fresh else read_finished(job.output, plan.fingerprint)
        if finished is not None and not job.journal.exists():
            watch.say(f"{job.output}: done already; --fresh evaluates again")
            return finished
        return _evaluate(job, plan, watch)


def check_inputs(job: EvalJob) -> None:
    """Refuse wrong paths before the engine is loaded."""
    inputs = [check_input_file(job.engine, what="engine (.onnx or .plan)")]
    inputs.append(check_input_file(job.annotations, what="annotation file"))
    if job.boxes is not None:
        inputs.append(check_input_file(job.boxes, what="boxes file"))
    for output in (job.output, detections_path(job.output), job.journal):
        check_output_file(output, force=True, inputs=tuple(inputs))


def _evaluate(job: EvalJob, plan: EvalPlan, watch: Watch) -> dict[str, Any]:
    joints, say = plan.engine.spec.joints, watch.say
    with Journal(
        job.journal, plan.fingerprint, joints=joints, fresh=job.fresh, warn=say
    ) as journal:
        if journal.finished:
            say(f"{job.journal}: going on after {len(journal.finished)} of {len(plan.jobs)} images")
        with watch.working():
            inferred = infer(plan, journal, progress=watch.progress, stop=watch.stop)
        result = measure(plan, inferred)
        write_result(result, job.output)
        if not result.skipped:
            journal.remove()
    say(f"written: {job.output}, {detections_path(job.output)}")
    if result.skipped:
        say(f"kept: {job.journal}; the same command again tries only what was left out")
    return result.as_json()
