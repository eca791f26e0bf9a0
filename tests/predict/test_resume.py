"""A run that was cut anywhere gives what a whole one gives, where batches change what comes out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path, PurePath
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hrnet_deploy.engines import Engine, EngineInfo, EngineOutput
from hrnet_deploy.errors import InputError
from hrnet_deploy.predict.frames import Boxes, Finder, Frame
from hrnet_deploy.predict.journal import PredictJournal
from hrnet_deploy.predict.pipeline import Pipeline
from hrnet_deploy.runtime.flip import FlipEngine

FRAMES = 60
UNDECODABLE, NOT_FINITE, REFUSED = (5, 6, 30), (11, 22, 41), (17, 33)


class RoundingEngine(Engine):
    """Scores tell the size of the batch and the place in it; white crops give NaN."""

    def __init__(self, tiny: ModuleType) -> None:
        info = EngineInfo("rounding", "cpu", "rounding.onnx", "0" * 64, "fp32")
        super().__init__(tiny.tiny_spec(), info, None)

    def _infer(self, crops_nhwc: NDArray[np.uint8], *, heatmaps: bool) -> EngineOutput:
        count = len(crops_nhwc)
        scores = crops_nhwc[:, 32, 24].astype(np.float32) / 255
        scores[scores == 1] = np.nan
        scores = scores * 0.5 + 1e-3 * count + (1e-5 * np.arange(count, dtype=np.float32))[:, None]
        maps = np.broadcast_to(scores[..., None, None], (*scores.shape, 16, 12)).copy()
        return EngineOutput(np.zeros((*scores.shape, 2), np.float32), scores, maps)


class RoundingFinder(Finder):
    """Scores of boxes tell how many frames were looked at together, and the place among them."""

    at_once = 3

    def many(self, frames: Sequence[Frame]) -> list[Boxes]:
        found = []
        for place, frame in enumerate(frames):
            count = (frame.number or 0) % 4
            xyxy = np.tile([[8.0, 8.0, 56.0, 72.0]], (count, 1))
            found.append(Boxes(xyxy, np.full(count, len(frames) + 0.1 * place)))
        return found


def refusing(frame: Frame) -> Boxes:
    """One by one; some frames are refused."""
    if frame.number in REFUSED:
        raise InputError("boxes", "are none", "Give others")
    return RoundingFinder().many([frame])[0]


def frames(journal: PredictJournal) -> Iterator[Frame]:
    """As the feed gives them: those that the journal has come without pixels."""
    name = "video.mp4"
    for number in range(FRAMES):
        error, image = None, None
        if number in UNDECODABLE:
            error = InputError(name, f"frame {number} cannot be decoded", "Copy it again")
        if not journal.has(name, number) and error is None:
            level = 255 if number in NOT_FINITE else 3 * number
            image = np.full((80, 64, 3), level, np.uint8)
        elif journal.has(name, number):
            error = None  # it was not tried to decode it
        yield Frame(name, PurePath(name), image, 0, number=number, error=error)


def run(path: Path, engine: Engine, boxes_of: Any, count: int = FRAMES) -> list[Any]:
    """The first ``count`` results, each as plain values."""
    with PredictJournal(path, {"engine": "x"}, ("blue", "green", "red")) as journal:
        pipeline = Pipeline(
            engine, boxes_of, batch_size=4, known=journal.known, earlier=journal.earlier
        )
        results = journal.kept(pipeline.chunks(frames(journal)))
        return [
            (r.frame.number, str(r.error), r.poses.scores.tolist(), r.boxes.scores.tolist())
            for r in islice(results, count)
        ]


@pytest.fixture(params=["each", "together"])
def boxes_of(request: pytest.FixtureRequest) -> Any:
    return refusing if request.param == "each" else RoundingFinder()


@pytest.fixture(params=["exact", "adaptive"])
def engine(request: pytest.FixtureRequest, tiny: ModuleType) -> Engine:
    made = RoundingEngine(tiny)
    return made if request.param == "exact" else FlipEngine(made, 0.3)


def test_any_number_of_cuts_changes_nothing(engine: Engine, boxes_of: Any, tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", engine, boxes_of)
    assert len(whole) == FRAMES
    assert sum("NaN" in error for _, error, _, _ in whole) == len(NOT_FINITE)
    for cut in range(1, FRAMES, 3):
        path = tmp_path / f"{cut}"
        assert run(path, engine, boxes_of, cut) == whole[:cut]
        assert run(path, engine, boxes_of, min(FRAMES, cut + 7)) == whole[: cut + 7]
        assert run(path, engine, boxes_of) == whole
        assert run(path, engine, boxes_of) == whole


def test_what_a_kill_or_a_full_disk_leaves(engine: Engine, boxes_of: Any, tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", engine, boxes_of)
    content = (tmp_path / "whole").read_bytes()
    path = tmp_path / "cut"
    for cut in range(0, len(content), 331):
        path.write_bytes(content[:cut])
        assert run(path, engine, boxes_of) == whole
        assert path.read_bytes() == content
