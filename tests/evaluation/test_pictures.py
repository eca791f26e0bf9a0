from __future__ import annotations

import os
from pathlib import Path

import pytest

from hrnet_deploy.errors import InputError
from hrnet_deploy.evaluation.coco import Annotations, CocoImage
from hrnet_deploy.evaluation.pictures import find_pictures


def listed(*names: str) -> Annotations:
    images = tuple(CocoImage(i, name, 10, 10) for i, name in enumerate(names, 1))
    return Annotations(Path("kp.json"), "", images, (1,), (), ())


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def find(root: Path, known: Annotations, *, allow_missing: bool = False) -> dict[int, str]:
    found = find_pictures(root, known, known.images, allow_missing=allow_missing)
    return {image: str(path.relative_to(root.resolve())) for image, path in found.items()}


@pytest.mark.parametrize(
    ("file_name", "lies_at"),
    [
        ("a.jpg", "a.jpg"),
        ("val2017/a.jpg", "val2017/a.jpg"),
        ("a.jpg", "deep/er/a.jpg"),
        ("val2017/a.jpg", "a.jpg"),
        ("val2017/a.jpg", "other/a.jpg"),
        ("val2017\\a.jpg", "val2017/a.jpg"),
        ("x/../a.jpg", "x/../a.jpg"),
        ("ünï cøde \N{SNOWMAN}.jpg", "ünï cøde \N{SNOWMAN}.jpg"),
    ],
)
def test_any_folder_layout(tmp_path: Path, file_name: str, lies_at: str) -> None:
    (tmp_path / "x").mkdir()
    touch(tmp_path, lies_at)
    assert find(tmp_path, listed(file_name)) == {1: lies_at}


def test_the_place_that_the_file_names_comes_first(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "copy/a.jpg")
    assert find(tmp_path, listed("a.jpg")) == {1: "a.jpg"}


def test_an_ambiguous_name_is_missing(tmp_path: Path) -> None:
    touch(tmp_path, "one/a.jpg", "two/a.jpg", "b.jpg")
    with pytest.raises(InputError, match=r"1 of 2 images are missing: a\.jpg\. .*--allow-missing"):
        find(tmp_path, listed("a.jpg", "b.jpg"))


def test_none_of_the_images(tmp_path: Path) -> None:
    names = [f"{i:012}.jpg" for i in (139, 285, 632)]
    touch(tmp_path, "000000000009.jpg")
    with pytest.raises(InputError, match=r"0 of 3 images found; expected e\.g\. 000000000139\.jpg"):
        find(tmp_path, listed(*names), allow_missing=True)


def test_some_missing(tmp_path: Path) -> None:
    touch(tmp_path, "0.jpg")
    known = listed(*(f"{i}.jpg" for i in range(6)))
    with pytest.raises(
        InputError, match=r"5 of 6 images are missing: 1\.jpg, 2\.jpg, 3\.jpg and 2 more"
    ):
        find(tmp_path, known)
    assert find(tmp_path, known, allow_missing=True) == {1: "0.jpg"}


def test_folders_that_are_none(tmp_path: Path) -> None:
    touch(tmp_path, "file")
    with pytest.raises(InputError, match=r"nowhere: no such folder"):
        find_pictures(tmp_path / "nowhere", listed("a.jpg"), ())
    with pytest.raises(InputError, match=r"file: is not a folder"):
        find_pictures(tmp_path / "file", listed("a.jpg"), ())


@pytest.mark.parametrize("name", ["../secret.jpg", "sub/../../secret.jpg", "", "nul\0.jpg"])
def test_names_that_leave_the_folder(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "secret.jpg", "images/a.jpg")
    known = listed("a.jpg", name)
    with pytest.raises(InputError, match=r"kp\.json: names '.*', which lies outside"):
        find_pictures(tmp_path / "images", known, known.images[:1])


def test_names_that_no_file_can_have(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.jpg")
    known = listed("a.jpg", "half \ud83d.jpg")
    with pytest.raises(InputError, match=r"kp\.json: names '.*', which no file can be called"):
        find_pictures(tmp_path / "images", known, known.images[:1])


def test_a_name_that_is_too_long_is_missing(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    known = listed("a.jpg", "x" * 5000)
    with pytest.raises(InputError, match=r"1 of 2 images are missing: xxx"):
        find(tmp_path, known)


def test_absolute_names_are_refused_even_inside(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    with pytest.raises(InputError, match=r"kp\.json: names the absolute path"):
        find(tmp_path, listed(str(tmp_path / "a.jpg")))


def test_links_that_leave_the_folder(tmp_path: Path) -> None:
    touch(tmp_path, "outside/a.jpg", "images/b.jpg")
    root = tmp_path / "images"
    os.symlink(tmp_path / "outside" / "a.jpg", root / "link.jpg")
    os.symlink(tmp_path / "outside", root / "folder")
    for name in ("link.jpg", "folder/a.jpg"):
        with pytest.raises(InputError, match=rf"names '{name}', which lies outside"):
            find(root, listed("b.jpg", name))


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    touch(tmp_path, "real/a.jpg")
    os.symlink(tmp_path / "real", tmp_path / "link")
    known = listed("a.jpg")
    assert list(find_pictures(tmp_path / "link", known, known.images)) == [1]
