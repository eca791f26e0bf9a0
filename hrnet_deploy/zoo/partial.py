"""The unfinished file of a download, and the note beside it that says what it is a part of."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from hrnet_deploy.closing import Closing
from hrnet_deploy.errors import EnvironmentFault
from hrnet_deploy.files import disk_full, is_disk_full, json_text, try_lock

MAX_NOTE_BYTES = 1 << 16


@dataclass(frozen=True)
class Origin:
    """What the bytes came from; ``validator`` (a strong ETag or a date) proves that it is still so.

    ``total_bytes`` is None where the server did not say.
    """

    url: str
    validator: str | None
    total_bytes: int | None


class PartialFile(Closing):
    """``NAME.part`` beside the target, held by one process at a time.

    ``origin`` is what its bytes belong to, None where there are none or nobody knows. A context
    manager; the file stays for the next run unless ``finish`` or ``discard`` was called.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(target.name + ".part")
        self._note = target.with_name(target.name + ".part.json")
        self._stream: BinaryIO = open(self.path, "ab")  # noqa: SIM115 - closed by __exit__
        # Without locks two downloads at once are not noticed.
        if try_lock(self._stream.fileno()) is False:
            self._stream.close()
            problem = "is being written by another process"
            raise EnvironmentFault(self.path, problem, "Wait for it to end")
        self.origin = self._read_note() if self.size else None

    @property
    def size(self) -> int:
        """How many bytes are there."""
        return self.path.stat().st_size

    def begin(self, origin: Origin) -> None:
        """Start over with bytes of ``origin``."""
        self._stream.truncate(0)
        self.origin = origin
        facts = {"url": origin.url, "validator": origin.validator, "bytes": origin.total_bytes}
        with self._disk():
            self._note.write_text(json_text(facts), encoding="utf-8")

    def check_space(self, more: int | None) -> None:
        """Refuse before the download what does not fit on the disk."""
        if more is not None and shutil.disk_usage(self.path.parent).free < more:
            problem = f"disk full: needs {more / 1e6:.0f} MB more"
            raise EnvironmentFault(self.target, problem, "Free some space and run again")

    def append(self, content: bytes) -> None:
        """Write more of it; a full disk is an EnvironmentFault and keeps what is there."""
        with self._disk():
            self._stream.write(content)

    def flush(self) -> None:
        """Hand everything to the disk."""
        with self._disk():
            self._stream.flush()
            with contextlib.suppress(OSError):
                os.fsync(self._stream.fileno())

    def finish(self) -> None:
        """The download is complete and proven: put it in place of the target."""
        os.replace(self.path, self.target)
        self._note.unlink(missing_ok=True)

    def discard(self) -> None:
        """What is there is worthless."""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.close()
        with contextlib.suppress(OSError):
            if self.size == 0:
                self.discard()

    def _read_note(self) -> Origin | None:
        try:
            with open(self._note, encoding="utf-8") as stream:
                facts = json.loads(stream.read(MAX_NOTE_BYTES))
            url, validator, total = facts["url"], facts["validator"], facts["bytes"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        fine = isinstance(url, str) and isinstance(validator, (str, type(None)))
        # A line break in a header would let a note that somebody planted add headers of its own.
        fine = fine and (validator is None or validator.isprintable())
        return Origin(url, validator, total if isinstance(total, int) else None) if fine else None

    @contextlib.contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if is_disk_full(error):
                raise disk_full(self.target) from error
            raise
