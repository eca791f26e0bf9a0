"""What else the machine did while something was measured, and how warm it became."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from hrnet_deploy.engines.cpu import physical_cores

_STAT = Path("/proc/stat")
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100

OTHERS_LIMIT = 0.1
"""Cores' worth of foreign work from which figures are called disturbed."""

SPREAD_LIMIT = 0.10
"""Interquartile range over median of the machine's own speed, from which it is called noisy."""


@dataclass(frozen=True)
class Disturbance:
    """``others_cores`` is what other processes (and the hypervisor) took, in whole cores.

    None where the system does not say. ``load`` is the one-minute load average at the start and
    at the end.
    """

    seconds: float
    own_cores: float
    others_cores: float | None
    load: tuple[float, float] | None

    def warnings(self, machine_spread: float | None) -> list[str]:
        """Sentences on what makes the figures doubtful; none on a quiet machine."""
        found = []
        if self.others_cores is not None and self.others_cores > OTHERS_LIMIT:
            found.append(
                f"other processes took {self.others_cores:.2f} of {physical_cores()} cores: "
                "these figures are disturbed"
            )
        if machine_spread is not None and machine_spread > SPREAD_LIMIT:
            found.append(
                f"the machine's own speed (a fixed matrix product) varied by {machine_spread:.0%} "
                "between rounds: differences below that mean nothing"
            )
        return found


class Watch:
    """Started on construction; ``disturbance`` says what happened since then."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._own = _own_seconds()
        self._busy = _busy_seconds()
        self._load = _load()

    def disturbance(self) -> Disturbance:
        """What happened until now."""
        seconds = max(time.perf_counter() - self._start, 1e-9)
        own = _own_seconds() - self._own
        busy, load = _busy_seconds(), _load()
        others = None
        if busy is not None and self._busy is not None:
            others = max(0.0, busy - self._busy - own) / seconds
        loads = None if load is None or self._load is None else (self._load, load)
        return Disturbance(seconds, own / seconds, others, loads)


def _own_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _busy_seconds() -> float | None:
    """Seconds of all processors that were not idle, time stolen by the hypervisor included."""
    try:
        words = _STAT.read_text().splitlines()[0].split()
        user, nice, system, _, _, interrupt, soft, steal = map(int, words[1:9])
    except (OSError, ValueError, IndexError):
        return None
    return (user + nice + system + interrupt + soft + steal) / _TICKS_PER_SECOND


def _load() -> float | None:
    try:
        return os.getloadavg()[0]
    except (OSError, AttributeError):
        return None
