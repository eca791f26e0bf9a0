"""One benchmark from artefacts to a result; what is finished survives an interruption."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrnet_deploy.benchmark.ceiling import Ceiling, copy_ceiling, gemm_ceilings
from hrnet_deploy.benchmark.contenders import Contender, Way, first_spec, open_contenders, ways
from hrnet_deploy.benchmark.end_to_end import (
    Pictures,
    crops_for,
    end_to_end,
    jobs_for,
    second_pass_share,
    stage_seconds,
)
from hrnet_deploy.benchmark.figures import add_figures
from hrnet_deploy.benchmark.machine import machine_facts, momentary_facts
from hrnet_deploy.benchmark.measure import (
    Progress,
    Stop,
    Task,
    Timings,
    interleaved,
    is_out_of_memory,
)
from hrnet_deploy.benchmark.memory import peak_mb
from hrnet_deploy.benchmark.results import SCHEMA_VERSION
from hrnet_deploy.benchmark.statistics import summarise
from hrnet_deploy.benchmark.watch import Watch
from hrnet_deploy.engines.cpu import physical_cores
from hrnet_deploy.errors import DeployError, EnvironmentFault, InputError
from hrnet_deploy.runtime.flip_choice import flip_facts
from hrnet_deploy.runtime.image import read_image
from hrnet_deploy.runtime.jobs import ImageJob

SWEEP_SHARE = 3
"""The batch sweep has one round for so many of the main measurement, at least ``MIN_ROUNDS``."""
MIN_ROUNDS = 3


@dataclass(frozen=True)
class BenchmarkJob:
    """What to measure and how often; ``pictures`` None leaves the way from files out.

    ``flips`` are the kinds of flip-test, none for what each engine contains. An adaptive one needs
    ``pictures``: its work depends on the persons.
    """

    artefacts: tuple[Path, ...]
    backends: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    device: str | None = None
    threads: int | None = None
    flips: tuple[str, ...] = ()
    flip_threshold: float | None = None
    batch: int = 8
    sweep: tuple[int, ...] = (1, 2, 4, 8, 16)
    rounds: int = 20
    warmup: int = 2
    ceiling: bool = True
    memory: bool = True
    pictures: Pictures | None = None


def run_benchmark(
    job: BenchmarkJob,
    *,
    say: Callable[[str], None],
    stop: Stop = lambda: None,
    progress: Progress = lambda done, total: None,
) -> dict[str, Any]:
    """Measure everything and return the result, with ``stopped`` where a signal cut it short.

    Raises what a wrong input or a missing device raises before anything is measured. An error in
    the middle ends the measurement; ``failed`` then says so and what was finished is kept.
    """
    if "adaptive" in job.flips and job.pictures is None:
        problem = "is adaptive, whose work depends on the persons"
        raise InputError("flip", problem, "Give --images and --annotations")
    if job.flip_threshold is not None and "adaptive" not in job.flips:
        problem = "belongs to the adaptive flip-test"
        raise InputError("flip_threshold", problem, "Ask for that too, or leave it out")
    all_ways = ways(
        job.artefacts,
        job.backends,
        job.precisions,
        device=job.device,
        threads=job.threads,
        flips=job.flips,
        flip_threshold=job.flip_threshold,
    )
    with ExitStack() as stack:
        contenders = open_contenders(all_ways, stack, say=say)
        session = _Session(job, contenders, say, stop, progress)
        session.prepare()
        session.measure()
        if session.going_on and job.memory:
            session.measure_memory(all_ways)
        return session.result()


class _Session:
    """The state of one benchmark."""

    def __init__(
        self,
        job: BenchmarkJob,
        contenders: Sequence[Contender],
        say: Callable[[str], None],
        stop: Stop,
        progress: Progress,
    ) -> None:
        self.job, self.contenders = job, contenders
        self._say, self._stop, self._progress = say, stop, progress
        self._batches: dict[str, int] = {}
        self._timings, self._sweeps, self._whole = Timings(), Timings(), Timings()
        self._stages: dict[str, dict[str, list[float]]] = {c.name: {} for c in contenders}
        self._memory: dict[str, float | None] = {}
        self._ceilings: list[Ceiling] = []
        self._notes: list[str] = []
        self._failed: DeployError | None = None
        self._jobs = self._whole_jobs()
        self._shares: dict[str, float | None] = {}

    def _whole_jobs(self) -> dict[str, list[ImageJob]]:
        if self.job.pictures is None:
            return {}
        return {c.name: jobs_for(self.job.pictures, c.engine.spec) for c in self.contenders}

    @property
    def going_on(self) -> bool:
        """Whether nothing has ended the measurement yet."""
        parts = (self._timings, self._sweeps, self._whole)
        return self._failed is None and all(part.stopped is None for part in parts)

    def prepare(self) -> None:
        """See that every picture can be read, find a batch that fits, and the machine's limits."""
        for path in dict.fromkeys(job.path for jobs in self._jobs.values() for job in jobs):
            read_image(path)
        for contender in self.contenders:
            self._batches[contender.name] = self._fitting_batch(contender)
        if not self.job.ceiling:
            return
        precisions = {c.engine.info.precision for c in self.contenders}
        threads = self.job.threads or physical_cores()
        self._ceilings = [*gemm_ceilings(precisions, threads).values(), copy_ceiling()]

    def measure(self) -> None:
        """All rounds; an error of a device or an engine ends them, what was measured stays."""
        self._before, self._watch = momentary_facts(), Watch()
        try:
            self._measure_engines()
            if self.going_on and self.job.sweep:
                self._measure_sweep()
            if self.going_on and self._jobs:
                self._measure_whole()
        except (EnvironmentFault, InputError) as error:
            # After a fault of a device nothing that follows in this process can be trusted.
            self._failed = error
        self._disturbance, self._after = self._watch.disturbance(), momentary_facts()

    def measure_memory(self, all_ways: Sequence[Way]) -> None:
        """Peak memory, each in its own process, after the clock has stopped."""
        spec = first_spec(all_ways)
        for contender in self.contenders:
            if self._stop() is None:
                self._say(f"memory of {contender.name}")
                self._memory[contender.name] = peak_mb(
                    contender.way, spec or contender.engine.spec, self._batches[contender.name]
                )

    def _measure_engines(self) -> None:
        self._say(f"engines alone, {self.job.rounds} interleaved rounds")
        tasks = [self._task(c, self._batches[c.name], c.name) for c in self.contenders]
        self._timings = interleaved(
            [*tasks, *(ceiling.task for ceiling in self._ceilings)],
            rounds=self.job.rounds,
            warmup=self.job.warmup,
            stop=self._stop,
            progress=self._progress,
        )
        self._notes += list(self._timings.failed.values())

    def _measure_sweep(self) -> None:
        self._say(f"batch sweep, {self._few_rounds} rounds")
        tasks = [
            self._task(c, size, f"{c.name} @ {size}")
            for size in sorted(self.job.sweep)
            for c in self.contenders
        ]
        self._sweeps = self._interleaved(tasks)
        self._notes += list(self._sweeps.failed.values())

    def _measure_whole(self) -> None:
        for contender in self.contenders:
            share = second_pass_share(contender, self._jobs[contender.name], self.job.batch)
            self._shares[contender.name] = share
            if share is not None:
                self._notes.append(f"{contender.name}: {share:.1%} of the persons looked at twice")
        self._say(f"from files to keypoints, {self._few_rounds} rounds")
        self._whole = end_to_end(
            self.contenders,
            self._jobs,
            batch=self.job.batch,
            rounds=self._few_rounds,
            stop=self._stop,
            progress=self._progress,
        )
        for _ in range(MIN_ROUNDS):
            for contender in self.contenders:
                if self._stop() is not None:
                    return
                name = contender.name
                times = stage_seconds(contender.engine, self._jobs[name], self.job.batch)
                for stage, seconds in times.items():
                    self._stages[name].setdefault(stage, []).append(seconds)

    @property
    def _few_rounds(self) -> int:
        return max(MIN_ROUNDS, self.job.rounds // SWEEP_SHARE)

    def _interleaved(self, tasks: list[Task]) -> Timings:
        return interleaved(
            tasks, rounds=self._few_rounds, warmup=1, stop=self._stop, progress=self._progress
        )

    def _task(self, contender: Contender, batch: int, name: str) -> Task:
        crops = crops_for(contender.engine, self._jobs.get(contender.name, ()), batch)
        return Task(name, lambda: contender.engine.run(crops))

    def _fitting_batch(self, contender: Contender) -> int:
        """The batch that was asked for, halved as often as memory runs out."""
        batch = self.job.batch
        while True:
            try:
                self._task(contender, batch, contender.name).work()
                break
            except EnvironmentFault as error:
                if not is_out_of_memory(error) or batch == 1:
                    raise
                batch //= 2
        if batch < self.job.batch:
            note = f"{contender.name}: batch {self.job.batch} ran out of memory, {batch} is used"
            self._notes.append(note)
            self._say(note)
        return batch

    def result(self) -> dict[str, Any]:
        """Everything that is known, in the form of the result file."""
        parts = (self._timings, self._sweeps, self._whole)
        run: dict[str, Any] = {
            "schema": SCHEMA_VERSION,
            "time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "machine": machine_facts(self.job.threads),
            "before": self._before,
            "after": self._after,
            "disturbance": dataclasses.asdict(self._disturbance),
            "settings": self._settings(),
            "ceilings": {c.task.name: self._ceiling(c) for c in self._ceilings},
            "rows": [self._row(contender) for contender in self.contenders],
            "end_to_end": self._end_to_end(),
            "notes": self._notes,
            "failed": None if self._failed is None else str(self._failed),
            "failed_exit_code": None if self._failed is None else self._failed.exit_code,
            "stopped": next((p.stopped for p in parts if p.stopped is not None), self._stop()),
        }
        run["warnings"] = self._disturbance.warnings(_machine_spread(run["ceilings"]))
        return add_figures(run)

    def _settings(self) -> dict[str, Any]:
        names = ("device", "threads", "batch", "sweep", "rounds", "warmup")
        settings = {name: getattr(self.job, name) for name in names}
        if self.job.flips:
            settings["flips"] = list(self.job.flips)
        pictures = self.job.pictures
        settings["pictures"] = None if pictures is None else pictures.limit
        return settings

    def _ceiling(self, ceiling: Ceiling) -> dict[str, Any]:
        seconds = self._timings.seconds.get(ceiling.task.name, [])
        return {
            "library": ceiling.library,
            "amount": ceiling.amount,
            "seconds": _rounded(seconds),
            "rate": ceiling.rate(summarise(seconds).median) if seconds else None,
        }

    def _row(self, contender: Contender) -> dict[str, Any]:
        info, spec, name = contender.engine.info, contender.engine.spec, contender.name
        sweep = {
            str(size): _rounded(self._sweeps.seconds.get(f"{name} @ {size}", []))
            for size in self.job.sweep
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
            "batch": self._batches[name],
            "cost": None if contender.cost is None else dataclasses.asdict(contender.cost),
            "seconds": _rounded(self._timings.seconds.get(name, [])),
            "sweep": {size: seconds for size, seconds in sweep.items() if seconds},
            "peak_mb": self._memory.get(name),
        }

    def _end_to_end(self) -> dict[str, Any]:
        jobs: list[ImageJob] = next(iter(self._jobs.values()), [])
        return {
            "pictures": len(jobs),
            "persons": sum(len(one.geometry) for one in jobs),
            "rows": {
                contender.name: {
                    "second_pass_share": self._shares.get(contender.name),
                    "seconds": _rounded(self._whole.seconds.get(contender.name, [])),
                    "stages": {
                        stage: _rounded(seconds)
                        for stage, seconds in self._stages[contender.name].items()
                    },
                }
                for contender in (self.contenders if self._jobs else ())
            },
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
