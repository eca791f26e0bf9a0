"""Timing by repetition, with the spread and the GPU's clocks beside the median."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from typing import Any

BLOCKS = 10
WARM_UP_SECONDS = 0.3


def timed(work: Callable[[int], object], seconds: float) -> dict[str, float]:
    """Milliseconds of one repetition; ``work(n)`` does n of them and waits for their end.

    The median over ten blocks, with the 5th and the 95th percentile of the blocks.
    """
    work(1)
    started = time.perf_counter()
    done = 0
    while time.perf_counter() - started < min(WARM_UP_SECONDS, seconds):
        work(1)
        done += 1
    each = (time.perf_counter() - started) / max(done, 1)
    repeats = max(1, round(seconds / BLOCKS / each))
    blocks = []
    for _ in range(BLOCKS):
        started = time.perf_counter()
        work(repeats)
        blocks.append((time.perf_counter() - started) / repeats * 1e3)
    cuts = statistics.quantiles(blocks, n=20, method="inclusive")
    return {"ms": statistics.median(blocks), "ms_p5": cuts[0], "ms_p95": cuts[-1]}


def rate(count: int, work: Callable[[int], object], seconds: float) -> dict[str, float]:
    """``timed`` with the crops per second of batches of ``count``."""
    found = timed(work, seconds)
    return {**found, "crops_per_second": count / found["ms"] * 1e3}


def clocks() -> dict[str, Any] | None:
    """What the GPU runs at now and what holds it back; None without nvidia-smi."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    fields = "clocks.sm,clocks.mem,temperature.gpu,power.draw,clocks_throttle_reasons.active"
    done = subprocess.run(
        [tool, f"--query-gpu={fields}", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    values = done.stdout.strip().splitlines()
    return dict(zip(fields.split(","), values[0].split(", "), strict=False)) if values else None
