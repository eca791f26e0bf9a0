"""Which flip-test is wanted, and the file that holds the threshold of an adaptive one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeGuard

from hrnet_deploy.engines import Engine
from hrnet_deploy.errors import InputError, Subject, command_line
from hrnet_deploy.files import read_json
from hrnet_deploy.runtime.flip import MEASURE, FlipEngine, check_flippable
from hrnet_deploy.talk import Say
from hrnet_deploy.values import is_number

FLIPS = ("exact", "adaptive", "off")

KIND = "hrnet-deploy flip calibration"
SCHEMA = 1


def with_flip(
    engine: Engine,
    flip: str | None,
    *,
    threshold: float | None = None,
    say: Say = lambda line: None,
) -> Engine:
    """``engine`` with the flip-test that is asked for; InputError where it cannot give that.

    ``flip`` None takes what the engine's graph contains. "exact" and "off" say what that has to
    be. "adaptive" puts a ``FlipEngine`` around an engine without flip-test; its ``threshold``, 0 to
    1, comes from the calibration beside the engine file where none is given. Closing the result
    closes ``engine``. ``say`` is told about a calibration in another precision.
    """
    if flip not in (None, *FLIPS):
        raise InputError("flip", f"is {flip!r}", f"Give {', '.join(FLIPS)}")
    if threshold is not None and flip != "adaptive":
        problem = "belongs to the adaptive flip-test"
        raise InputError("flip_threshold", problem, "Ask for that too, or leave it out")
    if flip == "adaptive":
        check_flippable(engine)
        return FlipEngine(engine, _checked(threshold, engine, say))
    if flip is not None and engine.spec.flip_test != (flip == "exact"):
        has, wanted = ("has a", "--no-flip") if engine.spec.flip_test else ("has no", "--flip")
        problem = f"{has} flip-test in its graph, {flip} was asked for"
        raise InputError(
            engine.info.path, problem, f"Export it with {wanted}, or leave the option out"
        )
    return engine


def flip_facts(engine: Engine) -> dict[str, Any] | None:
    """What an adaptive flip-test does, for results and fingerprints; None for other engines."""
    if not isinstance(engine, FlipEngine):
        return None
    return {"mode": "adaptive", "measure": MEASURE, "threshold": engine.threshold}


def second_passes(count: int, persons: int) -> dict[str, Any]:
    """How many of ``persons`` were looked at twice, and their share (None of nobody)."""
    return {"second_passes": count, "share": round(count / persons, 6) if persons else None}


def second_passes_text(flip: dict[str, Any]) -> str:
    """What an adaptive flip-test did, in words: its facts with those of ``second_passes``."""
    share = "nobody" if flip["share"] is None else f"{flip['share']:.1%}"
    return f"adaptive flip-test: {share} looked at twice (doubt >= {flip['threshold']:.4g})"


def calibration_path(engine: Subject) -> Path:
    """Where the calibration of an engine file lies: ``w32.onnx.flip.json``."""
    return Path(f"{engine}.flip.json")


def _checked(threshold: float | None, engine: Engine, say: Say) -> float:
    if threshold is None:
        return _calibrated(engine, say)
    if not _is_threshold(threshold):
        raise InputError("flip_threshold", f"is {threshold!r}", "Give a number from 0 to 1")
    return float(threshold)


def _calibrated(engine: Engine, say: Say) -> float:
    """The threshold beside the engine file, if it was made for just this file."""
    name, path = engine.info.path, calibration_path(engine.info.path)
    again = command_line("calibrate-flip", name, "--annotations", "KEYPOINTS", "--images", "FOLDER")
    again = f"Calibrate it: {again}"
    if not path.is_file():
        problem = f"has no threshold for an adaptive flip-test ({path.name} is not there)"
        raise InputError(
            name, problem, f"Give a threshold from 0 to 1, or {again[0].lower()}{again[1:]}"
        )
    content = read_json(path)
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise InputError(path, "is no calibration of a flip-test", again)
    if content.get("schema") != SCHEMA or content.get("measure") != MEASURE:
        raise InputError(path, "was made by another version, with another measure", again)
    recorded: Any = content.get("engine")
    if not isinstance(recorded, dict) or recorded.get("sha256") != engine.info.sha256:
        raise InputError(path, f"was made for another {Path(name).name} (other sha256)", again)
    threshold = content.get("threshold")
    if not _is_threshold(threshold):
        raise InputError(path, f"has the threshold {threshold!r}", again)
    if recorded.get("precision") != engine.info.precision:
        made, runs = recorded.get("precision"), engine.info.precision
        say(f"{path}: was calibrated in {made}, the engine runs in {runs}")
    return float(threshold)


def _is_threshold(value: object) -> TypeGuard[float]:
    return is_number(value) and 0 <= value <= 1
