"""The host's work alone: the same ways around networks that cost nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import cv2

from cpu_suite import Context, Steps, pipelines, say
from cpu_suite.prepare import Files, jobs_of
from hrnet_deploy.benchmark.measure import Task, interleaved
from hrnet_deploy.errors import InputError
from hrnet_deploy.runtime.jobs import ImageJob

MANY = range(8, 1000)
"""Persons in a crowded picture, whose reading costs each of them little."""

ROUNDS = 4
"""Times the rounds of the other sections: one takes hundredths of a second."""


def run(context: Context) -> dict[str, Any]:
    """Processor seconds and wall seconds of every way and round; all in one host thread but ours.

    Processor time is what the host takes from the network on a machine whose cores are all busy;
    ours reads and crops in threads of its own, so that wall time would flatter it.
    """
    found = {"several": _on(jobs_of(context), context)}
    try:
        found["many"] = _on(jobs_of(context, 4 * context.persons, MANY), context)
    except InputError:
        say(f"no picture has {MANY.start} persons")
    return found


def _on(jobs: list[ImageJob], context: Context) -> dict[str, Any]:
    """Both parts on these pictures, OpenCV in one thread."""
    spec = Files.of(context).spec
    stub, engine = pipelines.stub_network(spec), pipelines.StubEngine(spec)
    images = [cv2.imread(str(job.path), pipelines.READ_FLAGS) for job in jobs]
    whole = {
        "official pipeline": lambda: pipelines.official(stub, jobs, spec),
        "rtmlib's way": lambda: pipelines.one_person_per_call(stub, jobs, spec),
        "batches, numpy": lambda: pipelines.batched_numpy(stub, jobs, spec, context.batch),
        "hrnet-deploy": lambda: pipelines.ours(engine, jobs, context.batch),
    }
    before = {
        "rtmlib's way": lambda: pipelines.normalised_one_by_one(images, jobs, spec),
        "hrnet-deploy": lambda: pipelines.our_crops(images, jobs, spec),
    }
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        return {
            "pictures": len(jobs),
            "persons": sum(len(job.geometry) for job in jobs),
            "whole": _measured(whole, context, "host"),
            "pre_processing": _measured(before, context, "pre-processing"),
        }
    finally:
        cv2.setNumThreads(threads)


def _measured(
    ways: dict[str, Callable[[], Any]], context: Context, what: str
) -> dict[str, dict[str, list[float]]]:
    rounds = ROUNDS * context.rounds
    cpu: dict[str, list[float]] = {name: [] for name in ways}

    def timed(name: str) -> None:
        start = time.process_time()
        ways[name]()
        cpu[name].append(time.process_time() - start)

    tasks = [Task(name, lambda name=name: timed(name)) for name in ways]
    timings = interleaved(tasks, rounds=rounds, warmup=2, progress=Steps(what))
    return {
        "seconds": timings.seconds,
        "cpu_seconds": {name: taken[-rounds:] for name, taken in cpu.items()},
    }
