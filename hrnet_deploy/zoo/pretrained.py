"""Models by name or path: a download is found, and a checkpoint exported once."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from hrnet_deploy.errors import InputError, Subject, command_line, one_line
from hrnet_deploy.files import sha256_file
from hrnet_deploy.talk import Say
from hrnet_deploy.zoo.entries import ZooEntry, entry
from hrnet_deploy.zoo.local import local_file, place_of

CHECKPOINTS = (".pth", ".pt", ".safetensors")


def engine_file(model: Subject, *, download: bool = False, say: Say | None = None) -> Path:
    """The engine file that ``model`` means: a name in the zoo, a checkpoint, or an engine itself.

    A checkpoint becomes the ``.onnx`` file that ``hrnet-deploy export`` would write beside it:
    made once, after parity with PyTorch held, and used again as long as it is of that
    checkpoint. Raises InputError for a name that is unknown or not downloaded, unless
    ``download`` is the word to do so. ``say`` is told what happens; stderr by default.
    """
    say = say or _on_stderr
    if not is_name(model):
        path = Path(model)
        return _exported(path, say) if path.suffix.lower() in CHECKPOINTS else path
    item = _entry(model)
    if item.kind == "detector":
        raise InputError(item.name, "is a person detector", "Give a pose network")
    made = _engine_of(item)
    if made.is_file() and not place_of(item).is_file():  # the checkpoint was removed
        return made
    source = local_file(item, wanted=download, say=say)
    if item.kind == "network":
        if not made.is_file():
            raise InputError(item.name, "is not adopted yet", f"Run: {item.command(source)}")
        return made
    return _exported(source, say, recipe=item.name)


def named_engine(engine: Path, *, say: Say) -> Path:
    """The engine file that a name means; a path stays as it is, also that of a checkpoint."""
    return engine_file(engine, say=say) if is_name(engine) else engine


def detector_file(detector: Subject, *, download: bool = False, say: Say | None = None) -> Path:
    """The file of a detector: a path, or a name in the zoo, as for ``engine_file``."""
    if not is_name(detector):
        return Path(detector)
    item = _entry(detector)
    if item.kind != "detector":
        raise InputError(item.name, "is no person detector", "See: hrnet-deploy zoo list")
    return local_file(item, wanted=download, say=say or _on_stderr)


def is_name(model: Subject) -> bool:
    """Whether it is a name and no path: without dot and slash."""
    return re.fullmatch(r"[A-Za-z0-9_-]+", str(model)) is not None


def _entry(model: Subject) -> ZooEntry:
    """The entry of that name; where there is none, a file that is nearly called so is told."""
    name = os.fspath(model)
    try:
        return entry(name)
    except InputError as unknown:
        for suffix in (".onnx", ".plan"):
            if os.path.isfile(name + suffix):
                fix = f"Did you mean {name}{suffix}"
                raise InputError(name, "is no file, and not in the zoo", fix) from unknown
        raise


def _engine_of(item: ZooEntry) -> Path:
    return place_of(item).with_suffix(".adopted.onnx" if item.kind == "network" else ".onnx")


def _exported(checkpoint: Path, say: Say, *, recipe: str | None = None) -> Path:
    """The ``.onnx`` file beside a checkpoint, made of it where it is not there."""
    target = checkpoint.with_suffix(".onnx")
    if not target.is_file():
        from hrnet_deploy.export.run import export_checkpoint
        from hrnet_deploy.export.settings import ExportSettings

        say(f"{checkpoint}: exporting it, once, to {target}")
        settings = ExportSettings(precisions=("fp32",), recipe=recipe)
        export_checkpoint(checkpoint, settings, say=say)
        return target
    if checkpoint.is_file():
        from hrnet_deploy.engines.signature import read_engine_file

        if read_engine_file(target)[1].source_sha256 != sha256_file(checkpoint):
            again = command_line("export", checkpoint, "--force")
            problem = f"was not made of {checkpoint.name} as it is now (another sha256)"
            raise InputError(target, problem, f"Run: {again}")
    return target


def _on_stderr(line: str) -> None:
    sys.stderr.write(one_line(line) + "\n")
