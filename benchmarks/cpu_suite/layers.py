"""The network's own convolutions, alone: what the library reaches where nothing lies between them.

A matrix product of a size that suits the processor is no fair ceiling for layers of 32 channels.
Convolutions of one shape are chained (so that no input is arranged anew) and measured; those that
cannot be chained (strides, fewer than ``SHARE`` of the work) are taken at the ceiling itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hrnet_deploy.benchmark.ceiling import convolution_chain
from hrnet_deploy.benchmark.cost import Convolution
from hrnet_deploy.benchmark.measure import Task

SHARE = 0.02
LENGTH = 40
"""Convolutions in a chain: the first and the last also arrange input and output."""

Shape = tuple[int, tuple[int, ...], tuple[int, int]]


@dataclass(frozen=True)
class Chain:
    """Convolutions of one shape; ``flop`` of the network's own, ``amount`` of one measurement."""

    task: Task
    precision: str
    layers: str
    flop: float
    amount: float


def chains(
    convolutions: Sequence[Convolution], precisions: Iterable[str], threads: int
) -> list[Chain]:
    """One chain for each shape of stride 1 that matters and each precision."""
    work: dict[Shape, float] = defaultdict(float)
    for one in convolutions:
        if one.stride == 1:
            work[one.side, tuple(sorted(set(one.channels))), one.size_hw] += one.flop
    total = sum(one.flop for one in convolutions)
    found = []
    for (side, channels, size_hw), flop in work.items():
        # 256 to 64 channels by 3x3 occurs once in a network; its way back does not.
        if flop < SHARE * total or (len(channels) > 1 and side > 1):
            continue
        name = (
            f"{side}x{side}, {' and '.join(map(str, channels))} channels, {size_hw[0]}x{size_hw[1]}"
        )
        wide = [channels[number % len(channels)] for number in range(LENGTH + 1)]
        for precision in sorted(precisions):
            run, amount = convolution_chain(wide, side, size_hw, precision, threads)
            found.append(Chain(Task(f"{precision} {name}", run), precision, name, flop, amount))
    return found
