"""What an interrupted prediction found, so that the same command goes on from there.

Only the network's results are kept. Tracks, smoothing and every output file are made again from
them, so that they are the same however often a run was cut.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.closing import Closing
from hrnet_deploy.errors import InputError
from hrnet_deploy.files import disk_full, is_disk_full
from hrnet_deploy.lock import FileLock
from hrnet_deploy.predict.frames import Boxes, Frame, Predicted
from hrnet_deploy.runtime.pose import Poses, instance_scores

FORMAT = "hrnet-deploy-predict-journal"
_START = json.dumps({"format": FORMAT}, allow_nan=False)[:-1].encode()
_FIELDS = {"source", "stamp", "number", "size", "exif", "boxes", "box_scores", "ids", "poses"}


@dataclass
class _Group:
    """Where the entries of a source begin, and the number of its last frame."""

    start: int
    last: int


class PredictJournal(Closing):
    """One JSON line for the fingerprint, one for each frame, in the order of the frames.

    A context manager that holds a lock. ``fresh`` starts over. A torn last line is dropped; a
    journal of other settings is refused and kept. ``known`` gives what was found for a frame in
    an earlier run.
    """

    def __init__(
        self,
        path: Path,
        fingerprint: Mapping[str, Any],
        keypoint_names: tuple[str, ...],
        *,
        fresh: bool = False,
    ) -> None:
        self.path = path
        self._names = keypoint_names
        self._stack = contextlib.ExitStack()
        lock = FileLock(path.with_name(path.name + ".lock"))
        self._stack.callback(lock.release)
        try:
            self._groups: dict[str, _Group] = {}
            self._current: _Group | None = None
            self._number = 0
            self._head = {"format": FORMAT, "fingerprint": dict(fingerprint)}
            if fresh:
                path.unlink(missing_ok=True)
            end = self._check() if path.exists() else 0
            self._old: IO[bytes] | None = None
            if path.exists():
                os.truncate(path, end)
            if end:
                self._old = self._stack.enter_context(path.open("rb"))
            # Without a buffer, whose rest could not be written at the end of a full disk.
            self._file = self._stack.enter_context(path.open("ab", buffering=0))
            if not end:
                self._put(self._head)
        except BaseException:
            self._stack.close()
            raise

    @property
    def resumed(self) -> bool:
        """Whether there was anything to go on from."""
        return bool(self._groups)

    def has(self, source: str, number: int | None = None) -> bool:
        """Whether a picture, or a video up to that frame, is in the journal already."""
        group = self._groups.get(source)
        return group is not None and (number or 0) <= group.last

    def known(self, frame: Frame) -> Predicted | None:
        """The earlier result for ``frame``; asked in the order of a video's frames.

        InputError for a frame that comes without pixels because it was known, and is not: its
        file has changed meanwhile.
        """
        group = self._groups.get(frame.source)
        if self._old is not None and group is not None and (frame.number or 0) <= group.last:
            number = frame.number or 0
            if group is not self._current or number <= self._number:  # or a source given twice
                self._old.seek(group.start)
            self._current, self._number = group, number
            entry = json.loads(self._old.readline())
            if entry["number"] == frame.number:
                return self._predicted(entry, frame)
            del self._groups[frame.source]
        if frame.image_bgr is None:
            raise InputError(frame.source, "has changed since the run began", "Use --fresh")
        return None

    def kept(self, results: Iterable[Predicted]) -> Iterator[Predicted]:
        """The same results, each written down before it is given on."""
        for predicted in results:
            self.write(predicted)
            yield predicted

    def write(self, predicted: Predicted) -> None:
        """Add a new result; errors are not kept, so that they are tried again."""
        if predicted.replayed or predicted.error is not None:
            return
        frame, poses = predicted.frame, predicted.poses
        triple = np.concatenate([poses.keypoints_px, poses.scores[..., None]], axis=2)
        ids = predicted.boxes.ids
        self._put(
            {
                "source": frame.source,
                "stamp": _stamp(frame.source),
                "number": frame.number,
                "size": frame.size_wh,
                "exif": [frame.orientation, frame.turned],
                "boxes": _encoded(predicted.boxes.xyxy, "<f8"),
                "box_scores": _encoded(predicted.boxes.scores, "<f8"),
                "ids": None if ids is None else ids.tolist(),
                "poses": _encoded(triple, "<f4"),
            }
        )

    def remove(self) -> None:
        """The run is complete: nothing is left to go on from."""
        self.path.unlink(missing_ok=True)

    def _put(self, value: dict[str, Any]) -> None:
        line = memoryview(json.dumps(value, allow_nan=False).encode() + b"\n")
        try:
            while line:
                line = line[self._file.write(line) :]
        except OSError as error:
            if is_disk_full(error):
                raise disk_full(self.path) from error
            raise

    def _check(self) -> int:
        """Where the last whole line ends; 0 for a journal without anything in it."""
        with open(self.path, "rb") as stream:
            head = stream.readline()
            if not head.endswith(b"\n") and (_START.startswith(head) or head.startswith(_START)):
                return 0
            found = _parsed(head)
            if not head.endswith(b"\n") or found.get("format") != FORMAT:
                problem = "is not a journal of predict"
                raise InputError(self.path, problem, "Move it away, or give another output")
            self._compare(found.get("fingerprint"))
            end = stream.tell()
            previous = None
            while line := stream.readline():
                entry = _parsed(line) if line.endswith(b"\n") else {}
                if not set(entry) >= _FIELDS:
                    break
                self._index(entry, end, previous)
                previous = entry["source"]
                end = stream.tell()
        return end

    def _index(self, entry: dict[str, Any], place: int, previous: str | None) -> None:
        """Remember where the entries of a source begin, if its file is still the same."""
        source, number = entry["source"], entry["number"] or 0
        group = self._groups.get(source)
        if group is None and entry["stamp"] == _stamp(source):
            self._groups[source] = _Group(place, number)
        elif group is not None and previous == source and number > group.last:
            group.last = number

    def _compare(self, fingerprint: Any) -> None:
        wanted = json.loads(json.dumps(self._head["fingerprint"], allow_nan=False))
        if fingerprint == wanted:
            return
        found = fingerprint if isinstance(fingerprint, dict) else {}
        names = sorted(k for k in {*wanted, *found} if wanted.get(k) != found.get(k))
        problem = f"belongs to an unfinished run with another {', '.join(names)}"
        raise InputError(self.path, problem, "Give the same options, or --fresh to start over")

    def _predicted(self, entry: dict[str, Any], frame: Frame) -> Predicted:
        xyxy = _decoded(entry["boxes"], "<f8").reshape(-1, 4)
        triple = _decoded(entry["poses"], "<f4").reshape(-1, len(self._names), 3)
        ids = None if entry["ids"] is None else np.array(entry["ids"], np.int64)
        boxes = Boxes(xyxy, _decoded(entry["box_scores"], "<f8"), ids)
        scores = np.ascontiguousarray(triple[..., 2])
        total = instance_scores(scores, boxes.scores)
        size = entry["size"]
        frame = replace(
            frame,
            known_size_wh=None if size is None else (size[0], size[1]),
            orientation=entry["exif"][0],
            turned=entry["exif"][1],
        )
        keypoints_px = np.ascontiguousarray(triple[..., :2])
        poses = Poses(keypoints_px, scores, xyxy, total, self._names)
        return Predicted(frame, boxes, poses, ids, replayed=True)

    def close(self) -> None:
        self._stack.close()


def _stamp(source: str) -> str:
    """Size and time of a file, by which a changed one is noticed; empty for what is no file."""
    try:
        status = os.stat(source)
    except OSError:
        return ""
    return f"{status.st_size}-{status.st_mtime_ns}"


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _encoded(array: NDArray[Any], kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(array, kind).tobytes()).decode()


def _decoded(text: str, kind: str) -> NDArray[Any]:
    array = np.frombuffer(base64.b64decode(text), kind)
    return array.astype(array.dtype.newbyteorder("="))
