"""What a benchmark measured, and the form in which a result file holds it."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hrnet_deploy.benchmark.ceiling import Ceiling
from hrnet_deploy.benchmark.contenders import Contender
from hrnet_deploy.benchmark.figures import add_figures
from hrnet_deploy.benchmark.job import BenchmarkJob
from hrnet_deploy.benchmark.machine import machine_facts
from hrnet_deploy.benchmark.measure import Timings
from hrnet_deploy.benchmark.results import SCHEMA_VERSION
from hrnet_deploy.benchmark.statistics import summarise
from hrnet_deploy.benchmark.watch import Disturbance
from hrnet_deploy.errors import DeployError
from hrnet_deploy.runtime.flip_choice import flip_facts
from hrnet_deploy.runtime.jobs import ImageJob

UNWATCHED = Disturbance(seconds=0.0, own_cores=0.0, others_cores=None, load=None)


@dataclass
class Measured:
    """What is known of the contenders so far, by their names.

    ``engines``, ``sweeps`` and ``whole`` are seconds of engines alone, of the batch sweep (by
    ``sweep_name``) and of the way from files; ``stages`` those of its parts. ``batches`` are the
    persons at a time, ``shares`` of the second passes, ``memory_mb`` peaks. ``before`` and
    ``after`` are the machine's clocks and temperatures. ``failed`` ended the rounds early.
    """

    engines: Timings = field(default_factory=Timings)
    sweeps: Timings = field(default_factory=Timings)
    whole: Timings = field(default_factory=Timings)
    stages: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    batches: dict[str, int] = field(default_factory=dict)
    shares: dict[str, float | None] = field(default_factory=dict)
    memory_mb: dict[str, float | None] = field(default_factory=dict)
    ceilings: list[Ceiling] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    disturbance: Disturbance = UNWATCHED
    failed: DeployError | None = None

    @property
    def stopped(self) -> int | None:
        """The number of the signal that ended the rounds; None where none did."""
        parts = (self.engines, self.sweeps, self.whole)
        return next((part.stopped for part in parts if part.stopped is not None), None)

    @property
    def going_on(self) -> bool:
        """Whether nothing has ended the measurement yet."""
        return self.failed is None and self.stopped is None


def sweep_name(contender: str, batch: int) -> str:
    """What the sweep's task of one batch is called."""
    return f"{contender} @ {batch}"


def record(
    job: BenchmarkJob,
    contenders: Sequence[Contender],
    pictures: Sequence[ImageJob],
    measured: Measured,
) -> dict[str, Any]:
    """Everything that is known, in the form of the result file; ``pictures`` were read."""
    ceilings = {ceiling.task.name: _ceiling(ceiling, measured) for ceiling in measured.ceilings}
    failed = measured.failed
    run: dict[str, Any] = {
        "schema": SCHEMA_VERSION,
        "time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": machine_facts(job.threads),
        "before": measured.before,
        "after": measured.after,
        "disturbance": dataclasses.asdict(measured.disturbance),
        "settings": _settings(job),
        "ceilings": ceilings,
        "rows": [_row(contender, job, measured) for contender in contenders],
        "end_to_end": {
            "pictures": len(pictures),
            "persons": sum(len(one.geometry) for one in pictures),
            "rows": {c.name: _whole(c.name, measured) for c in contenders if pictures},
        },
        "notes": measured.notes,
        "failed": None if failed is None else str(failed),
        "failed_exit_code": None if failed is None else failed.exit_code,
        "stopped": measured.stopped,
        "warnings": measured.disturbance.warnings(_machine_spread(ceilings)),
    }
    return add_figures(run)


def _settings(job: BenchmarkJob) -> dict[str, Any]:
    names = ("device", "threads", "batch", "sweep", "rounds", "warmup")
    settings = {name: getattr(job, name) for name in names}
    if job.flips:
        settings["flips"] = list(job.flips)
    settings["pictures"] = None if job.pictures is None else job.pictures.limit
    return settings


def _ceiling(ceiling: Ceiling, measured: Measured) -> dict[str, Any]:
    seconds = measured.engines.seconds.get(ceiling.task.name, [])
    return {
        "library": ceiling.library,
        "amount": ceiling.amount,
        "seconds": _rounded(seconds),
        "rate": ceiling.rate(summarise(seconds).median) if seconds else None,
    }


def _row(contender: Contender, job: BenchmarkJob, measured: Measured) -> dict[str, Any]:
    info, spec, name = contender.engine.info, contender.engine.spec, contender.name
    sweep = {
        str(size): _rounded(measured.sweeps.seconds.get(sweep_name(name, size), []))
        for size in job.sweep
    }
    return {
        "name": name,
        "artefact": contender.way.path.name,
        "sha256": info.sha256,
        "backend": info.backend,
        "precision": info.precision,
        "device": info.device,
        "versions": dict(info.versions),
        "architecture": spec.architecture,
        "input_size_hw": list(spec.input_size_hw),
        "flip_test": spec.flip_test,
        "flip": flip_facts(contender.engine),
        "batch": measured.batches[name],
        "cost": None if contender.cost is None else dataclasses.asdict(contender.cost),
        "seconds": _rounded(measured.engines.seconds.get(name, [])),
        "sweep": {size: seconds for size, seconds in sweep.items() if seconds},
        "peak_mb": measured.memory_mb.get(name),
    }


def _whole(name: str, measured: Measured) -> dict[str, Any]:
    """One contender's way from files to keypoints."""
    stages = measured.stages.get(name, {})
    return {
        "second_pass_share": measured.shares.get(name),
        "seconds": _rounded(measured.whole.seconds.get(name, [])),
        "stages": {stage: _rounded(seconds) for stage, seconds in stages.items()},
    }


def _rounded(seconds: Sequence[float]) -> list[float]:
    """To a tenth of a microsecond: more is noise."""
    return [round(value, 7) for value in seconds]


def _machine_spread(ceilings: dict[str, Any]) -> float | None:
    """How much the machine's own speed varied: the spread of its matrix product."""
    spreads = [
        summarise(entry["seconds"]).spread
        for name, entry in ceilings.items()
        if name.startswith("gemm") and entry["seconds"]
    ]
    return max(spreads, default=None)
