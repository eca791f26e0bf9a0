"""Read any HRNet pose checkpoint safely, and recognise what it is from its contents."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from hrnet_deploy.errors import DeployError, EnvironmentFault, InputError, Subject, require
from hrnet_deploy.export.archive import scan_archive
from hrnet_deploy.export.choice import ModelChoice, resolve_model
from hrnet_deploy.export.pickles import INERT, Inert, PickleFacts, refuse_code, scan
from hrnet_deploy.export.sniff import LEGACY_MAGIC, damaged, not_a_checkpoint, sniff
from hrnet_deploy.export.stored_config import StoredConfig, read_stored_config
from hrnet_deploy.export.weights import (
    Checkpoint,
    architecture_of,
    clean_tensors,
    expected_shapes,
    official_names,
    with_counters,
    without_wrappers,
)
from hrnet_deploy.files import sha256_file

if TYPE_CHECKING:
    import torch

__all__ = ["Checkpoint", "ModelChoice", "read_checkpoint", "resolve_model"]

OLDEST_TORCH = (2, 10)
"""Before it a crafted file corrupts memory even with ``weights_only=True`` (CVE-2026-24747)."""

LEGACY_PICKLES = 5
"""Magic number, protocol, system facts, the object and its storage keys."""

MAX_LEGACY_SCAN_BYTES = 512 << 20
_HOLDERS = ("state_dict", "model_state_dict", "model", "net", "weights", "best_state_dict")
"""Where checkpoints keep the weights, in order of preference.

The official training script writes ``state_dict`` and ``best_state_dict``: both are the current
epoch, whatever the second one's name.
"""

_TRAINING_KEYS = {"optimizer", "optimizers", "best_state_dict", "epoch"}
"""What training goes on from; a published mmpose file has none of them beside its ``meta``."""


def read_checkpoint(path: Subject) -> Checkpoint:
    """Read ``path`` (.pth of any layout, .safetensors), refusing what is not plain HRNet weights.

    The container is checked and its pickles are listed before PyTorch is imported; nothing in
    the file is ever executed. Raises InputError, or EnvironmentFault without a safe PyTorch.
    """
    file = Path(path)
    if sniff(path) == "safetensors":
        content, meta, container = _load_safetensors(file)
    else:
        content, container = _load_pickled(file), ""
        meta = content.get("meta") if isinstance(content, Mapping) else None
    tensors, training, notes = _weights_in(path, content)
    return _recognised(file, tensors, read_stored_config(meta), container, training, notes)


def _recognised(
    file: Path,
    tensors: dict[str, torch.Tensor],
    stored: StoredConfig | None,
    container: str,
    training: bool,
    notes: tuple[str, ...],
) -> Checkpoint:
    plain, prefixes = without_wrappers(tensors)
    if prefixes:
        notes += tuple(f"stripped the prefix '{prefix}' from every name" for prefix in prefixes)
    official, flavour = official_names(plain.values())
    named = {official[plain[name]]: tensor for name, tensor in tensors.items()}
    if len(named) != len(tensors):
        raise InputError(file, "holds two tensors under one name", "Use the original checkpoint")
    _check_storage(file, named)
    architecture = architecture_of(file, {k: tuple(v.shape) for k, v in named.items()})
    clean, converted = clean_tensors(file, named)
    complete, added = with_counters(clean, expected_shapes(architecture))
    if training and flavour == "official":
        flavour = "official-training"
    if container:
        flavour = container if flavour == "official" else f"{flavour} {container}"
    return Checkpoint(
        path=file,
        sha256=sha256_file(file),
        state_dict=complete,
        architecture=architecture,
        flavour=flavour,
        stored=stored,
        notes=(*notes, *converted, *added),
    )


def _load_pickled(file: Path) -> Any:
    """The object in a PyTorch zip or legacy file, after its pickles have been scanned."""
    is_zip = sniff(file) == "zip"
    facts = scan_archive(file) if is_zip else _scan_legacy(file)
    refuse_code(file, facts)
    torch = safe_torch(file)
    stand_ins = [
        (Inert, name) for name in (*sorted(INERT), "builtins.getattr") if name in facts.globals
    ]
    try:
        with torch.serialization.safe_globals(stand_ins), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old formats, which are expected here
            return torch.load(file, map_location="cpu", weights_only=True)
    except DeployError:
        raise
    except Exception as error:  # a hostile file can raise anything at all
        raise damaged(file, _first_line(error)) from error


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines() or [""]
    if text[0].startswith("Weights only load failed"):
        operand = re.search(
            r"(Unsupported operand \d+|WeightsUnpickler error: [^\n]{0,80})", str(error)
        )
        return operand[1] if operand else "not plain weights"
    return f"{type(error).__name__} {text[0][:80]}".strip()


def _scan_legacy(file: Path) -> PickleFacts:
    """List the globals of the pickles at the head of a file from before the zip format."""
    with file.open("rb") as stream:
        head = stream.read(MAX_LEGACY_SCAN_BYTES)
    is_torch = head.startswith(LEGACY_MAGIC)
    stream_of_pickles = io.BytesIO(head)
    facts = PickleFacts((), frozenset())
    try:
        for _ in range(LEGACY_PICKLES if is_torch else 1):
            facts |= scan(stream_of_pickles)
    except (ValueError, RecursionError, LookupError) as error:
        if is_torch:
            raise damaged(file, "its pickled part ends early") from error
        if head[:1] != b"\x80":
            raise not_a_checkpoint(file) from error
        raise damaged(file, "not a complete pickle") from error
    if not is_torch:
        refuse_code(file, facts)
        raise not_a_checkpoint(file, " (a pickle that torch.save did not write)")
    return facts


def safe_torch(subject: Subject) -> ModuleType:
    """PyTorch, refused where it is absent or older than the first safe version."""
    torch = require("torch", extra="export", purpose=f"reading {subject}")
    version = str(torch.__version__)
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers is None or (int(numbers[1]), int(numbers[2])) < OLDEST_TORCH:
        raise EnvironmentFault(
            "PyTorch",
            f"version {version} is open to CVE-2026-24747 when it reads a checkpoint",
            "pip install 'torch>=2.10'",
        )
    return torch


def _load_safetensors(file: Path) -> tuple[Any, object, str]:
    safe_torch(file)
    safetensors = require("safetensors", extra="export", purpose=f"reading {file}")
    load = require("safetensors.torch", extra="export", purpose=f"reading {file}").load_file
    try:
        return load(file, device="cpu"), None, "safetensors"
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise damaged(file, _first_line(error)) from error


def _weights_in(
    path: Subject, content: Any
) -> tuple[dict[str, torch.Tensor], bool, tuple[str, ...]]:
    """The tensors of a loaded object, whether it is a training checkpoint, and what was chosen."""
    if not isinstance(content, Mapping):
        kind = type(content).__name__
        raise InputError(path, f"holds a {kind}, not weights by name", "Save model.state_dict()")
    holder = next((k for k in _HOLDERS if _is_state_dict(content.get(k))), None)
    if holder is None:
        return _only_tensors(path, content), False, ()
    others = [key for key in content if key not in (holder, "meta")]
    training = not _TRAINING_KEYS.isdisjoint(others)
    tensors = _only_tensors(path, content[holder])
    if not others:
        return tensors, training, ()
    note = f"used '{holder}'" + (" of a training checkpoint" if training else "")
    if isinstance(epoch := content.get("epoch"), int):
        note += f" (epoch {epoch})"
    if not training:
        note += f", left aside: {', '.join(str(key)[:40] for key in others[:3])}"
    if holder == "state_dict" and _is_state_dict(content.get("best_state_dict")):
        note += _about_best(content)
    return tensors, training, (note,)


def _about_best(content: Mapping[str, Any]) -> str:
    """The official script stores one epoch twice; say so, or that this file differs from it."""
    names, _ = without_wrappers(content["state_dict"])
    best_names, _ = without_wrappers(content["best_state_dict"])
    current = {names[key]: value for key, value in content["state_dict"].items()}
    best = {best_names[key]: value for key, value in content["best_state_dict"].items()}
    same = current.keys() == best.keys() and all(_equal(v, best[k]) for k, v in current.items())
    if same:
        return "; its 'best_state_dict' is the same epoch, the best one is in model_best.pth"
    return "; its 'best_state_dict' differs and was left aside"


def _equal(first: Any, second: Any) -> bool:
    import torch

    both = isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor)
    if not both or first.shape != second.shape or not (_is_backed(first) and _is_backed(second)):
        return False
    return bool(torch.equal(first, second))


def _is_state_dict(value: object) -> bool:
    """A mapping with at least one tensor under a text name."""
    import torch

    return isinstance(value, Mapping) and any(
        isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in value.items()
    )


def _only_tensors(path: Subject, content: Mapping[Any, Any]) -> dict[str, torch.Tensor]:
    import torch

    if not content:
        raise InputError(path, "holds no weights at all", "Save model.state_dict()")
    tensors = {}
    for name, value in content.items():
        if not isinstance(name, str):
            problem = f"names a weight by {type(name).__name__}, not by text"
            raise InputError(path, problem, "Save model.state_dict() with torch.save")
        if not isinstance(value, torch.Tensor):
            kind = "a stand-in" if isinstance(value, Inert) else type(value).__name__
            problem = f"holds {kind} under '{name[:80]}', not a tensor"
            raise InputError(path, problem, "Save model.state_dict() with torch.save")
        tensors[name] = value.detach()
    if "n_averaged" in tensors and len(tensors) > 1:  # torch.optim.swa_utils.AveragedModel
        del tensors["n_averaged"]
    return tensors


def _check_storage(path: Subject, tensors: Mapping[str, torch.Tensor]) -> None:
    """Refuse tensors that claim more numbers than the file holds (strides of zero)."""
    for name, tensor in tensors.items():
        if not _is_backed(tensor):
            raise damaged(path, f"{name} claims {tensor.numel():,} values that are not there")


def _is_backed(tensor: torch.Tensor) -> bool:
    import torch

    if tensor.layout != torch.strided or tensor.device.type != "cpu":
        return False
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()
