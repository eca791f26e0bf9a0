from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hrnet_deploy.evaluation.resume import remaining_jobs
from hrnet_deploy.runtime.geometry import CropGeometry
from hrnet_deploy.runtime.jobs import ImageJob


def jobs_of(persons: list[int]) -> list[ImageJob]:
    """Jobs whose persons are numbered through by their boxes' x."""
    jobs, first = [], 0
    for key, count in enumerate(persons):
        boxes = np.array([[first + i, 0, 10, 10] for i in range(count)], float).reshape(-1, 4)
        jobs.append(
            ImageJob(key, Path(f"{key}.png"), CropGeometry.from_boxes_xywh(boxes, (48, 64)))
        )
        first += count
    return jobs


def numbers(jobs: list[ImageJob]) -> list[int]:
    return [round(float(x)) - 5 for job in jobs for x in job.geometry.center[:, 0]]


def batches(persons: list[int], size: int) -> list[list[int]]:
    return [persons[start : start + size] for start in range(0, len(persons), size)]


counts = st.lists(st.integers(1, 9), min_size=1, max_size=12)


@given(counts, st.integers(1, 8), st.integers(0, 12))
def test_going_on_makes_the_batches_of_an_uninterrupted_run(
    persons: list[int], size: int, done: int
) -> None:
    done = min(done, len(persons))
    jobs = jobs_of(persons)
    rest, passed_over = remaining_jobs(jobs, set(range(done)), size)
    assert passed_over == []
    whole = batches(numbers(jobs), size)
    assert batches(numbers(rest), size) == whole[len(whole) - len(batches(numbers(rest), size)) :]
    assert [job.key for job in rest if job.key is not None] == list(range(done, len(persons)))
    redone = sum(len(job.geometry) for job in rest if job.key is None)
    assert redone < size


@given(counts, st.integers(1, 8), st.sets(st.integers(0, 11)))
def test_every_unfinished_job_comes_exactly_once_and_whole(
    persons: list[int], size: int, done: set[int]
) -> None:
    jobs = jobs_of(persons)
    rest, passed_over = remaining_jobs(jobs, done, size)
    named = [job for job in (*rest, *passed_over) if job.key is not None]
    assert sorted(int(str(job.key)) for job in named) == sorted(set(range(len(persons))) - done)
    for job in named:
        assert len(job.geometry) == persons[int(str(job.key))]


def test_nothing_finished_is_the_whole_list() -> None:
    jobs = jobs_of([1, 2])
    assert remaining_jobs(jobs, set(), 4) == (jobs, [])
    assert remaining_jobs([], set(), 4) == ([], [])
