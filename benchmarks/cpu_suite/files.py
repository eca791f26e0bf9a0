"""From picture files to keypoints: all ways in turn, in every round."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

from cpu_suite import Context, Steps, say
from cpu_suite.contenders import agreement, all_ways
from cpu_suite.prepare import jobs_of
from hrnet_deploy.benchmark.measure import Task, interleaved


def run(context: Context) -> dict[str, Any]:
    """Seconds of every way and round, and the share of keypoints that it gives the same."""
    jobs = jobs_of(context)
    with ExitStack() as stack:
        ways = all_ways(context, jobs, stack)
        started = time.perf_counter()
        same = agreement(ways)
        say(f"the first runs took {time.perf_counter() - started:.0f} s, compilers included")
        timings = interleaved(
            [Task(name, way) for name, way in ways.items()],
            rounds=context.rounds,
            warmup=0,  # comparing the keypoints has warmed all of them up
            progress=Steps("from files to keypoints"),
        )
    return {
        "pictures": len(jobs),
        "persons": sum(len(job.geometry) for job in jobs),
        "seconds": timings.seconds,
        "same_keypoints": same,
    }
