"""Pictures as frames, decoded ahead of the engine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from hrnet_deploy.engines.cpu import physical_cores
from hrnet_deploy.errors import InputError
from hrnet_deploy.files import check_input_file
from hrnet_deploy.predict.frames import Frame
from hrnet_deploy.predict.orientation import AS_STORED, exif_orientation, turned
from hrnet_deploy.predict.overlap import mapped_ahead
from hrnet_deploy.predict.sources import Source
from hrnet_deploy.runtime.image import MAX_PIXELS, read_image

MAX_READERS = 4
HEAD_BYTES = 1 << 20
"""EXIF stands in the first 64 KB of a JPEG and before the pixels of most PNG files; a WebP keeps
it at the end, so that of those all is read."""


def picture_frames(
    sources: Iterable[tuple[int, Source]],
    *,
    apply_exif: bool,
    max_pixels: float = MAX_PIXELS,
    wanted: Callable[[str], bool] = lambda name: True,
    at_once: bool = False,
) -> Iterator[Frame]:
    """A frame for each (place, source) in order; what cannot be read becomes a frame with an error.

    With ``apply_exif`` pictures are turned as their EXIF orientation says, otherwise they keep
    the pixels as they are stored, as in the official evaluation. A picture that is not ``wanted``
    comes without pixels. ``at_once`` gives each before the next source is asked for.
    """

    def read(item: tuple[int, Source]) -> Frame:
        if not wanted(item[1].name):
            return Frame(item[1].name, item[1].relative, None, item[0])
        return read_picture(item[1], item[0], apply_exif=apply_exif, max_pixels=max_pixels)

    workers = min(MAX_READERS, physical_cores())
    return mapped_ahead(read, sources, workers=workers, ahead=0 if at_once else workers + 1)


def read_picture(
    source: Source, place: int = 0, *, apply_exif: bool, max_pixels: float = MAX_PIXELS
) -> Frame:
    """One picture; an InputError becomes the frame's ``error``."""
    try:
        image = read_image(source.name, max_pixels=max_pixels)
        orientation = stated_orientation(Path(source.name))
    except InputError as error:
        return Frame(source.name, source.relative, None, place, error=error)
    if apply_exif:
        image = turned(image, orientation)
    applied = apply_exif and orientation != AS_STORED
    return Frame(
        source.name, source.relative, image, place, orientation=orientation, turned=applied
    )


def stated_orientation(path: Path) -> int:
    """The EXIF orientation 1 to 8 of a picture file, 1 where none is stated."""
    check_input_file(path, what="picture")
    try:
        with open(path, "rb") as stream:
            head = stream.read(HEAD_BYTES)
            if head[8:12] == b"WEBP":
                head += stream.read()
    except OSError as error:
        problem = f"cannot be read ({os.strerror(error.errno or 0)})"
        raise InputError(path, problem, "Check that it is still there") from error
    return exif_orientation(head)
