"""Parity of any two artefacts: checkpoints, engines of ours, networks that were adopted."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hrnet_deploy.engines import Engine
from hrnet_deploy.engines.signature import carried_spec
from hrnet_deploy.errors import InputError, command_line
from hrnet_deploy.export.checkpoint import read_checkpoint
from hrnet_deploy.export.foreign import ForeignEngine, read_foreign
from hrnet_deploy.export.run import checkpoint_spec, reference_engine
from hrnet_deploy.export.settings import ExportSettings
from hrnet_deploy.files import check_input_file
from hrnet_deploy.runtime.engine_options import EngineOptions
from hrnet_deploy.spec import ModelSpec
from hrnet_deploy.talk import Say

ENGINES = (".onnx", ".plan")


@contextmanager
def open_pair(
    reference: Path, candidate: Path, options: EngineOptions, *, say: Say
) -> Iterator[tuple[Engine, Engine]]:
    """Both artefacts as engines that do the same thing.

    What carries a spec is opened first; a checkpoint or a foreign network is then run by that
    spec. Two checkpoints are run by the first one's recipe, size and keypoints.

    Without a device each runs where it is at home: plans on the first GPU, the rest on the CPU.
    Backend and precision are the candidate's: the reference runs on what exports are proven on.
    """
    paths = [check_input_file(path, what="checkpoint or engine") for path in (reference, candidate)]
    specs = [spec for spec in map(carried_spec, paths) if spec is not None]
    spec = specs[0] if specs else _assumed_spec(paths[0], say)
    of_reference = EngineOptions(options.device, options.threads)
    engines: list[Engine] = []
    try:
        for path, own in zip(paths, (of_reference, options), strict=True):
            engines.append(_open(path, spec, own, say))
        yield engines[0], engines[1]
    finally:
        for engine in engines:
            engine.close()


def _assumed_spec(path: Path, say: Say) -> ModelSpec:
    """What an export of ``path`` with default settings would promise."""
    if path.suffix.lower() in ENGINES:
        raise InputError(
            path,
            "was not written by hrnet-deploy export",
            "Make an engine of it and compare with that: "
            + command_line("adopt", path, "--recipe", "RECIPE"),
        )
    return checkpoint_spec(read_checkpoint(path), ExportSettings(), say=say)


def _open(path: Path, spec: ModelSpec, options: EngineOptions, say: Say) -> Engine:
    is_checkpoint = path.suffix.lower() not in ENGINES
    if is_checkpoint or carried_spec(path) is None:
        asked = "--backend" if options.backend is not None else "--precision"
        if options.backend is not None or options.precision != "exact":
            kind = "a checkpoint" if is_checkpoint else "not one of our engines"
            fix = "Leave it out, or give the engine as the second file"
            raise InputError(asked, f"is given, but {path} is {kind}", fix)
        if is_checkpoint:
            return _open_checkpoint(path, spec, options.device or "cpu", say)
        return ForeignEngine(read_foreign(path), spec)
    return options.open(path, say)


def _open_checkpoint(path: Path, spec: ModelSpec, device: str, say: Say) -> Engine:
    checkpoint = read_checkpoint(path)
    for line in checkpoint.notes:
        say(f"{path}: {line}")
    if spec.source_sha256 != checkpoint.sha256:
        say(f"{path}: is not the file that the other one was exported from (another sha256)")
    if len(spec.keypoint_names) != checkpoint.architecture.joints:
        raise InputError(
            path,
            f"has {checkpoint.architecture.joints} keypoints, the other one {spec.joints}",
            "Compare artefacts of one model",
        )
    own = dataclasses.replace(spec, source_sha256=checkpoint.sha256)
    return reference_engine(checkpoint, own, device=device)
