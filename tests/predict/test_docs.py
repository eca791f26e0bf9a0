"""What docs/predict.md shows is run as it stands, on stand-ins of the files that it names."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx", reason="needs the onnx package")

from hrnet_deploy.cli import main
from hrnet_deploy.predict.detector.config import read_config
from tests.predict import detectors
from tests.predict.videos import write_video
from tests.tiny import write_tiny_onnx

TEXT = (Path(__file__).parents[2] / "docs" / "predict.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", TEXT, re.DOTALL)
COMMANDS = [
    line
    for kind, block in BLOCKS
    if not kind
    for line in block.splitlines()
    if line.startswith("hrnet-deploy predict")
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    (folder / "pictures").mkdir()
    picture = np.full((120, 160, 3), 30, np.uint8)
    picture[20:90, 40:80, 2] = 255
    for name in ("pictures/1.png", "portrait.jpg"):
        cv2.imwrite(str(folder / name), picture)
    (folder / "persons.json").write_text(
        '[{"image_id": 1, "category_id": 1, "bbox": [40, 20, 40, 70], "score": 0.9}]'
    )
    for name in ("w32.onnx", "w48.onnx"):
        write_tiny_onnx(folder / name)
    detectors.yolox(folder / "yolox_s.onnx")
    write_video(folder / "clip.mp4", frames=3, codec="mp4v")
    return folder


def test_there_is_something_to_run() -> None:
    assert len(COMMANDS) == 5
    assert {"python", "toml", "json"} <= {kind for kind, _ in BLOCKS}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_do_what_they_are_shown_for(
    command: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    with pytest.raises(SystemExit) as stop:
        main(shlex.split(command)[1:])
    assert stop.value.code == 0


def test_python_examples_run(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    for kind, block in BLOCKS:
        if kind == "python":
            names: dict[str, object] = {}
            exec(compile(block, "docs/predict.md", "exec"), names)
            assert names["drawn"] is not None


def test_the_description_is_one_that_is_accepted(tmp_path: Path) -> None:
    (block,) = (block for kind, block in BLOCKS if kind == "toml")
    path = tmp_path / "detector.toml"
    path.write_text(block)
    assert read_config(path, None).std == (255, 255, 255)
