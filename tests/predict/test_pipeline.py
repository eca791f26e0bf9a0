from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray

from hrnet_deploy.engines import Engine, EngineInfo, EngineOutput
from hrnet_deploy.predict.frames import Boxes, Frame
from hrnet_deploy.predict.pipeline import BATCHES_PER_SECOND_PASS, Pipeline
from hrnet_deploy.runtime.flip import FlipEngine

SURE, UNSURE = 255, 127


class GreyEngine(Engine):
    """Scores are the grey level of the crop's middle; the sizes of all batches are kept."""

    def __init__(self, tiny: ModuleType) -> None:
        info = EngineInfo("grey", "cpu", "grey.onnx", "0" * 64, "fp32")
        super().__init__(tiny.tiny_spec(), info, None)
        self.batches: list[int] = []

    def _infer(self, crops_nhwc: NDArray[np.uint8], *, heatmaps: bool) -> EngineOutput:
        self.batches.append(len(crops_nhwc))
        scores = crops_nhwc[:, 32, 24].astype(np.float32) / 255
        maps = np.zeros((*scores.shape, *self.spec.heatmap_size_hw), np.float32)
        maps[..., 4, 4] = scores
        keypoints = np.zeros((*scores.shape, 2), np.float32)
        return EngineOutput(keypoints, scores, maps if heatmaps else None)


def one_person(frame: Frame) -> Boxes:
    return Boxes(np.array([[8.0, 8.0, 56.0, 72.0]]), np.ones(1))


@pytest.mark.parametrize("live", [False, True])
def test_adaptive_flip_test_of_a_video(tiny: ModuleType, live: bool) -> None:
    """Every third frame shows somebody in doubt: order kept, second passes in full batches."""
    taken = 0

    def frames() -> Iterator[Frame]:
        nonlocal taken
        for number in range(120):
            taken += 1
            image = np.full((80, 64, 3), SURE if number % 3 else UNSURE, np.uint8)
            yield Frame("video.mp4", PurePath("video.mp4"), image, 0, number=number)

    engine = GreyEngine(tiny)
    pipeline = Pipeline(FlipEngine(engine, 0.5), one_person, batch_size=8, live=live)
    ahead = []
    for number, result in enumerate(pipeline(frames())):
        ahead.append(taken - number)
        assert result.frame.number == number
        assert result.second_passes == (number % 3 == 0)
    assert len(ahead) == 120
    assert max(ahead) <= (1 if live else 8 * BATCHES_PER_SECOND_PASS)
    if not live:
        assert set(engine.batches) == {8}
        assert len(engine.batches) == (120 + 40) / 8
