"""A lock file that names the process holding it and outlives no process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from hrnet_deploy.errors import InputError
from hrnet_deploy.files import disk_full, is_disk_full, try_lock

_CAN_ASK_FOR_PROCESSES = os.name == "posix"
"""Elsewhere ``os.kill`` with signal 0 asks nothing: on Windows 0 is Ctrl-C."""


class FileLock:
    """Taken on construction, or InputError naming the process that has it; ``release`` ends it.

    The operating system drops the lock of a dead process, so that its file can stay behind. Where
    the file system has no locks the process number in the file decides, after one warning; where
    the machine cannot tell of processes either, the warning is all.
    """

    def __init__(self, path: Path, *, warn: Callable[[str], None] = lambda line: None) -> None:
        self.path = path
        self._descriptor = -1
        while self._descriptor < 0:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
            try:
                self._take(descriptor, warn)
            except BaseException:
                os.close(descriptor)
                raise
            if self._is_current(descriptor):
                self._descriptor = descriptor
            else:  # its former holder has just removed the file
                os.close(descriptor)
        self._write_owner()

    def release(self) -> None:
        """Remove the file and let go; releasing twice is harmless."""
        if self._descriptor < 0:
            return
        with contextlib.suppress(OSError):
            self.path.unlink()
        os.close(self._descriptor)
        self._descriptor = -1

    def _take(self, descriptor: int, warn: Callable[[str], None]) -> None:
        locked = try_lock(descriptor)
        if locked:
            return
        owner = _owner(descriptor)
        if locked is False or (owner != os.getpid() and _is_alive(owner)):
            raise self._held(owner)
        warn(f"{self.path}: there are no locks here; do not run twice at once")

    def _held(self, owner: int) -> InputError:
        who = f"process {owner}" if owner else "another process"
        return InputError(
            self.path, f"{who} is working on this output", "Wait for it, or give another output"
        )

    def _is_current(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), os.stat(self.path))
        except FileNotFoundError:
            return False

    def _write_owner(self) -> None:
        try:
            os.ftruncate(self._descriptor, 0)
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            os.write(self._descriptor, str(os.getpid()).encode())
        except OSError as error:
            self.release()
            if is_disk_full(error):
                raise disk_full(self.path) from error
            raise


def _owner(descriptor: int) -> int:
    """The process number in the file, 0 where there is none."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    text = os.read(descriptor, 20)
    return int(text) if text.isdigit() else 0


def _is_alive(process: int) -> bool:
    if process <= 0 or not _CAN_ASK_FOR_PROCESSES:
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
