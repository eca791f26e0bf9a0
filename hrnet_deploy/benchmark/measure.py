"""Interleaved rounds: everything that is compared is measured again and again, in turn."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hrnet_deploy.errors import DeployError, EnvironmentFault

Stop = Callable[[], int | None]
"""Gives the number of the signal that asked to stop, None while nothing did."""
Progress = Callable[[int, int], None]
"""Called with the number of measurements done and of all."""

PAUSE_S = 0.005
"""Between two measurements: thread pools spin for a moment after their last piece of work."""


@dataclass(frozen=True)
class Task:
    """Something to measure: ``work`` is run once a round."""

    name: str
    work: Callable[[], object]


@dataclass
class Timings:
    """Seconds by task, round by round; every task has the same number of rounds.

    ``failed`` says in words why a task was given up. ``stopped`` is the number of the signal that
    ended the rounds early, None where all were done.
    """

    seconds: dict[str, list[float]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    stopped: int | None = None

    @property
    def rounds(self) -> int:
        """Complete rounds."""
        return min((len(values) for values in self.seconds.values()), default=0)


def interleaved(
    tasks: Sequence[Task],
    *,
    rounds: int,
    warmup: int,
    stop: Stop = lambda: None,
    progress: Progress = lambda done, total: None,
    seed: int = 0,
) -> Timings:
    """Measure every task ``rounds`` times after ``warmup`` rounds that do not count.

    In those each task runs twice in a row: some engines settle for a batch when it comes again.
    The order is drawn anew for every round, so that no task always follows the same one, and what
    drifts meets all alike. A task that runs out of memory is given up; any other error is raised.
    A signal ends it after the task in work; the rounds that are complete are kept.
    """
    timings = Timings({task.name: [] for task in tasks})
    left, order = list(tasks), random.Random(seed)  # noqa: S311 - no secret
    for number in range(-warmup, rounds):
        order.shuffle(left)
        taken: dict[str, float] = {}
        for task in list(left):
            timings.stopped = stop()
            if timings.stopped is not None:
                return timings
            seconds = _timed(task, timings)
            if number < 0 and seconds is not None:
                seconds = _timed(task, timings)
            if seconds is None:
                left.remove(task)
            else:
                taken[task.name] = seconds
            progress((number + warmup) * len(tasks) + len(taken), (rounds + warmup) * len(tasks))
        if number >= 0:
            for name, seconds in taken.items():
                timings.seconds[name].append(seconds)
    return timings


def _timed(task: Task, timings: Timings) -> float | None:
    """Seconds of one run; None where memory ran out, which is noted."""
    time.sleep(PAUSE_S)
    start = time.perf_counter()
    try:
        task.work()
    except DeployError as error:
        if not is_out_of_memory(error):
            raise
        _give_up(task, timings, str(error))
        return None
    except MemoryError:
        _give_up(task, timings, f"{task.name}: ran out of memory")
        return None
    return time.perf_counter() - start


def _give_up(task: Task, timings: Timings, reason: str) -> None:
    timings.failed[task.name] = reason
    del timings.seconds[task.name]


def is_out_of_memory(error: DeployError) -> bool:
    """Whether an engine had too little memory, which a smaller batch would cure."""
    return isinstance(error, EnvironmentFault) and "memory" in error.problem
