"""What docs/predict.md and docs/python.md show is run as it stands, on stand-ins of the files."""

from __future__ import annotations

import re
import shlex
import shutil
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

DOCS = Path(__file__).parents[2] / "docs"


def blocks(name: str) -> list[tuple[str, str]]:
    """Language and text of each block of code of a page."""
    text = (DOCS / name).read_text(encoding="utf-8")
    return re.findall(r"```(\w*)\n(.*?)```", text, re.DOTALL)


BLOCKS = blocks("predict.md")
PYTHON = [
    pytest.param(block, id=f"{name}-{number}")
    for name in ("predict.md", "python.md")
    for number, (kind, block) in enumerate(blocks(name))
    if kind == "python"
]
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
    for name in ("pictures/1.png", "portrait.jpg", "street.jpg", "park.jpg"):
        cv2.imwrite(str(folder / name), picture)
    (folder / "persons.json").write_text(
        '[{"image_id": 1, "category_id": 1, "bbox": [40, 20, 40, 70], "score": 0.9}]'
    )
    for name in ("w32.onnx", "w48.onnx"):
        write_tiny_onnx(folder / name)
    detectors.yolox(folder / "yolox_s.onnx")
    for name, file in (
        ("mmpose_coco_w32_256x192", "hrnet_w32_coco_256x192-c78dce93_20200708.onnx"),
        ("yolox_s", "yolox_s.onnx"),
    ):
        (folder / "zoo" / name).mkdir(parents=True)
        made = folder / ("w32.onnx" if name.startswith("mmpose") else file)
        shutil.copy(made, folder / "zoo" / name / file)
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


@pytest.mark.parametrize("block", PYTHON)
def test_python_examples_run(block: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("HRNET_DEPLOY_ZOO", str(place / "zoo"))
    exec(compile(block, "docs", "exec"), {})


def test_the_description_is_one_that_is_accepted(tmp_path: Path) -> None:
    (block,) = (block for kind, block in BLOCKS if kind == "toml")
    path = tmp_path / "detector.toml"
    path.write_text(block)
    assert read_config(path, None).std == (255, 255, 255)
