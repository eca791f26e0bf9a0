"""Adaptive flip-test: one pass for everybody, the mirrored one for persons in doubt.

The mirrored pass is merged outside of the graph, as the graph of an exact flip-test does it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.engines import Engine, EngineOutput, NonFiniteOutput
from hrnet_deploy.errors import InputError
from hrnet_deploy.runtime.decode import decode_heatmaps, merge_flipped

MEASURE = "mean of 4 p (1 - p) over the keypoint scores p"
"""What ``doubt`` computes, by name; chosen among others in ``benchmarks/adaptive_flip.py``."""

CROPS_AT_ONCE = 32
"""A call with more crops is split, where the engine inside does not say how."""

Place = TypeVar("Place")


def doubt(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """How ambiguous the heatmaps of each person are, (N,) in 0 to 1, from their maxima (N, K).

    A keypoint that is surely there (score 1) or surely not (0) adds nothing, one in between (0.5)
    most. Scores outside of 0 to 1 count as the nearest of the two.
    """
    p = np.clip(scores.astype(np.float64), 0, 1)
    mean: NDArray[np.float64] = (4 * p * (1 - p)).mean(axis=1)
    return mean


class FlipEngine(Engine):
    """An engine without flip-test in its graph, with one around it.

    Persons whose ``doubt`` is at least ``threshold`` get a second pass on their mirror image, and
    then exactly the pose that an exact flip-test gives; the others keep the pose of the first. A
    threshold of 0 is a flip-test for everybody. Closing it closes the engine inside. May be called
    from several threads at once where that engine may.
    """

    def __init__(self, engine: Engine, threshold: float) -> None:
        check_flippable(engine)
        super().__init__(engine.spec, engine.info, None)
        self.inner = engine
        self.threshold = threshold

    def first(self, crops_nhwc: NDArray[np.uint8]) -> EngineOutput:
        """The first pass, with heatmaps; ``second_pass`` says who is to get another one."""
        output = self.inner.run(crops_nhwc, heatmaps=True)
        in_doubt = doubt(output.scores) >= self.threshold
        return EngineOutput(output.keypoints_heatmap, output.scores, output.heatmaps_nkhw, in_doubt)

    def second(
        self, mirrored_nhwc: NDArray[np.uint8], straight_nkhw: NDArray[np.float32]
    ) -> EngineOutput:
        """Poses of the heatmaps of first passes, averaged with those of the mirrored crops."""
        mirrored = _heatmaps(self.inner.run(mirrored_nhwc, heatmaps=True))
        pairs, shift = self.spec.flip_pairs or (), self.spec.shift_heatmap
        merged = merge_flipped(straight_nkhw, mirrored, pairs, shift=shift)
        keypoints, scores = decode_heatmaps(merged, self.spec.decode)
        output = EngineOutput(keypoints, scores, merged, np.ones(len(merged), np.bool_))
        self._check_output(output, len(merged))  # the maximum in a graph may pass over NaN
        return output

    def _infer(self, crops_nhwc: NDArray[np.uint8], *, heatmaps: bool) -> EngineOutput:
        """Both passes; memory for heatmaps is that of a batch."""
        count = len(crops_nhwc)
        step = min(count, self.inner.max_batch or CROPS_AT_ONCE)
        batches = (crops_nhwc[start : start + step] for start in range(0, count, step))
        return run_batches(self, batches, count, step, heatmaps=heatmaps)

    def _release(self) -> None:
        self.inner.close()


def check_flippable(engine: Engine) -> None:
    """Raise InputError for an engine that no flip-test can be put around."""
    spec, path = engine.spec, engine.info.path
    if spec.flip_test:
        problem = "has the flip-test in its graph, with two passes for everybody"
        raise InputError(path, f"{problem}; adaptive was asked for", "Export it with --no-flip")
    if not spec.has_heatmaps:
        problem = "was exported with --no-heatmaps, an adaptive flip-test needs them"
        raise InputError(path, problem, "Export it again with --no-flip and without that flag")
    if spec.flip_pairs is None:
        problem = f"does not know which of its {spec.joints} keypoints are left and right"
        raise InputError(path, problem, "Export it with a recipe that has flip_pairs")


def _heatmaps(output: EngineOutput) -> NDArray[np.float32]:
    if output.heatmaps_nkhw is None:
        raise TypeError("the engine gave no heatmaps although it was asked for them")
    return output.heatmaps_nkhw


def persons_in_doubt(first: EngineOutput) -> list[int]:
    """Who is to get a second pass after a first one."""
    rows = np.zeros(0, np.intp) if first.second_pass is None else np.flatnonzero(first.second_pass)
    persons: list[int] = rows.tolist()
    return persons


class SecondPasses(Generic[Place]):
    """Persons in doubt, until there is a full batch of their mirror images.

    ``Place`` is whatever tells the caller whose they are. Memory is that of ``size`` persons.
    """

    def __init__(self, engine: FlipEngine, size: int) -> None:
        spec = engine.spec
        self.engine = engine
        self._crops = np.empty((size, *spec.input_size_hw, 3), np.uint8)
        self._heatmaps = np.empty((size, spec.joints, *spec.heatmap_size_hw), np.float32)
        self._places: list[Place] = []

    def __len__(self) -> int:
        return len(self._places)

    @property
    def full(self) -> bool:
        """Whether ``run`` has to be called before the next ``add``."""
        return len(self._places) == len(self._crops)

    def add(
        self, crop_hwc: NDArray[np.uint8], first: EngineOutput, person: int, place: Place
    ) -> None:
        """Take a copy of a crop, mirrored, and of the person's heatmaps in its first pass."""
        row = len(self._places)
        self._crops[row] = crop_hwc[:, ::-1]
        self._heatmaps[row] = _heatmaps(first)[person]
        self._places.append(place)

    def run(self) -> Iterator[tuple[list[Place], EngineOutput | None]]:
        """The second pass of all that wait: places with their output, None where it is not finite.

        Empties the queue.
        """
        places, self._places = self._places, []
        rows = np.arange(len(places))
        while len(rows):
            try:
                output = self.engine.second(self._crops[rows], self._heatmaps[rows])
            except NonFiniteOutput as fault:
                yield [places[row] for row in rows[fault.indices]], None
                rows = np.delete(rows, fault.indices)
            else:
                yield [places[row] for row in rows], output
                return


def run_batches(
    engine: Engine,
    batches: Iterable[NDArray[np.uint8]],
    count: int,
    batch_size: int,
    *,
    heatmaps: bool = False,
) -> EngineOutput:
    """The output for ``count`` persons in a row, whose crops come in batches.

    The second passes of a ``FlipEngine`` fill batches of ``batch_size`` of their own. A batch is
    not looked at again once the next one is taken. NonFiniteOutput names all rows of ``count``
    that it is about.
    """
    whole = _nothing_yet(engine, count, heatmaps=heatmaps)
    waiting = SecondPasses[int](engine, batch_size) if isinstance(engine, FlipEngine) else None
    lost: list[int] = []
    done = 0
    for crops in batches:
        rows = np.arange(done, done := done + len(crops))
        try:
            if waiting is None:
                output = engine.run(crops, heatmaps=heatmaps)
            else:
                output = waiting.engine.first(crops)
        except NonFiniteOutput as fault:
            lost += rows[fault.indices].tolist()
            continue
        _put(whole, rows, output)
        if waiting is None:
            continue
        for person in persons_in_doubt(output):
            waiting.add(crops[person], output, person, int(rows[person]))
            if waiting.full:
                lost += _take(waiting, whole)
    if waiting is not None:
        lost += _take(waiting, whole)
    if lost:
        raise NonFiniteOutput(engine.info.path, np.array(sorted(lost), np.intp), count)
    return whole


def _take(waiting: SecondPasses[int], whole: EngineOutput) -> list[int]:
    """Run the second passes that wait into ``whole``; the rows that came out as NaN."""
    lost: list[int] = []
    for rows, output in waiting.run():
        if output is None:
            lost += rows
        else:
            _put(whole, np.array(rows, np.intp), output)
    return lost


def _nothing_yet(engine: Engine, count: int, *, heatmaps: bool) -> EngineOutput:
    spec = engine.spec
    maps = (count, spec.joints, *spec.heatmap_size_hw)
    return EngineOutput(
        np.zeros((count, spec.joints, 2), np.float32),
        np.zeros((count, spec.joints), np.float32),
        np.zeros(maps, np.float32) if heatmaps else None,
        np.zeros(count, np.bool_) if isinstance(engine, FlipEngine) else None,
    )


def _put(whole: EngineOutput, rows: NDArray[np.intp], output: EngineOutput) -> None:
    """Write the output of some persons over theirs in ``whole``."""
    whole.keypoints_heatmap[rows] = output.keypoints_heatmap
    whole.scores[rows] = output.scores
    if whole.heatmaps_nkhw is not None and output.heatmaps_nkhw is not None:
        whole.heatmaps_nkhw[rows] = output.heatmaps_nkhw
    if whole.second_pass is not None and output.second_pass is not None:
        whole.second_pass[rows] = output.second_pass
