"""The worked examples of docs/ run as they stand there, on generated people and a small network."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")
pytest.importorskip("matplotlib")

from hrnet_deploy.demo import CHECKPOINT
from hrnet_deploy.demo.people import write_dataset
from hrnet_deploy.demo.run import DEMO_SEED

DOCS = Path(__file__).parents[2] / "docs"
IMAGES = 10


def commands(document: str) -> list[list[list[str]]]:
    """The words of every command after ``hrnet-deploy``, by block."""
    text = (DOCS / document).read_text(encoding="utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    return [[shlex.split(line)[1:] for line in block.splitlines()] for block in blocks]


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """A folder of pictures in ``images`` with ``annotations.json``."""
    return write_dataset(tmp_path, images=IMAGES, seed=DEMO_SEED).parent


def test_from_clean_data_to_a_report(people: Path, command_line: Callable[..., Any]) -> None:
    first, _, last = commands("own-data.md")
    (people / "annotations.json").rename(people / "people.json")
    shutil.copy(CHECKPOINT, people)
    front = next(words for words in first if "front" in words)
    for words in [front, *last]:
        done = command_line(people, *(CHECKPOINT.name if w == "pose.pth" else w for w in words))
        assert done.code == 0, done.err
    facts = json.loads((people / "report/report.json").read_text())
    assert facts["engines"] == ["pose.onnx", "pose.fp16.onnx"]
    assert facts["subsets"] == ["all", "front", "back"]
    for cell in facts["cells"]:
        low, high = cell["intervals"]["AP"]
        assert 0.5 < cell["AP"] <= 1
        assert low <= cell["AP"] <= high
        assert cell["errors"]["good"] > 0.6
    counts = {cell["subset"]: cell["persons"] for cell in facts["cells"]}
    assert counts["all"] >= counts["front"] + counts["back"] > counts["front"] > 0
    assert "AP of pose" in (people / "report/report.md").read_text()


def test_replicate_coco(people: Path, command_line: Callable[..., Any]) -> None:
    (people / "annotations").mkdir()
    content = json.loads((people / "annotations.json").read_text())
    annotations = people / "annotations/person_keypoints_val2017.json"
    (people / "annotations.json").rename(annotations)
    (people / "images").rename(people / "val2017")
    shutil.copy(CHECKPOINT, people)
    boxes = [
        {**{key: entry[key] for key in ("image_id", "category_id", "bbox")}, "score": 0.9}
        for entry in content["annotations"]
    ]
    name = "COCO_val2017_detections_AP_H_56_person.json"
    (people / name).write_text(json.dumps(boxes))
    for block in commands("replicate-coco.md"):
        for words in block:
            ours = [w.replace("pose_hrnet_w32_256x192", CHECKPOINT.stem) for w in words]
            done = command_line(people, *ours)
            assert done.code == 0, done.err
    for result in ("detector.json", "ground-truth.json"):
        assert json.loads((people / result).read_text())["AP"] > 0.5
    facts = json.loads((people / "report/report.json").read_text())
    assert facts["subsets"] == ["all", "alone"]
