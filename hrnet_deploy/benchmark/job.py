"""What a benchmark is asked to measure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hrnet_deploy.benchmark.end_to_end import Pictures
from hrnet_deploy.errors import InputError


@dataclass(frozen=True)
class BenchmarkJob:
    """What to measure and how often; ``pictures`` None leaves the way from files out.

    ``flips`` are the kinds of flip-test, none for what each engine contains. An adaptive one needs
    ``pictures``: its work depends on the persons.
    """

    artefacts: tuple[Path, ...]
    backends: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    device: str | None = None
    threads: int | None = None
    flips: tuple[str, ...] = ()
    flip_threshold: float | None = None
    batch: int = 8
    sweep: tuple[int, ...] = (1, 2, 4, 8, 16)
    rounds: int = 20
    warmup: int = 2
    ceiling: bool = True
    memory: bool = True
    pictures: Pictures | None = None

    def check(self) -> None:
        """InputError for what does not go together."""
        if "adaptive" in self.flips and self.pictures is None:
            problem = "is adaptive, whose work depends on the persons"
            raise InputError("flip", problem, "Give --images and --annotations")
        if self.flip_threshold is not None and "adaptive" not in self.flips:
            problem = "belongs to the adaptive flip-test"
            raise InputError("flip_threshold", problem, "Ask for that too, or leave it out")
