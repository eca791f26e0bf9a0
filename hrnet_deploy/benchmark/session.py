"""One benchmark from artefacts to a result; what is finished survives an interruption."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from hrnet_deploy.benchmark.ceiling import copy_ceiling, gemm_ceilings
from hrnet_deploy.benchmark.contenders import Contender, Way, first_spec, open_contenders, ways
from hrnet_deploy.benchmark.end_to_end import (
    crops_for,
    end_to_end,
    jobs_for,
    second_pass_share,
    stage_seconds,
)
from hrnet_deploy.benchmark.job import BenchmarkJob
from hrnet_deploy.benchmark.machine import momentary_facts
from hrnet_deploy.benchmark.measure import Progress, Stop, Task, interleaved, is_out_of_memory
from hrnet_deploy.benchmark.memory import peak_mb
from hrnet_deploy.benchmark.record import Measured, record, sweep_name
from hrnet_deploy.benchmark.watch import Watch
from hrnet_deploy.engines.cpu import physical_cores
from hrnet_deploy.errors import EnvironmentFault, InputError
from hrnet_deploy.runtime.image import read_image
from hrnet_deploy.runtime.jobs import ImageJob
from hrnet_deploy.talk import Say

SWEEP_SHARE = 3
"""The batch sweep has one round for so many of the main measurement, at least ``MIN_ROUNDS``."""
MIN_ROUNDS = 3


def run_benchmark(
    job: BenchmarkJob,
    *,
    say: Say,
    stop: Stop = lambda: None,
    progress: Progress = lambda done, total: None,
) -> dict[str, Any]:
    """Measure everything and return the result, with ``stopped`` where a signal cut it short.

    Raises what a wrong input or a missing device raises before anything is measured. An error in
    the middle ends the measurement; ``failed`` then says so and what was finished is kept.
    """
    job.check()
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
        if session.measured.going_on and job.memory:
            session.measure_memory(all_ways)
        return session.result()


class _Session:
    """What is measured, and with what."""

    def __init__(
        self,
        job: BenchmarkJob,
        contenders: Sequence[Contender],
        say: Say,
        stop: Stop,
        progress: Progress,
    ) -> None:
        self.job, self.contenders = job, contenders
        self.measured = Measured()
        self._say, self._stop, self._progress = say, stop, progress
        self._jobs: dict[str, list[ImageJob]] = {}
        if job.pictures is not None:
            self._jobs = {c.name: jobs_for(job.pictures, c.engine.spec) for c in contenders}

    def prepare(self) -> None:
        """See that every picture can be read, find a batch that fits, and the machine's limits."""
        for path in dict.fromkeys(job.path for jobs in self._jobs.values() for job in jobs):
            read_image(path)
        for contender in self.contenders:
            self.measured.batches[contender.name] = self._fitting_batch(contender)
        if not self.job.ceiling:
            return
        precisions = {c.engine.info.precision for c in self.contenders}
        threads = self.job.threads or physical_cores()
        self.measured.ceilings = [*gemm_ceilings(precisions, threads).values(), copy_ceiling()]

    def measure(self) -> None:
        """All rounds; an error of a device or an engine ends them, what was measured stays."""
        measured = self.measured
        measured.before, watch = momentary_facts(), Watch()
        try:
            self._measure_engines()
            if measured.going_on and self.job.sweep:
                self._measure_sweep()
            if measured.going_on and self._jobs:
                self._measure_whole()
        except (EnvironmentFault, InputError) as error:
            # After a fault of a device nothing that follows in this process can be trusted.
            measured.failed = error
        measured.disturbance, measured.after = watch.disturbance(), momentary_facts()

    def measure_memory(self, all_ways: Sequence[Way]) -> None:
        """Peak memory, each in its own process, after the clock has stopped."""
        spec = first_spec(all_ways)
        for contender in self.contenders:
            if self._stop() is None:
                self._say(f"memory of {contender.name}")
                batch = self.measured.batches[contender.name]
                self.measured.memory_mb[contender.name] = peak_mb(
                    contender.way, spec or contender.engine.spec, batch, say=self._say
                )

    def result(self) -> dict[str, Any]:
        """Everything that is known, in the form of the result file."""
        pictures = next(iter(self._jobs.values()), [])
        run = record(self.job, self.contenders, pictures, self.measured)
        return run if run["stopped"] is not None else {**run, "stopped": self._stop()}

    def _measure_engines(self) -> None:
        self._say(f"engines alone, {self.job.rounds} interleaved rounds")
        measured = self.measured
        tasks = [self._task(c, measured.batches[c.name], c.name) for c in self.contenders]
        measured.engines = interleaved(
            [*tasks, *(ceiling.task for ceiling in measured.ceilings)],
            rounds=self.job.rounds,
            warmup=self.job.warmup,
            stop=self._stop,
            progress=self._progress,
        )
        measured.notes += measured.engines.failed.values()

    def _measure_sweep(self) -> None:
        self._say(f"batch sweep, {self._few_rounds} rounds")
        tasks = [
            self._task(c, size, sweep_name(c.name, size))
            for size in sorted(self.job.sweep)
            for c in self.contenders
        ]
        self.measured.sweeps = interleaved(
            tasks, rounds=self._few_rounds, warmup=1, stop=self._stop, progress=self._progress
        )
        self.measured.notes += self.measured.sweeps.failed.values()

    def _measure_whole(self) -> None:
        measured = self.measured
        for contender in self.contenders:
            share = second_pass_share(contender, self._jobs[contender.name], self.job.batch)
            measured.shares[contender.name] = share
            if share is not None:
                twice = f"{share:.1%} of the persons looked at twice"
                measured.notes.append(f"{contender.name}: {twice}")
        self._say(f"from files to keypoints, {self._few_rounds} rounds")
        measured.whole = end_to_end(
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
                self._measure_stages(contender)

    def _measure_stages(self, contender: Contender) -> None:
        times = stage_seconds(contender.engine, self._jobs[contender.name], self.job.batch)
        stages = self.measured.stages.setdefault(contender.name, {})
        for stage, seconds in times.items():
            stages.setdefault(stage, []).append(seconds)

    @property
    def _few_rounds(self) -> int:
        return max(MIN_ROUNDS, self.job.rounds // SWEEP_SHARE)

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
            self.measured.notes.append(note)
            self._say(note)
        return batch
