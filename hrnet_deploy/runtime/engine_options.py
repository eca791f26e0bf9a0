"""How an engine file is run, handed from the command line to where it is loaded."""

from __future__ import annotations

from dataclasses import dataclass

from hrnet_deploy.engines import Engine, load_engine
from hrnet_deploy.errors import InputError, Subject
from hrnet_deploy.runtime.flip_choice import with_flip
from hrnet_deploy.talk import Say


@dataclass(frozen=True)
class EngineOptions:
    """The arguments of ``load_engine``, and of ``with_flip`` for what is put around the engine."""

    device: str | None = None
    threads: int | None = None
    backend: str | None = None
    precision: str = "exact"
    flip: str | None = None
    flip_threshold: float | None = None

    def open(self, path: Subject, say: Say | None = None) -> Engine:
        """The engine of the file ``path``; ``say`` is told what was chosen where a choice was left.

        Raises what ``load_engine`` and ``with_flip`` raise.
        """
        engine = load_engine(
            path,
            device=self.device,
            threads=self.threads,
            backend=self.backend,
            precision=self.precision,
            say=say,
        )
        try:
            talk = say or (lambda line: None)
            return with_flip(engine, self.flip, threshold=self.flip_threshold, say=talk)
        except BaseException:
            engine.close()
            raise

    def check_loaded(self) -> None:
        """InputError for an option that comes too late for an engine that is loaded already."""
        for name in ("device", "threads", "backend", "precision"):
            if (given := getattr(self, name)) != getattr(EngineOptions(), name):
                problem = f"is {given!r}, but the engine is loaded already"
                raise InputError(name, problem, "Load it so, or give its path")
