"""What an interrupted prediction found, so that the same command goes on from there.

Only the network's results are kept. Tracks, smoothing and every output file are made again from
them, so that they are the same however often a run was cut. Backends round differently in other
batches: the journal counts where the frames that shared batches end, and a run goes on there.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.closing import Closing
from hrnet_deploy.errors import InputError
from hrnet_deploy.evaluation.fingerprint import another_run, differences
from hrnet_deploy.evaluation.sealed import sealed, unsealed
from hrnet_deploy.files import disk_full, is_disk_full
from hrnet_deploy.lock import FileLock
from hrnet_deploy.predict.frames import Boxes, Frame, Predicted
from hrnet_deploy.runtime.pose import Poses, instance_scores

FORMAT = "hrnet-deploy-predict-journal"
_START = json.dumps({"format": FORMAT}, allow_nan=False)[:-1].encode()
_COUNT = "frames"
_FAILED = {"source", "stamp", "number"}


@dataclass
class _Group:
    """Where the entries of a source begin, the number of its last frame, and those that failed."""

    start: int
    last: int
    failed: set[int] = field(default_factory=set)


class PredictJournal(Closing):
    """One JSON line for the fingerprint, one for each frame in their order, and a count of frames.

    The count stands behind frames that shared batches; what is behind the last one is dropped. A
    context manager that holds a lock. ``fresh`` starts over. A journal of other settings, or that
    is damaged before its end, is refused and kept. One without any result is nothing to go on from:
    it is removed when it is closed, and is nobody's when a killed process left it. ``known`` gives
    what was found for a frame in an earlier run, which saw ``earlier`` frames, those with errors
    among them.
    """

    def __init__(
        self,
        path: Path,
        fingerprint: Mapping[str, Any],
        keypoint_names: tuple[str, ...],
        *,
        fresh: bool = False,
        warn: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.path = path
        self._names = keypoint_names
        self._stack = contextlib.ExitStack()
        lock = FileLock(path.with_name(path.name + ".lock"), warn=warn)
        self._stack.callback(lock.release)
        try:
            self._groups: dict[str, _Group] = {}
            self._current: _Group | None = None
            self._number = 0
            self.earlier = 0
            self._seen = 0
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
            self._empty = not end
            self._stack.callback(self._remove_empty)
            if not end:
                self._put([self._head])
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
        place = number or 0
        return group is not None and place <= group.last and place not in group.failed

    def known(self, frame: Frame) -> Predicted | None:
        """The earlier result for ``frame``; asked in the order of a video's frames.

        None also for one that failed, which is tried again. InputError for a frame that comes
        without pixels because it was known, and is not: its file has changed meanwhile.
        """
        group = self._groups.get(frame.source)
        if self._old is not None and group is not None and (frame.number or 0) <= group.last:
            number = frame.number or 0
            if group is not self._current or number <= self._number:  # or a source given twice
                self._old.seek(group.start)
            self._current, self._number = group, number
            entry = _next_entry(self._old, frame)
            if entry is None:
                del self._groups[frame.source]
            elif number not in group.failed:
                return self._predicted(entry, frame)
        if frame.image_bgr is None:
            raise InputError(frame.source, "has changed since the run began", "Use --fresh")
        return None

    def kept(self, chunks: Iterable[Sequence[Predicted]]) -> Iterator[Predicted]:
        """All results, those of a chunk written down before they are given on."""
        for chunk in chunks:
            self.write(chunk)
            yield from chunk

    def write(self, chunk: Sequence[Predicted]) -> None:
        """Add the results of frames that shared batches.

        Errors are no results, so that they are tried again; that a frame failed is noted, since
        its neighbours may be known. Frames of the earlier run are not written again.
        """
        self._seen += len(chunk)
        if self._seen > self.earlier:
            new = [_entry(each) for each in chunk if not each.replayed]
            self._put([*new, {_COUNT: self._seen}])
            self._empty &= all(each.error is not None for each in chunk)

    def remove(self) -> None:
        """The run is complete: nothing is left to go on from."""
        self.path.unlink(missing_ok=True)

    def _remove_empty(self) -> None:
        if self._empty:
            self.remove()

    def _put(self, values: Iterable[dict[str, Any]]) -> None:
        rest = memoryview(b"".join(map(sealed, values)))
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            if is_disk_full(error):
                raise disk_full(self.path) from error
            raise

    def _check(self) -> int:
        """Where the last count of frames ends; 0 for a journal without anything in it."""
        with open(self.path, "rb") as stream:
            head = stream.readline()
            if not head.endswith(b"\n") and (_START.startswith(head) or head.startswith(_START)):
                return 0
            if not head.startswith(_START):
                problem = "is not a journal of predict"
                raise InputError(self.path, problem, "Move it away, or give another output")
            found = unsealed(head)
            if found is None:
                raise self._damaged(1)
            begin = stream.tell()
            end = self._read_frames(stream)
        if end == begin:
            return 0
        self._compare(found.get("fingerprint"))
        return end

    def _read_frames(self, stream: IO[bytes]) -> int:
        """Remember where the frames begin that are counted; the place behind the last count."""
        end = place = stream.tell()
        pending: list[tuple[dict[str, Any], int]] = []
        previous = None
        for number, line in enumerate(iter(stream.readline, b""), start=2):
            if not line.endswith(b"\n"):
                break  # the torn end of a line that was being written
            entry = unsealed(line)
            if entry is None:
                raise self._damaged(number)
            if _COUNT in entry:
                for each, start in pending:
                    self._index(each, start, previous)
                    previous = each["source"]
                self.earlier, end, pending = entry[_COUNT], stream.tell(), []
            else:
                pending.append((entry, place))
            place = stream.tell()
        return end

    def _damaged(self, line: int) -> InputError:
        fix = "Move it away, or pass --fresh to start over"
        return InputError(self.path, f"is damaged at line {line}", fix)

    def _index(self, entry: dict[str, Any], place: int, previous: str | None) -> None:
        """Remember where the entries of a source begin, if its file is still the same."""
        source, number = entry["source"], entry["number"] or 0
        group = self._groups.get(source)
        if group is None and entry["stamp"] == _stamp(source):
            group = self._groups[source] = _Group(place, number)
        elif group is None or previous != source or number <= group.last:
            return
        group.last = number
        if set(entry) == _FAILED:
            group.failed.add(number)

    def _compare(self, fingerprint: Any) -> None:
        wanted = json.loads(json.dumps(self._head["fingerprint"], allow_nan=False))
        if different := differences(fingerprint, wanted):
            raise another_run(self.path, different)

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


def _entry(predicted: Predicted) -> dict[str, Any]:
    """The line of a frame: its poses, or only that it failed."""
    frame, poses = predicted.frame, predicted.poses
    name = {"source": frame.source, "stamp": _stamp(frame.source), "number": frame.number}
    if predicted.error is not None:
        return name
    triple = np.concatenate([poses.keypoints_px, poses.scores[..., None]], axis=2)
    ids = predicted.boxes.ids
    return {
        **name,
        "size": frame.size_wh,
        "exif": [frame.orientation, frame.turned],
        "boxes": _encoded(predicted.boxes.xyxy, "<f8"),
        "box_scores": _encoded(predicted.boxes.scores, "<f8"),
        "ids": None if ids is None else ids.tolist(),
        "poses": _encoded(triple, "<f4"),
    }


def _next_entry(stream: IO[bytes], frame: Frame) -> dict[str, Any] | None:
    """The line of ``frame``, past counts and frames that failed; None where another one comes."""
    while entry := unsealed(stream.readline()):
        if (entry.get("source"), entry.get("number", -1)) == (frame.source, frame.number):
            return entry
        if _COUNT not in entry and set(entry) != _FAILED:
            break
    return None


def _stamp(source: str) -> str:
    """Size and time of a file, by which a changed one is noticed; empty for what is no file."""
    try:
        status = os.stat(source)
    except OSError:
        return ""
    return f"{status.st_size}-{status.st_mtime_ns}"


def _encoded(array: NDArray[Any], kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(array, kind).tobytes()).decode()


def _decoded(text: str, kind: str) -> NDArray[Any]:
    array = np.frombuffer(base64.b64decode(text), kind)
    return array.astype(array.dtype.newbyteorder("="))
