"""Models by name: found where they were downloaded, exported once, never fetched unasked."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx", reason="needs the onnx package")

from hrnet_deploy import PoseEstimator
from hrnet_deploy.errors import EnvironmentFault, InputError
from hrnet_deploy.predict import PersonDetector
from hrnet_deploy.zoo.local import FOLDER_VARIABLE, zoo_folder
from hrnet_deploy.zoo.pretrained import detector_file, engine_file, is_name
from tests.predict import detectors
from tests.tiny import write_tiny_onnx
from tests.zoo import faulty

RECIPE = """
description = "HRNet-W32, served here"
[source]
project = "https://example.org/zoo"
{source}
[network]
input_size_hw = [96, 64]
[keypoints]
set = "coco_17"
[published]
dataset = "COCO val2017"
ap_detector_boxes = 74.6
"""
NAME = "own_w32"


class Zoo:
    """Recipes and a detector of our own, a server for them, and the folder of downloads."""

    def __init__(self, root: Path, address: str, faults: Any) -> None:
        self.recipes, self.folder = root / "recipes", root / "zoo"
        self.recipes.mkdir()
        self.address, self.faults, self.said = address, faults, list[str]()

    def offer(self, file: str, more: str = "") -> Path:
        """An entry NAME; the place of its file."""
        source = f'file = "{file}"\n{more}'
        (self.recipes / f"{NAME}.toml").write_text(RECIPE.format(source=source))
        return self.folder / NAME / file

    def engine(self, model: Any = NAME, **options: Any) -> Path:
        return engine_file(model, say=self.said.append, **options)


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Zoo]:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "zoo"))
    folder = tmp_path / "recipes"
    monkeypatch.setattr("hrnet_deploy.export.recipes.recipes_folder", lambda: folder)
    faults = faulty.Faults()
    with faulty.serving(faults) as address:
        yield Zoo(tmp_path, address, faults)


@pytest.fixture
def checkpoint(zoo: Zoo, small: Any) -> Path:
    """A checkpoint that lies where ``zoo get`` would put it."""
    place = zoo.offer("small.pth")
    place.parent.mkdir(parents=True)
    written: Path = small.write_small_checkpoint(place)
    return written


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("mmpose_coco_w32_256x192", True),
        ("yolox-s", True),
        ("w32.onnx", False),
        ("./w32", False),
        ("", False),
        (Path("a/b"), False),
    ],
)
def test_what_is_a_name(model: Any, name: bool) -> None:
    assert is_name(model) == name


def test_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, "mine")
    assert zoo_folder() == Path("mine")
    monkeypatch.delenv(FOLDER_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert zoo_folder() == tmp_path / "hrnet-deploy/zoo"
    monkeypatch.setenv("HOME", "/home/she")
    for value in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert zoo_folder() == Path("/home/she/.cache/hrnet-deploy/zoo")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError()))
    with pytest.raises(EnvironmentFault, match="Set HRNET_DEPLOY_ZOO to a folder"):
        zoo_folder()


def test_nothing_is_downloaded_unasked(zoo: Zoo) -> None:
    zoo.offer("own.pth", f'url = "{zoo.address}/own.pth"')
    message = rf"^{NAME}: is not downloaded yet\. Run: hrnet-deploy zoo get {NAME}$"
    with pytest.raises(InputError, match=message):
        PoseEstimator.from_pretrained(NAME)
    with pytest.raises(InputError, match=r"Run: hrnet-deploy zoo get yolox_nano$"):
        PersonDetector.from_pretrained("yolox_nano")
    assert zoo.faults.requests == []
    assert not zoo.folder.exists()


def test_what_needs_a_browser_says_where_to_put_it(zoo: Zoo) -> None:
    place = zoo.offer("own.pth")
    with pytest.raises(InputError, match=f"in a browser and save the file as {place}"):
        zoo.engine()
    with pytest.raises(InputError, match=r"cannot be downloaded by a program"):
        zoo.engine(download=True)


def test_an_unknown_name_and_the_wrong_kind(zoo: Zoo) -> None:
    zoo.offer("own.pth")
    with pytest.raises(InputError, match=f"own_w23: is not in the zoo. Did you mean {NAME}"):
        zoo.engine("own_w23")
    with pytest.raises(InputError, match="yolox_s: is a person detector"):
        zoo.engine("yolox_s")
    with pytest.raises(InputError, match=f"{NAME}: is no person detector"):
        detector_file(NAME)


def test_a_file_without_its_ending_is_told(
    zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.onnx").write_bytes(b"?")
    with pytest.raises(
        InputError, match=r"mine: is no file, and not in the zoo. Did you mean mine.onnx"
    ):
        zoo.engine("mine")


def test_a_checkpoint_is_exported_once(zoo: Zoo, checkpoint: Path) -> None:
    made = zoo.engine()
    assert made == checkpoint.with_suffix(".onnx")
    assert zoo.said[0] == f"{checkpoint}: exporting it, once, to {made}"
    assert any(line.startswith("proving ") for line in zoo.said)
    assert Path(f"{made}.json").is_file()  # the card with the parity
    before, told = made.stat().st_mtime_ns, len(zoo.said)
    with PoseEstimator.from_pretrained(NAME) as estimator:
        assert estimator.engine.spec.input_size_hw == (96, 64)
    assert (made.stat().st_mtime_ns, len(zoo.said)) == (before, told)
    checkpoint.unlink()
    assert zoo.engine() == made


def test_a_path_is_exported_beside_it(zoo: Zoo, small: Any, tmp_path: Path) -> None:
    mine = small.write_small_checkpoint(tmp_path / "hrnet_96x64.pth")
    assert zoo.engine(mine) == tmp_path / "hrnet_96x64.onnx"
    small.write_small_checkpoint(mine, seed=1)
    message = rf"hrnet_96x64.onnx: was not made of .*Run: hrnet-deploy export {mine} --force"
    with pytest.raises(InputError, match=message):
        zoo.engine(mine)


def test_a_bad_checkpoint_leaves_nothing(zoo: Zoo, checkpoint: Path) -> None:
    checkpoint.write_bytes(b"no checkpoint")
    with pytest.raises(InputError, match="is not a PyTorch checkpoint"):
        zoo.engine()
    assert [path.name for path in checkpoint.parent.iterdir()] == ["small.pth"]


def test_the_word_downloads(zoo: Zoo, small: Any, tmp_path: Path) -> None:
    zoo.faults.content = small.write_small_checkpoint(tmp_path / "a.pth").read_bytes()
    sha256 = hashlib.sha256(zoo.faults.content).hexdigest()
    place = zoo.offer("own.pth", f'url = "{zoo.address}/own.pth"\nsha256 = "{sha256}"')
    assert zoo.engine(download=True) == place.with_suffix(".onnx")
    assert any(f"sha256 {sha256} (as published)" in line for line in zoo.said)
    asked = len(zoo.faults.requests)
    assert zoo.engine(download=True) == place.with_suffix(".onnx")
    assert len(zoo.faults.requests) == asked


@pytest.mark.parametrize(
    ("fault", "url", "error", "message"),
    [
        ({"cut_at": 300_000}, "own.pth", EnvironmentFault, "was cut off"),
        ({}, "loop", EnvironmentFault, "redirects more than 5 times"),
        ({}, "missing", EnvironmentFault, "the server answered 404"),
        ({"kind": "text/html"}, "own.pth", EnvironmentFault, "is a web page"),
        ({}, "own.pth", InputError, "sha256 is .*, published is 0000"),
    ],
)
def test_a_download_that_fails_leaves_no_model(
    zoo: Zoo, fault: dict[str, Any], url: str, error: type[Exception], message: str
) -> None:
    sha256 = "0" * 64
    place = zoo.offer("own.pth", f'url = "{zoo.address}/{url}"\nsha256 = "{sha256}"')
    for name, value in fault.items():
        setattr(zoo.faults, name, value)
    with pytest.raises(error, match=message):
        zoo.engine(download=True)
    assert not place.exists()


def test_a_detector_by_name(zoo: Zoo) -> None:
    place = zoo.folder / "yolox_nano" / "yolox_nano.onnx"
    place.parent.mkdir(parents=True)
    detectors.yolox(place)
    assert PersonDetector.from_pretrained("yolox_nano").path == place
    assert PersonDetector.from_pretrained(place).path == place


def test_names_on_the_command_line(zoo: Zoo, tmp_path: Path) -> None:
    place = zoo.folder / "mmpose_coco_w32_256x192/hrnet_w32_coco_256x192-c78dce93_20200708.onnx"
    place.parent.mkdir(parents=True)
    write_tiny_onnx(place)
    detectors.yolox(zoo.folder / "yolox_s.onnx")
    (zoo.folder / "yolox_s").mkdir()
    (zoo.folder / "yolox_s.onnx").rename(zoo.folder / "yolox_s" / "yolox_s.onnx")
    video = _clip(tmp_path)
    words = ["predict", str(video), "--engine", "mmpose_coco_w32_256x192", "--detector"]
    done = _run([*words, "yolox_s"])
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2
    done = _run([*words, "yolox_nano"])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "hrnet-deploy: error: yolox_nano: is not downloaded yet. "
        "Run: hrnet-deploy zoo get yolox_nano\n"
    )


def _clip(folder: Path) -> Path:
    from tests.predict.videos import write_video

    path: Path = write_video(folder / "a.avi", frames=2)
    return path


def _run(words: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hrnet_deploy", *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
