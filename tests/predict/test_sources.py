"""What the words of the command line name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hrnet_deploy.errors import InputError
from hrnet_deploy.predict.sources import find_sources


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.png", "a.jpg", "notes.txt", ".hidden.jpg", "sub/c.jpg", "clip.mp4"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"x")
    return tmp_path


def names(*words: str, **options: object) -> list[tuple[str, str]]:
    return [(s.kind, str(s.relative)) for s in find_sources(words, **options).items]  # type: ignore[arg-type]


def test_a_folder_stands_for_its_pictures_in_order(folder: Path) -> None:
    assert names(str(folder)) == [("picture", "a.jpg"), ("picture", "b.png")]


def test_subfolders_are_read_on_request_and_keep_their_names(folder: Path) -> None:
    found = names(str(folder), recursive=True)
    assert found[-1] == ("picture", os.path.join("sub", "c.jpg"))


def test_patterns_videos_cameras_and_urls_are_told_apart(folder: Path) -> None:
    assert names(str(folder / "**" / "*.jpg")) == [("picture", "a.jpg"), ("picture", "c.jpg")]
    assert names(str(folder / "clip.mp4")) == [("video", "clip.mp4")]
    assert names("0") == [("live", "camera0")]
    assert names("rtsp://host/x") == [("live", "stream")]


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(folder: Path) -> None:
    file = folder / "a[1].jpg"
    file.write_bytes(b"x")
    assert names(str(file)) == [("picture", "a[1].jpg")]


def test_a_list_on_stdin_is_read_only_as_needed(folder: Path) -> None:
    given: list[str] = []

    def lines() -> Iterator[str]:
        for name in ("x.jpg\n", "\n", "with space.png\r\n"):
            given.append(name)
            yield name

    sources = find_sources(["-"], lines=lines())
    assert sources.total is None
    assert not given
    items = iter(sources.items)
    assert next(items).name == "x.jpg"
    assert len(given) == 1
    assert [s.name for s in items] == ["with space.png"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "SOURCE: is missing"),
        (("nowhere.jpg",), "nowhere.jpg: no such file"),
        (("nowhere/*.jpg",), "matches no file"),
        (("-", "-"), "more than once"),
    ],
)
def test_words_that_name_nothing_are_refused(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message.replace("*", r"\*")):
        find_sources(words)


def test_a_folder_without_pictures_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_bytes(b"")
    with pytest.raises(InputError, match=r"no pictures .*--recursive.*it holds 1 \.mp4"):
        find_sources([str(tmp_path)])
