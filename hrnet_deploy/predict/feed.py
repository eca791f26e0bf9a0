"""The frames of everything that was named, in order."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from itertools import groupby

from hrnet_deploy.errors import InputError
from hrnet_deploy.predict.frames import Frame
from hrnet_deploy.predict.job import PredictJob
from hrnet_deploy.predict.journal import PredictJournal
from hrnet_deploy.predict.live import live_frames
from hrnet_deploy.predict.pictures import picture_frames
from hrnet_deploy.predict.sources import Source, Sources
from hrnet_deploy.predict.video import DEFAULT_FPS, VideoInfo, video_frames, video_info


class Feed:
    """Frames of pictures, videos and a live source, read ahead.

    Frames that ``journal`` knows come without pixels unless something is drawn on them; ``note``
    hears what was odd about a video.
    """

    def __init__(
        self,
        job: PredictJob,
        sources: Sources,
        journal: PredictJournal | None,
        note: Callable[[str], None],
    ) -> None:
        self._job, self._sources, self._journal, self._note = job, sources, journal, note
        self._pixels_needed = job.draw is not None or job.heatmaps is not None
        # Files of boxes are made in the stored pixels; whoever looks at a picture sees it turned.
        self._apply_exif = job.boxes is None if job.apply_exif is None else job.apply_exif

    def frames(self, stopped: Callable[[], bool]) -> Generator[Frame]:
        """All frames; a live source ends when ``stopped`` says so."""
        numbered = enumerate(self._sources.items)
        for kind, group in groupby(numbered, key=lambda item: item[1].kind):
            if kind == "picture":
                yield from picture_frames(
                    group,
                    apply_exif=self._apply_exif,
                    max_pixels=self._job.max_pixels,
                    wanted=self._wanted,
                    at_once=self._sources.total is None and self._job.batch_size == 1,
                )
                continue
            for place, source in group:
                if kind == "live":
                    yield from self._live(source, place, stopped)
                else:
                    yield from self._video(source, place)

    def _live(self, source: Source, place: int, stopped: Callable[[], bool]) -> Iterator[Frame]:
        return live_frames(
            source,
            place,
            choice=self._job.choice,
            patience_s=self._job.reconnect_s,
            note=self._note,
            stopped=stopped,
        )

    def _video(self, source: Source, place: int) -> Iterator[Frame]:
        """The frames of a file; one that cannot be opened is a frame with an error."""
        try:
            yield from video_frames(
                source,
                place,
                choice=self._job.choice,
                wanted=lambda number: self._wanted(source.name, number),
                note=self._note,
            )
        except InputError as error:
            yield Frame(source.name, source.relative, None, place, error=error)

    def _wanted(self, name: str, number: int | None = None) -> bool:
        return self._pixels_needed or self._journal is None or not self._journal.has(name, number)


def video_infos(sources: Sources) -> dict[str, VideoInfo]:
    """What the videos say of themselves; one that is damaged is met again, and listed, later."""
    infos = {}
    if sources.has_videos and isinstance(sources.items, list):
        for source in sources.items:
            if source.kind == "video":
                try:
                    infos[source.name] = video_info(source)
                except InputError:
                    infos[source.name] = VideoInfo(DEFAULT_FPS, 0, (0, 0), 0)
    return infos


def frames_expected(job: PredictJob, sources: Sources, infos: dict[str, VideoInfo]) -> int:
    """How many frames there will be; 0 where that is not known."""
    if sources.total is None:
        return 0
    counts = [
        job.choice.frames_of(infos[source.name]) if source.kind == "video" else 1
        for source in sources.items
    ]
    return 0 if None in counts else sum(count or 0 for count in counts)
