"""The sections of ``benchmarks/peers.py``: each module has ``run(context) -> findings``."""

from __future__ import annotations

import dataclasses
import datetime
import importlib
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrnet_deploy.benchmark.machine import machine_facts, momentary_facts
from hrnet_deploy.benchmark.watch import Watch

SECTIONS = {
    "prepare": "prepare",
    "files": "files",
    "engines": "engines_alone",
    "busy": "busy_core",
    "host": "host",
    "memory": "memory",
    "command": "command",
}
"""Names on the command line, and the modules behind them, in the order in which they run."""


@dataclass(frozen=True)
class Context:
    """Where the suite keeps its files, what it is given, and how often it measures.

    ``persons`` are measured at a time, in pictures of several; the busy core gets half of them.
    """

    work: Path
    threads: int
    rounds: int
    persons: int
    batch: int
    torch_compile: bool
    only: tuple[str, ...] = ()
    checkpoint: Path | None = None
    int8: Path | None = None
    images: Path | None = None
    annotations: Path | None = None

    @property
    def few_rounds(self) -> int:
        """For what takes long or varies little."""
        return max(2, self.rounds // 2)


def watched(section: str, context: Context) -> dict[str, Any]:
    """What a section finds, with the machine's facts and what else it did meanwhile."""
    before, watch = momentary_facts(), Watch()
    found = importlib.import_module(f"cpu_suite.{SECTIONS[section]}").run(context)
    disturbance = watch.disturbance()
    return {
        **found,
        "time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": machine_facts(context.threads),
        "before": before,
        "after": momentary_facts(),
        "disturbance": dataclasses.asdict(disturbance),
        "warnings": disturbance.warnings(None),
    }


def say(line: str) -> None:
    """Progress on stderr, with the time of day."""
    print(f"   {time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


class Steps:
    """Says about every tenth step of a measurement."""

    def __init__(self, what: str) -> None:
        self._what, self._said = what, 0

    def __call__(self, done: int, total: int) -> None:
        share = 10 * done // max(1, total)
        if share > self._said:
            self._said = share
            say(f"{self._what}: {done} of {total}")
