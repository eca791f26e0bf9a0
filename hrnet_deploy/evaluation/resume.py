"""Which pictures are still to do, in the batches that an uninterrupted run would have made."""

from __future__ import annotations

from collections.abc import Container, Sequence

from hrnet_deploy.runtime.jobs import ImageJob


def remaining_jobs(
    jobs: Sequence[ImageJob], finished: Container[object], batch_size: int
) -> tuple[list[ImageJob], list[ImageJob]]:
    """The jobs that go on after the finished ones, and those that were passed over before them.

    Backends round differently in other batches, so a run that goes on starts at the border of a
    batch: the first list begins with the last persons before that point, fewer than a batch, where
    the border lies among them. They fill up the batch only; their key is None.
    """
    done = [index for index, job in enumerate(jobs) if job.key in finished]
    if not done:
        return list(jobs), []
    following = done[-1] + 1
    passed_over = [job for job in jobs[:following] if job.key not in finished]
    if following == len(jobs):
        return [], passed_over
    surplus = sum(len(job.geometry) for job in jobs[:following]) % batch_size
    filling: list[ImageJob] = []
    for job in reversed(jobs[:following]):
        if surplus <= 0:
            break
        persons = min(surplus, len(job.geometry))
        filling.append(ImageJob(None, job.path, job.geometry[len(job.geometry) - persons :]))
        surplus -= persons
    return [*reversed(filling), *jobs[following:]], passed_over
