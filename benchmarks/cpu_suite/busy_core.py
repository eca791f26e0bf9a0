"""The same ways while another process takes all it gets of one core."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from sections import Missing

from cpu_suite import Context, Steps
from cpu_suite.contenders import agreement, all_ways
from cpu_suite.prepare import jobs_of
from hrnet_deploy.benchmark.measure import Task, interleaved

BUSY = """
import os, sys
os.sched_setaffinity(0, {int(sys.argv[1])})
parent = os.getppid()
print("busy", flush=True)
while os.getppid() == parent:
    for _ in range(1000000):
        pass
"""
QUIET, DISTURBED = "quiet: ", "busy: "


class Occupant:
    """A process that counts on the first core of ours; stopped until it is wanted."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def work(self, running: bool) -> None:
        """Let it run, or hold it."""
        self._process.send_signal(signal.SIGCONT if running else signal.SIGSTOP)


@contextmanager
def occupant() -> Iterator[Occupant]:
    """A held busy process, which is ended afterwards."""
    core = str(min(os.sched_getaffinity(0)))
    command = [sys.executable, "-c", BUSY, core]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            found = Occupant(process)
            found.work(False)
            yield found
        finally:
            process.kill()


def run(context: Context) -> dict[str, Any]:
    """Seconds of every way with and without the busy core, all in turn in every round."""
    if not hasattr(os, "sched_setaffinity"):
        raise Missing("this system does not pin a process to a core")
    jobs = jobs_of(context, max(2, context.persons // 2))
    with ExitStack() as stack:
        ways = all_ways(context, jobs, stack)
        agreement(ways)
        other = stack.enter_context(occupant())
        tasks = []
        for name, way in ways.items():
            tasks.append(Task(QUIET + name, way))
            tasks.append(Task(DISTURBED + name, lambda way=way: _disturbed(way, other)))
        timings = interleaved(
            tasks, rounds=context.few_rounds, warmup=0, progress=Steps("with a busy core")
        )
    return {
        "pictures": len(jobs),
        "persons": sum(len(job.geometry) for job in jobs),
        "seconds": {name: timings.seconds[QUIET + name] for name in ways},
        "busy_seconds": {name: timings.seconds[DISTURBED + name] for name in ways},
    }


def _disturbed(way: Any, other: Occupant) -> None:
    other.work(True)
    try:
        way()
    finally:
        other.work(False)
