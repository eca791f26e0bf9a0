"""Made-up pictures and boxes, and an engine with a clock, for what is measured around engines."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.benchmark.machine import machine_facts
from hrnet_deploy.engines import Engine, EngineOutput

PICTURE_SIZE_WH = (640, 480)
PICTURES = 16
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}


def picture_files(folder: Path | None, temporary: Path) -> list[Path]:
    """The pictures of ``folder``, or made-up ones in ``temporary``."""
    if folder is not None:
        return sorted(f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES)[:PICTURES]
    rng = np.random.default_rng(0)
    files = []
    for number in range(PICTURES):
        picture = np.zeros((PICTURE_SIZE_WH[1], PICTURE_SIZE_WH[0], 3), np.float32)
        for cells in (4, 16, 64, 256):
            noise = rng.uniform(-1, 1, (cells, cells, 3)).astype(np.float32)
            picture += cv2.resize(noise, PICTURE_SIZE_WH)
        files.append(temporary / f"{number}.jpg")
        cv2.imwrite(str(files[-1]), np.clip(127 + 50 * picture, 0, 255).astype(np.uint8))
    return files


def boxes_in(image_size_hw: tuple[int, ...], persons: int) -> NDArray[np.float64]:
    """Boxes (persons, 4) left, top, width, height of people's proportions, from a seed."""
    rng = np.random.default_rng(persons)
    height, width = image_size_hw[:2]
    tall = rng.uniform(0.25, 0.9, persons) * height
    boxes = np.stack(
        [rng.uniform(0, 0.7, persons) * width, rng.uniform(0, 1, persons) * (height - tall)], axis=1
    )
    return np.concatenate([boxes, np.stack([tall * 0.45, tall], axis=1)], axis=1)


class Timed(Engine):
    """An engine that counts the seconds spent inside another one."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine.spec, engine.info, engine.max_batch)
        self.inner, self.seconds = engine, 0.0

    def _infer(self, crops_nhwc: Any, *, heatmaps: bool) -> EngineOutput:
        start = time.perf_counter()
        try:
            return self.inner.run(crops_nhwc, heatmaps=heatmaps)
        finally:
            self.seconds += time.perf_counter() - start


def named(engine: Engine) -> str:
    """What an engine is, in words."""
    spec, (height, width) = engine.spec, engine.spec.input_size_hw
    flip = " flip-test" if spec.flip_test else ""
    return f"{spec.architecture} {height}x{width} {spec.precision}{flip}, {engine.info.backend}"


def machine(threads: int | None) -> dict[str, Any]:
    """What the figures were measured on, with the load when they were."""
    return {**machine_facts(threads), "load_average_1min": round(os.getloadavg()[0], 2)}
