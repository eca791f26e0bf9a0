"""Files that appear whole or not at all, and reading that refuses what is not there or damaged."""

from __future__ import annotations

import contextlib
import errno
import gc
import glob
import hashlib
import json
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from hrnet_deploy.closing import Closing
from hrnet_deploy.errors import EnvironmentFault, InputError, Subject

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_TEMPORARY_MARK = ".hrnet-deploy-tmp"
_STALE_SECONDS = 3600.0
"""Age from which a temporary file belongs to no living run, where nothing can be locked."""
_READ_BLOCK = 1 << 20
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
MAX_JSON_BYTES = 2 << 30
"""Larger JSON is refused before it is read; val2017 with all detector boxes is 0.1 GB."""


def check_input_file(path: Subject, *, what: str = "file") -> Path:
    """Say precisely why ``path`` cannot be read: missing, a directory, empty or not permitted."""
    file = Path(path)
    try:
        facts = file.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(path, "no such file", f"Give the path of an existing {what}") from None
    except (OSError, ValueError) as error:  # a name that is too long or holds a NUL, for example
        problem = f"cannot be read ({_reason(error).lower()})"
        raise InputError(path, problem, "Check the path and its permissions") from error
    if stat.S_ISDIR(facts.st_mode):
        raise InputError(path, "is a directory", f"Give the path of {_article(what)} {what}")
    if not os.access(file, os.R_OK):
        raise InputError(path, "cannot be read (permission denied)", "Check its permissions")
    if stat.S_ISREG(facts.st_mode) and facts.st_size == 0:
        raise InputError(path, "is empty (0 bytes)", "Download or create it again")
    return file


def _reason(error: Exception) -> str:
    """What the operating system says, such as ``Permission denied``."""
    said = error.strerror if isinstance(error, OSError) else str(error)
    return said or type(error).__name__


def _article(noun: str) -> str:
    return "an" if noun[:1] in "aeiou" else "a"


def check_output_file(path: Subject, *, force: bool, inputs: tuple[Subject, ...] = ()) -> Path:
    """Refuse an output path before any work is done; create its parent folders.

    An existing file needs ``force``; a directory, an input file or a folder that cannot be
    written is refused.
    """
    file = Path(path)
    if os.path.isdir(file):
        raise InputError(path, "is a directory", "Give the name of the file to write")
    there = os.path.exists(file)
    for source in inputs:
        if there and os.path.exists(source) and os.path.samefile(file, source):
            raise InputError(path, "is the input file itself", "Give another output name")
    if there and not force:
        raise InputError(path, "exists", "Pass --force to replace it")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            file.parent, f"cannot be created ({_reason(error)})", _OTHER_PLACE
        ) from error
    _check_writable(file)
    return file


_OTHER_PLACE = "Choose a folder that can be written"


def _check_writable(file: Path) -> None:
    """Try it: permission bits say nothing about read-only mounts or for root."""
    try:
        with StagedFile(file):
            pass
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise InputError(file, "is too long a name", "Give a shorter one") from error
        problem = f"cannot be written ({_reason(error)})"
        raise InputError(file.parent, problem, _OTHER_PLACE) from error


class StagedFile(Closing):
    """A file that is written beside its target under a temporary name and then put in place.

    A context manager: ``path`` exists inside the block, keeps the target's suffix and is removed
    at the end unless ``commit`` moved it. What a killed process left of the same target is removed
    at the beginning. A full disk inside the block is an EnvironmentFault.
    """

    def __init__(self, target: Subject) -> None:
        self.target = Path(target)
        _remove_stale(self.target)
        self.path, self._lock = _made_beside(self.target)

    def commit(self, target: Subject | None = None) -> None:
        """Flush to disk and rename to ``target``, with the mode that the umask gives."""
        with open(self.path, "rb") as stream:
            _sync(stream.fileno())
        os.chmod(self.path, 0o666 & ~_umask())
        os.replace(self.path, self.target if target is None else target)

    def close(self) -> None:
        """Remove the file, unless ``commit`` moved it; closing twice is harmless."""
        with contextlib.suppress(OSError):
            self.path.unlink()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.close()
        if isinstance(error, OSError) and is_disk_full(error):
            raise disk_full(self.target) from error
        if isinstance(error, OSError) and error.filename == os.fspath(self.path):
            error.filename = os.fspath(self.target)  # the name that the user knows


@contextlib.contextmanager
def atomic_write(path: Subject) -> Iterator[IO[bytes]]:
    """Open a binary stream whose content replaces ``path`` when the block ends without an error.

    On any error the old file stays intact and no temporary one is left.
    """
    with StagedFile(path) as staged:
        with open(staged.path, "wb") as stream:
            yield stream
        staged.commit()


def _made_beside(target: Path) -> tuple[Path, int]:
    """A new hidden file, and the descriptor that locks it, -1 where nothing can be locked."""
    while True:
        descriptor, name = tempfile.mkstemp(
            dir=target.parent,
            prefix=f".{target.name}.",
            suffix=_TEMPORARY_MARK + target.suffix,
        )
        locked = try_lock(descriptor)
        if locked and os.path.exists(name):
            return Path(name), descriptor
        os.close(descriptor)
        if locked is None:
            return Path(name), -1
        # Else another process took it for one that was left behind.


def _remove_stale(target: Path) -> None:
    """Remove what killed processes left of the same target."""
    pattern = f".{glob.escape(target.name)}.*{_TEMPORARY_MARK}*"
    for leftover in target.parent.glob(pattern):
        with contextlib.suppress(OSError):
            descriptor = os.open(leftover, os.O_RDONLY)
            try:
                old = time.time() - os.fstat(descriptor).st_mtime > _STALE_SECONDS
                if old if (locked := try_lock(descriptor)) is None else locked:
                    leftover.unlink()
            finally:
                os.close(descriptor)


def try_lock(descriptor: int) -> bool | None:
    """Lock a file for as long as it is open.

    False where another process has the lock, None where the file system or the machine has none.
    """
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


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


def write_bytes(path: Subject, content: bytes) -> None:
    """Write ``content`` atomically."""
    with atomic_write(path) as stream:
        stream.write(content)


def write_scratch(path: Subject, content: bytes) -> None:
    """Write a file that nobody keeps: neither atomically nor for good."""
    try:
        Path(path).write_bytes(content)
    except OSError as error:
        raise (disk_full(path) if is_disk_full(error) else error) from error


def json_text(value: Any) -> str:
    """Deterministic JSON: sorted keys, two-space indent, NaN refused, newline at the end.

    What is no text, as in a file name that is not UTF-8, is escaped.
    """
    text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    return text.encode(errors="backslashreplace").decode() + "\n"


def write_json(path: Subject, value: Any) -> None:
    """Write ``value`` as deterministic JSON, atomically."""
    write_bytes(path, json_text(value).encode())


def read_json(path: Subject, *, what: str = "JSON file") -> Any:
    """Parse a JSON file; NaN, damage and deep nesting end in one line with the place.

    A byte-order mark is accepted. Raises InputError.
    """
    file = check_input_file(path, what=what)
    size = file.stat().st_size
    if size > MAX_JSON_BYTES:
        raise InputError(path, f"is {size / 1e9:.1f} GB", "Split it; at most 2.1 GB are read")
    try:
        with _collector_paused():
            text = file.read_bytes().decode("utf-8-sig")
            return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        problem = f"is not valid JSON at line {error.lineno}, column {error.colno} ({error.msg})"
    except UnicodeDecodeError as error:
        problem = f"is not UTF-8 text at byte {error.start}"
    except RecursionError:
        problem = "is nested too deeply"
    except ValueError as error:
        problem = f"is not valid JSON ({error})"
    raise InputError(path, problem, f"Give a complete {what}")


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    """Parsing makes millions of objects and no garbage: looking for some takes a third of it."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


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


def files_below(root: Subject) -> dict[str, list[str]]:
    """The paths of all files below a folder, by their last name."""
    index: dict[str, list[str]] = {}
    for place, _, names in os.walk(root):
        for name in names:
            index.setdefault(name, []).append(os.path.join(place, name))
    return index


def contained(root: Subject, name: str, *, source: Subject) -> Path:
    """The path ``root/name``, refused where it leaves ``root`` (absolute, ``..``, symlink).

    ``source`` is the file that holds ``name``; the error names it.
    """
    base = Path(root).resolve()
    candidate = base / name
    try:
        inside = name and "\0" not in name and candidate.resolve().is_relative_to(base)
    except UnicodeEncodeError as error:
        raise InputError(
            source, f"names '{name}', which no file can be called", "Use the names of the files"
        ) from error
    if not inside:
        raise InputError(
            source, f"names '{name}', which lies outside {root}", "Use paths inside that folder"
        )
    return candidate
