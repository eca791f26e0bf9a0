"""A COCO specification without a network, and CPU time measured in turns."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from typing import Literal

from hrnet_deploy.keypoints import keypoint_set
from hrnet_deploy.spec import ModelSpec


def coco_spec(
    architecture: str = "stub",
    *,
    size_hw: tuple[int, int] = (256, 192),
    flip_test: bool = True,
    precision: Literal["fp32", "fp16", "int8"] = "fp32",
) -> ModelSpec:
    """What an exported HRNet of 17 keypoints would say of itself."""
    known = keypoint_set("coco_17")
    return ModelSpec(
        architecture=architecture,
        input_size_hw=size_hw,
        heatmap_size_hw=(size_hw[0] // 4, size_hw[1] // 4),
        keypoint_set=known.name,
        keypoint_names=known.names,
        flip_pairs=known.flip_pairs,
        sigmas=known.sigmas,
        skeleton=known.skeleton,
        flip_test=flip_test,
        shift_heatmap=flip_test,
        source_sha256="0" * 64,
        precision=precision,
    )


def cpu_seconds(
    ways: Mapping[str, Callable[[], object]], rounds: int, *, warmup: int = 1
) -> dict[str, list[float]]:
    """CPU seconds of all threads by way, in turns in a new order each round.

    CPU time, not the clock's: other load on the machine counts far less.
    """
    taken: dict[str, list[float]] = {name: [] for name in ways}
    order, chance = list(ways), random.Random(0)
    for number in range(-warmup, rounds):
        chance.shuffle(order)
        for name in order:
            start = time.process_time()
            ways[name]()
            if number >= 0:
                taken[name].append(time.process_time() - start)
    return taken
