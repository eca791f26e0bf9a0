"""An append-only journal of finished pictures, so that an interrupted evaluation goes on."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.closing import Closing
from hrnet_deploy.errors import InputError
from hrnet_deploy.evaluation.fingerprint import another_run, differences
from hrnet_deploy.evaluation.sealed import sealed, unsealed
from hrnet_deploy.files import disk_full, is_disk_full
from hrnet_deploy.lock import FileLock

FORMAT = "hrnet-deploy-journal"
VERSION = 2
_START = json.dumps({"format": FORMAT}, allow_nan=False)[:-1].encode()
_SYNC_SECONDS = 2.0
"""A killed process loses nothing; a power cut loses at most what was finished in this time."""

_ONE_POSE = np.dtype("<f4")


@dataclass(frozen=True)
class FinishedImage:
    """What is kept of one picture: keypoints and their scores (n, K, 3) float32, pixels.

    ``second_passes`` counts its persons that an adaptive flip-test looked at twice.
    """

    image_id: int
    keypoints: NDArray[np.float32]
    second_passes: int = 0


class Journal(Closing):
    """One JSON line for the fingerprint, one for each finished picture.

    A context manager that holds a lock, so that two runs never share a journal. ``finished`` are
    the pictures that it had when it was opened, in their order. A torn last line is dropped;
    damage anywhere else, and a fingerprint of another run, are refused and the file is kept.
    A journal without any picture is nothing to go on from: it is removed when it is closed, and
    is nobody's when a killed process left it.
    """

    def __init__(
        self,
        path: Path,
        fingerprint: Mapping[str, Any],
        *,
        joints: int,
        fresh: bool = False,
        warn: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.path = path
        self.finished: list[FinishedImage] = []
        self._warn = warn
        self._joints = joints
        self._lock = FileLock(path.with_name(path.name + ".lock"), warn=warn)
        self._can_sync = True
        try:
            end = 0 if fresh else self._read(fingerprint)
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
            self._descriptor = os.open(path, flags, 0o666)
        except BaseException:
            self._lock.release()
            raise
        self._synced_at = time.perf_counter()
        try:
            self._size = end
            self._empty = end == 0
            os.ftruncate(self._descriptor, end)
            if self._empty:
                header = {"format": FORMAT, "version": VERSION, "fingerprint": fingerprint}
                self._append(json.dumps(header, allow_nan=False).encode() + b"\n")
        except BaseException:
            self.close()
            raise

    def add(self, image: FinishedImage) -> None:
        """Append one picture; a full disk is an EnvironmentFault and leaves whole lines only."""
        self._append(_line(image))
        self._empty = False
        if time.perf_counter() - self._synced_at > _SYNC_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Make sure that everything is on the disk, where the file system can do that."""
        self._synced_at = time.perf_counter()
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            if is_disk_full(error):
                raise disk_full(self.path) from error
            if self._can_sync:
                self._can_sync = False
                self._warn(f"{self.path}: this file system cannot flush ({error.strerror})")

    def close(self) -> None:
        """Close the file and let go of the lock; closing twice is harmless."""
        if self._descriptor >= 0:
            if self._empty:
                self.path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = -1
            self._lock.release()

    def remove(self) -> None:
        """Close the journal and delete it: its results are written."""
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
        self.close()

    def _append(self, content: bytes) -> None:
        try:
            written = 0
            while written < len(content):
                written += os.write(self._descriptor, content[written:])
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            if is_disk_full(error):
                raise disk_full(self.path) from error
            raise
        self._size += len(content)

    def _read(self, fingerprint: Mapping[str, Any]) -> int:
        """Fill ``finished``; the length in bytes of what is whole."""
        if not self.path.exists():
            return 0
        if self.path.is_dir():
            raise InputError(self.path, "is a directory", "Remove it or give another output")
        content = self.path.read_bytes()
        if content[: len(_START)] != _START[: len(content)]:
            raise InputError(self.path, "is not a journal of hrnet-deploy", _MOVE)
        *lines, torn = content.split(b"\n")
        if not lines or (len(lines) == 1 and not torn):
            return 0
        self._check_header(lines[0], fingerprint)
        whole = len(lines[0]) + 1
        for number, line in enumerate(lines[1:], start=2):
            image = _parse(line, self._joints)
            if image is None:
                if number == len(lines) and not torn:
                    break  # the torn end of a line that was being written
                raise InputError(self.path, f"is damaged at line {number}", _MOVE)
            self.finished.append(image)
            whole += len(line) + 1
        return whole

    def _check_header(self, line: bytes, fingerprint: Mapping[str, Any]) -> None:
        try:
            header = json.loads(line)
            recorded = header["fingerprint"]
            version = header["version"]
        except (ValueError, KeyError, RecursionError) as error:
            raise InputError(self.path, "is damaged at line 1", _MOVE) from error
        if version != VERSION:
            problem = f"has journal version {version!r}, this version reads {VERSION}"
            raise InputError(self.path, problem, _MOVE)
        if different := differences(recorded, fingerprint):
            raise another_run(self.path, different)


_MOVE = "Move it away, or pass --fresh to start over"


def _line(image: FinishedImage) -> bytes:
    """The poses as base64 of little-endian float32: exact, short and quick to read back."""
    poses = image.keypoints.astype(_ONE_POSE).tobytes()
    text = base64.b64encode(poses).decode("ascii")
    line: dict[str, Any] = {"image": image.image_id, "poses": text}
    if image.second_passes:
        line["second_passes"] = image.second_passes
    return sealed(line)


def _parse(line: bytes, joints: int) -> FinishedImage | None:
    """One picture, None for a line that is not whole."""
    value = unsealed(line)
    if value is None:
        return None
    try:
        image_id, text = value["image"], value["poses"]
        poses = np.frombuffer(base64.b64decode(text, validate=True), _ONE_POSE)
        keypoints = poses.astype(np.float32).reshape(-1, joints, 3)
        return FinishedImage(image_id, keypoints, value.get("second_passes", 0))
    except (ValueError, KeyError, TypeError):
        return None
