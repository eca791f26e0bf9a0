"""Persons of pictures in memory to the engine's output, whoever cuts the crops."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from hrnet_deploy.engines import Engine, EngineOutput, NonFiniteOutput, joined
from hrnet_deploy.runtime.crops import batches_of, crop_batches
from hrnet_deploy.runtime.flip import run_batches
from hrnet_deploy.runtime.frame_engine import (
    FrameEngine,
    Images,
    Pending,
    submit_persons,
    takes_frames,
)
from hrnet_deploy.runtime.geometry import CropGeometry

Collect = Callable[[], list[EngineOutput]]


def run_persons(
    engine: Engine,
    images_bgr: Images,
    geometries: Sequence[CropGeometry],
    *,
    batch_size: int,
    heatmaps: bool = False,
) -> list[EngineOutput]:
    """The engine's output for the persons of each picture, one entry a picture.

    ``geometries`` say where the persons of each picture are; persons of several pictures share
    batches of ``batch_size`` crops. A picture without persons may be None. NonFiniteOutput counts
    the persons of all pictures in a row.
    """
    return start_persons(engine, images_bgr, geometries, batch_size=batch_size, heatmaps=heatmaps)()


def start_persons(
    engine: Engine,
    images_bgr: Images,
    geometries: Sequence[CropGeometry],
    *,
    batch_size: int,
    heatmaps: bool = False,
) -> Collect:
    """``run_persons`` in two steps: the call that is returned gives the output.

    An engine that cuts the crops itself, as a plan does, works from now on; it needs the pictures
    no more. Any other works when it is asked for the output.
    """
    counts = [len(geometry) for geometry in geometries]
    if takes_frames(engine) and any(counts):
        started = _started(engine, images_bgr, geometries, batch_size, heatmaps=heatmaps)
        return lambda: _split(_collected(engine, started, sum(counts)), counts)

    def run() -> list[EngineOutput]:
        size = min(batch_size, sum(counts))
        crops = crop_batches(images_bgr, geometries, engine.spec.input_size_hw, batch_size)
        return _split(run_batches(engine, crops, sum(counts), size, heatmaps=heatmaps), counts)

    return run


def _started(
    engine: FrameEngine,
    images_bgr: Images,
    geometries: Sequence[CropGeometry],
    batch_size: int,
    *,
    heatmaps: bool,
) -> list[tuple[int, Pending]]:
    """Every batch on its way, with the number of its first person."""
    size = min(batch_size, engine.max_batch or batch_size)
    started = []
    for number, batch in enumerate(batches_of([len(own) for own in geometries], size)):
        images = [images_bgr[index] for index, _ in batch]
        parts = [geometries[index][persons] for index, persons in batch]
        pending = submit_persons(engine, images, parts, heatmaps=heatmaps)
        started.append((number * size, pending))
    return started


def _collected(
    engine: FrameEngine, started: Sequence[tuple[int, Pending]], count: int
) -> EngineOutput:
    """What all batches gave; an error names every person that it is about."""
    outputs: list[EngineOutput] = []
    lost: list[int] = []
    for first, pending in started:
        try:
            outputs.append(pending.result())
        except NonFiniteOutput as fault:
            lost += (fault.indices + first).tolist()
    if lost:
        raise NonFiniteOutput(engine.info.path, np.array(lost, np.intp), count)
    return joined(outputs)


def _split(whole: EngineOutput, counts: Sequence[int]) -> list[EngineOutput]:
    """The output of all persons in a row, cut after ``counts`` persons each."""
    parts, start = [], 0
    for count in counts:
        own = slice(start, start := start + count)
        maps = None if whole.heatmaps_nkhw is None else whole.heatmaps_nkhw[own]
        second = None if whole.second_pass is None else whole.second_pass[own]
        parts.append(EngineOutput(whole.keypoints_heatmap[own], whole.scores[own], maps, second))
    return parts
