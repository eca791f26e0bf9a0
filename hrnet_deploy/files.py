"""Files that appear whole or not at all, and reading that refuses what is not there or damaged."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from hrnet_deploy.errors import EnvironmentFault, InputError, Subject

_TEMPORARY_MARK = ".hrnet-deploy-tmp"
_READ_BLOCK = 1 << 20
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
MAX_JSON_BYTES = 2 << 30
"""Larger JSON is refused before it is read; val2017 with all detector boxes is 0.1 GB."""


def check_input_file(path: Subject, *, what: str = "file") -> Path:
    """Say precisely why ``path`` cannot be read: missing, a directory, empty or not permitted."""
    file = Path(path)
    if not file.exists():
        raise InputError(path, "no such file", f"Give the path of an existing {what}")
    if file.is_dir():
        raise InputError(path, "is a directory", f"Give the path of a {what}")
    if not os.access(file, os.R_OK):
        raise InputError(path, "cannot be read (permission denied)", "Check its permissions")
    if file.is_file() and file.stat().st_size == 0:
        raise InputError(path, "is empty (0 bytes)", "Download or create it again")
    return file


def check_output_file(path: Subject, *, force: bool, inputs: tuple[Subject, ...] = ()) -> Path:
    """Refuse an output path before any work is done; create its parent folders.

    An existing file needs ``force``; a directory, an input file or a folder that cannot be
    written is refused.
    """
    file = Path(path)
    if file.is_dir():
        raise InputError(path, "is a directory", "Give the name of the file to write")
    for source in inputs:
        if file.exists() and Path(source).exists() and os.path.samefile(file, source):
            raise InputError(path, "is the input file itself", "Give another output name")
    if file.exists() and not force:
        raise InputError(path, "exists", "Pass --force to replace it")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            file.parent, f"cannot be created ({error.strerror})", _OTHER_PLACE
        ) from error
    _check_writable(file.parent)
    return file


_OTHER_PLACE = "Choose a folder that can be written"


def _check_writable(folder: Path) -> None:
    """Try it: permission bits say nothing about read-only mounts or for root."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, suffix=_TEMPORARY_MARK):
            pass
    except OSError as error:
        raise InputError(folder, f"cannot be written ({error.strerror})", _OTHER_PLACE) from error


@contextlib.contextmanager
def atomic_write(path: Subject) -> Iterator[IO[bytes]]:
    """Open a binary stream whose content replaces ``path`` when the block ends without an error.

    The temporary file lies in the same folder, is flushed to disk before the rename, takes its
    mode from the umask and is removed on any error, so that an old file stays intact. A full
    disk is an EnvironmentFault.
    """
    target = Path(path)
    descriptor, name = tempfile.mkstemp(
        dir=target.parent, prefix=f".{target.name}.", suffix=_TEMPORARY_MARK
    )
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            _sync(stream.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, target)
    except OSError as error:
        _remove(name)
        if error.errno in _DISK_FULL:
            raise disk_full(target) from error
        raise
    except BaseException:
        _remove(name)
        raise


def disk_full(path: Subject) -> EnvironmentFault:
    """The one sentence for a full disk or an exhausted quota."""
    return EnvironmentFault(path, "disk full while writing it", "Free some space and run again")


def is_disk_full(error: OSError) -> bool:
    """Whether ``error`` means that no space (or quota, or file size) is left."""
    return error.errno in _DISK_FULL


def _sync(descriptor: int) -> None:
    """Network and overlay file systems may not have fsync; the rename still is atomic there."""
    with contextlib.suppress(OSError):
        os.fsync(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _remove(name: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(name)


def write_bytes(path: Subject, content: bytes) -> None:
    """Write ``content`` atomically."""
    with atomic_write(path) as stream:
        stream.write(content)


def json_text(value: Any) -> str:
    """Deterministic JSON: sorted keys, two-space indent, NaN refused, newline at the end."""
    return json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"


def write_json(path: Subject, value: Any) -> None:
    """Write ``value`` as deterministic JSON, atomically."""
    write_bytes(path, json_text(value).encode())


def read_json(path: Subject, *, what: str = "JSON file") -> Any:
    """Parse a JSON file; NaN, duplicate damage and deep nesting end in one line with the place.

    A byte-order mark is accepted. Raises InputError.
    """
    file = check_input_file(path, what=what)
    size = file.stat().st_size
    if size > MAX_JSON_BYTES:
        raise InputError(path, f"is {size / 1e9:.1f} GB", "Split it; at most 2.1 GB are read")
    try:
        return json.loads(file.read_bytes().decode("utf-8-sig"), parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        problem = f"is not valid JSON at line {error.lineno}, column {error.colno} ({error.msg})"
    except UnicodeDecodeError as error:
        problem = f"is not UTF-8 text at byte {error.start}"
    except RecursionError:
        problem = "is nested too deeply"
    except ValueError as error:
        problem = f"is not valid JSON ({error})"
    raise InputError(path, problem, f"Give a complete {what}")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def sha256_bytes(content: bytes) -> str:
    """Hexadecimal SHA-256 of ``content``."""
    return hashlib.sha256(content).hexdigest()


def sha256_file(path: Subject) -> str:
    """Hexadecimal SHA-256 of a file, read in blocks."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(_READ_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def contained(root: Subject, name: str, *, source: Subject) -> Path:
    """The path ``root/name``, refused where it leaves ``root`` (absolute, ``..``, symlink).

    ``source`` is the file that holds ``name``; the error names it.
    """
    base = Path(root).resolve()
    candidate = base / name
    if not name or "\0" in name or not candidate.resolve().is_relative_to(base):
        raise InputError(
            source, f"names '{name}', which lies outside {root}", "Use paths inside that folder"
        )
    return candidate
