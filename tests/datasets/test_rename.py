from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from hrnet_deploy.datasets import rename
from hrnet_deploy.datasets.clean import CleanOptions
from hrnet_deploy.datasets.clean_run import Cleaned, CleanJob, clean_to_files
from hrnet_deploy.datasets.rename import undo_names
from hrnet_deploy.errors import EnvironmentFault, InputError

NAMES = ("people_000001.jpg", "people_000008.jpg", "people_000015.jpg")


@pytest.fixture
def home(people_folder: Path, tmp_path: Path) -> Path:
    """Three pictures with their annotation file."""
    content = json.loads((people_folder / "annotations.json").read_text())
    content["images"] = content["images"][:3]
    ids = {image["id"] for image in content["images"]}
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in ids]
    (tmp_path / "images").mkdir()
    for image in content["images"]:
        name = image["file_name"]
        shutil.copy(people_folder / "images" / name, tmp_path / "images" / name)
    (tmp_path / "a.json").write_text(json.dumps(content))
    return tmp_path


def run(home: Path, mode: str, **more: Any) -> Cleaned:
    job = {"images": home / "images", "rename": mode, **more}
    return clean_to_files(CleanJob(home / "a.json", **job))


def tree(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


@pytest.mark.parametrize("mode", ["copy", "link", "rename"])
def test_names_from_ids_and_back(home: Path, mode: str) -> None:
    before = tree(home)
    done = run(home, mode, images_to=home / "new")
    new = sorted(f.name for f in (home / "new").iterdir())
    assert new == ["000000000001.jpg", "000000000008.jpg", "000000000015.jpg"]
    content = json.loads((home / "a.clean.json").read_text())
    assert [image["file_name"] for image in content["images"]] == new
    for old, name in zip(NAMES, new, strict=True):
        assert (home / "new" / name).read_bytes() == before[f"images/{old}"]
        assert (home / "images" / old).exists() == (mode != "rename")
    if mode == "link":
        assert os.path.samefile(home / "new" / new[0], home / "images" / NAMES[0])
    assert done.changes.counts == {"picture-names": 3, "file-names": 3}
    again = clean_to_files(
        CleanJob(home / "a.clean.json", images=home / "new", rename=mode, force=True)
    )
    assert not again.changes
    assert not again.files
    assert undo_names(home / "a.clean.undo.json") == (mode, 3)
    after = tree(home)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"a.clean.json", "a.clean.changes.json"}


def test_the_input_and_its_bytes_stay(home: Path) -> None:
    before = (home / "a.json").read_bytes()
    run(home, "rename")
    assert (home / "a.json").read_bytes() == before
    with pytest.raises(InputError, match="is the input file itself"):
        clean_to_files(CleanJob(home / "a.json", output=home / "a.json", force=True))


def test_a_dry_run_touches_nothing(home: Path) -> None:
    before = tree(home)
    done = run(home, "rename", images_to=home / "new", dry_run=True)
    assert done.changes.counts == {"picture-names": 3, "file-names": 3}
    assert tree(home) == before
    assert not (home / "new").exists()


def test_names_that_change_places(home: Path) -> None:
    """Image 1's new name is image 8's old one."""
    content = json.loads((home / "a.json").read_text())
    for image, name in zip(
        content["images"][:2], ("000000000008.jpg", "000000000001.jpg"), strict=True
    ):
        (home / "images" / image["file_name"]).rename(home / "images" / name)
        image["file_name"] = name
    (home / "a.json").write_text(json.dumps(content))
    before = tree(home / "images")
    run(home, "rename")
    after = tree(home / "images")
    assert after["000000000001.jpg"] == before["000000000008.jpg"]
    assert after["000000000008.jpg"] == before["000000000001.jpg"]
    undo_names(home / "a.clean.undo.json")
    assert tree(home / "images") == before


def test_a_target_that_exists_is_never_overwritten(home: Path) -> None:
    (home / "images" / "000000000001.jpg").write_bytes(b"mine")
    before = tree(home)
    with pytest.raises(InputError, match=r"000000000001\.jpg: exists"):
        run(home, "rename")
    assert tree(home) == before


def test_a_missing_picture_is_named_before_any_is_touched(home: Path) -> None:
    (home / "images" / NAMES[1]).unlink()
    before = tree(home)
    with pytest.raises(InputError, match=rf"image 8 \({NAMES[1]}\) is missing"):
        run(home, "rename")
    assert tree(home) == before
    done = run(home, "copy", options=CleanOptions(drop_missing=True))
    assert done.changes.counts["drop-missing"] >= 1


@pytest.mark.parametrize("mode", ["copy", "link", "rename"])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_failure_on_the_way_is_taken_back(
    home: Path, mode: str, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree(home)
    calls = {"n": 0}

    def failing(real: Any) -> Any:
        def call(*words: Any) -> Any:
            calls["n"] += 1
            if calls["n"] == at:
                raise PermissionError(13, "Permission denied")
            return real(*words)

        return call

    owner, name = {"copy": (rename.shutil, "copyfile"), "link": (rename.os, "link")}.get(
        mode, (rename.os, "rename")
    )
    monkeypatch.setattr(owner, name, failing(getattr(owner, name)))
    with pytest.raises(EnvironmentFault, match=f"cannot {mode} pictures here"):
        run(home, mode, images_to=home / "new")
    assert tree(home) == before


def test_undo_refuses_before_it_touches_anything(home: Path) -> None:
    run(home, "copy", images_to=home / "new")
    undo = home / "a.clean.undo.json"
    copy = home / "new" / "000000000001.jpg"
    content = copy.read_bytes()
    copy.write_bytes(b"changed")
    with pytest.raises(InputError, match="was changed since"):
        undo_names(undo)
    copy.write_bytes(content)
    (home / "images" / NAMES[2]).unlink()
    with pytest.raises(InputError, match="the original is gone or changed"):
        undo_names(undo)
    (home / "new" / "000000000015.jpg").unlink()
    with pytest.raises(InputError, match="is not there any more"):
        undo_names(undo)
    assert copy.exists()
    assert undo.exists()


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ([], "is no undo file"),
        ({"hrnet-deploy-rename": 1, "mode": "burn", "pictures": []}, "is a damaged undo file"),
        (
            {"hrnet-deploy-rename": 1, "mode": "copy", "pictures": [{"from": "a"}]},
            r"pictures\[0\] is damaged",
        ),
    ],
)
def test_undo_files_are_checked(tmp_path: Path, record: Any, message: str) -> None:
    path = tmp_path / "x.undo.json"
    path.write_text(json.dumps(record))
    with pytest.raises(InputError, match=message):
        undo_names(path)


def test_flags_that_need_one_another(home: Path) -> None:
    with pytest.raises(InputError, match="--rename: needs the folder of the pictures"):
        clean_to_files(CleanJob(home / "a.json", rename="copy"))
    with pytest.raises(InputError, match="--images-to: is given without --rename"):
        clean_to_files(CleanJob(home / "a.json", images=home, images_to=home))
