"""Faults are planted in a trained network or its data; the doctor must name each one first."""

from __future__ import annotations

import dataclasses
import json
import shutil
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx", reason="needs the onnx package")
pytest.importorskip("torch", reason="reads a checkpoint")

from hrnet_deploy.demo import CHECKPOINT
from hrnet_deploy.demo.people import write_dataset
from hrnet_deploy.engines import load_engine
from hrnet_deploy.evaluation import pixel_causes
from hrnet_deploy.evaluation.case import DoctorSettings, Expected
from hrnet_deploy.evaluation.doctor import Explanation, explain
from hrnet_deploy.evaluation.findings import CAUSES, Finding
from hrnet_deploy.evaluation.plan import prepare
from hrnet_deploy.evaluation.settings import EvalSettings
from hrnet_deploy.export.bare import bare_engine
from hrnet_deploy.export.checkpoint import Checkpoint, read_checkpoint
from hrnet_deploy.export.model import build_hrnet
from hrnet_deploy.export.run import checkpoint_spec
from hrnet_deploy.export.settings import ExportSettings

IMAGES = 20
PERMUTED = [*range(5), 7, 8, 9, 10, 5, 6, *range(11, 17)]
"""Shoulders, elbows and wrists in each other's channels."""


@dataclasses.dataclass(frozen=True)
class Ward:
    """The trained network and untouched pictures."""

    folder: Path
    checkpoint: Checkpoint
    annotations: Path

    @property
    def images(self) -> Path:
        return self.annotations.parent / "images"

    def engine(self, name: str, *, channels: list[int] | None = None, **changes: Any) -> Path:
        """An engine of the trained network whose spec says something else."""
        spec = checkpoint_spec(self.checkpoint, ExportSettings(), say=lambda line: None)
        spec = dataclasses.replace(spec, **changes)
        weights = self.checkpoint.arrays
        if channels is not None:
            for part in ("weight", "bias"):
                weights[f"final_layer.{part}"] = weights[f"final_layer.{part}"][channels]
        model = build_hrnet(spec, self.checkpoint.architecture, weights, source=name)
        path = self.folder / f"{name}.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    def copy(self, name: str) -> Ward:
        shutil.copytree(self.annotations.parent, self.folder / name)
        return dataclasses.replace(self, annotations=self.folder / name / "annotations.json")


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Ward:
    folder = tmp_path_factory.mktemp("ward")
    annotations = write_dataset(folder / "set", images=IMAGES, seed=77)
    return Ward(folder, read_checkpoint(CHECKPOINT), annotations)


@pytest.fixture(autouse=True)
def one_other_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """The large usual sizes take most of the time and are no better for this network."""
    monkeypatch.setattr(pixel_causes, "USUAL_SIZES_HW", ((128, 96), (160, 128)))


def examine(
    ward: Ward, engine: Path, *, boxes: Path | None = None, nms: str = "hard", **options: Any
) -> Explanation:
    settings = EvalSettings(allow_missing=True, keep_going=True, nms=nms)  # type: ignore[arg-type]
    with load_engine(engine, threads=1) as loaded:
        plan = prepare(loaded, ward.annotations, ward.images, boxes=boxes, settings=settings)
        network = bare_engine(engine)
        return explain(
            plan,
            network=network.raw_heatmaps,
            any_size=True,
            settings=options.pop("settings", DoctorSettings(persons=36, seconds=600)),
            **options,
        )


def first(explanation: Explanation) -> Finding:
    assert len({f.cause for f in explanation.findings}) == len(explanation.findings)
    assert {f.cause for f in explanation.findings} == set(CAUSES)
    json.dumps(explanation.as_json(), allow_nan=False)
    return explanation.findings[0]


def test_nothing_is_found_in_a_healthy_engine(ward: Ward) -> None:
    explanation = examine(ward, ward.engine("healthy"))
    assert [f.cause for f in explanation.findings if f.verdict == "found"] == []
    assert explanation.sample_ap.value is not None
    assert explanation.sample_ap.value > 0.7
    assert explanation.measured_from == "the sample"


@pytest.mark.parametrize(
    ("cause", "changes", "says"),
    [
        ("channel_order", {"network_color_order": "bgr"}, "red and blue exchanged"),
        ("flip_shift", {"shift_heatmap": False}, "shifted by one pixel"),
        (
            "flip_pairs",
            {"flip_pairs": ((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12))},
            r"left_knee - right_knee, left_ankle - right_ankle",
        ),
        (
            "flip_pairs",
            {"flip_pairs": ((1, 2), (3, 4), (5, 8), (7, 6), (9, 10), (11, 12), (13, 14), (15, 16))},
            "left_shoulder - right_shoulder",
        ),
        ("keypoint_order", {"channels": PERMUTED}, "left_shoulder is in channel 9"),
        (
            "input_size",
            {"input_size_hw": (256, 192), "heatmap_size_hw": (64, 48)},
            "an input of 128x96 instead of 256x192",
        ),
    ],
)
def test_a_fault_in_the_engine(ward: Ward, cause: str, changes: dict[str, Any], says: str) -> None:
    engine = ward.engine(cause, **changes)
    found = first(examine(ward, engine, trained_size_hw=(128, 96)))
    assert (found.cause, found.verdict) == (cause, "found"), found
    assert says in found.says
    assert found.effect > 0.02
    assert found.remedy.startswith("Export ")


def test_no_flip_test(ward: Ward) -> None:
    """On this small network it is worth less than the sample can show: it must still be named."""
    explanation = examine(ward, ward.engine("no_flip", flip_test=False, shift_heatmap=False))
    flip = next(f for f in explanation.findings if f.cause == "flip_test")
    assert flip.tried == "a flip-test and its shift"
    assert flip.ap is not None
    assert flip.remedy.startswith("Export with --flip") or flip.verdict == "ruled out"
    assert all(f.cause == "flip_test" for f in explanation.findings if f.verdict == "found")


def test_pictures_that_exif_turns(ward: Ward) -> None:
    """Stored lying on their side with a tag; the annotations are those of the upright picture."""
    other = ward.copy("exif")
    for path in sorted(other.images.iterdir()):
        turned = np.rot90(cv2.imread(str(path)), 1)  # counter-clockwise; tag 6 turns it back
        path.write_bytes(_with_orientation(cv2.imencode(".jpg", turned)[1].tobytes(), 6))
    found = first(examine(other, ward.engine("exif")))
    assert (found.cause, found.verdict) == ("exif_rotation", "found"), found
    assert found.effect > 0.5


def _with_orientation(jpeg: bytes, value: int) -> bytes:
    tiff = b"II*\0" + struct.pack("<IHHHII", 8, 1, 0x0112, 3, 1, value) + struct.pack("<I", 0)
    segment = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:]


def test_pictures_of_another_size(ward: Ward) -> None:
    other = ward.copy("small")
    for path in sorted(other.images.iterdir()):
        picture = cv2.imread(str(path))
        cv2.imwrite(str(path), cv2.resize(picture, None, fx=0.8, fy=0.8))
    found = first(examine(other, ward.engine("small")))
    assert (found.cause, found.verdict) == ("image_size", "found"), found


def test_missing_pictures(ward: Ward) -> None:
    other = ward.copy("missing")
    for path in sorted(other.images.iterdir())[::3]:
        path.unlink()
    found = first(examine(other, ward.engine("missing")))
    assert (found.cause, found.verdict) == ("missing_images", "found")
    assert found.says[0] in "567"
    assert found.effect > 0.1


def test_truncated_pictures(ward: Ward) -> None:
    other = ward.copy("truncated")
    for path in sorted(other.images.iterdir())[::4]:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found = first(examine(other, ward.engine("truncated")))
    assert (found.cause, found.verdict) == ("truncated_images", "found")
    assert "cannot be read whole" in found.says


def detections(ward: Ward, *, wrong: float, twice: bool) -> Path:
    """Boxes like a detector's: shifted by ``wrong`` of their size, or each found twice."""
    rng = np.random.default_rng(5)
    content = json.loads(ward.annotations.read_text())
    boxes = []
    for entry in content["annotations"]:
        if entry["iscrowd"] or not entry["num_keypoints"]:
            continue
        for copy in range(3 if twice else 1):
            x, y, w, h = entry["bbox"]
            dx, dy = rng.uniform(-wrong, wrong, 2) + copy * 0.01
            box = [x + dx * w, y + dy * h, w, h]
            boxes.append(
                {
                    "image_id": entry["image_id"],
                    "category_id": 1,
                    "bbox": box,
                    "score": float(rng.uniform(0.4, 1)),
                }
            )
    path = ward.folder / f"boxes_{wrong}_{twice}.json"
    path.write_text(json.dumps(boxes))
    return path


def test_detector_boxes_instead_of_ground_truth(ward: Ward) -> None:
    boxes = detections(ward, wrong=0.35, twice=False)
    found = first(examine(ward, ward.engine("boxes"), boxes=boxes))
    assert (found.cause, found.verdict) == ("boxes", "found"), found
    assert found.tried == "ground-truth boxes"


def test_no_suppression(ward: Ward) -> None:
    boxes = detections(ward, wrong=0.0, twice=True)
    found = first(
        examine(
            ward, ward.engine("nms"), boxes=boxes, nms="none", expected=Expected(boxes="detector")
        )
    )
    assert (found.cause, found.verdict) == ("oks_nms", "found"), found
    assert "--oks-nms hard" in found.remedy


def test_an_engine_that_cannot_be_opened_says_so(ward: Ward) -> None:
    engine = ward.engine("closed")
    with load_engine(engine, threads=1) as loaded:
        plan = prepare(
            loaded, ward.annotations, ward.images, boxes=None, settings=EvalSettings(limit=8)
        )
        explanation = explain(plan, settings=DoctorSettings(persons=10, seconds=600))
    silent = {f.cause for f in explanation.findings if f.verdict == "cannot tell"}
    assert {"flip_shift", "flip_pairs", "input_size", "decode", "boxes"} == silent
    subset = next(f for f in explanation.findings if f.cause == "subset")
    assert "only the first 8 of 20" in subset.says


def test_the_same_seed_gives_the_same_answer(ward: Ward) -> None:
    engine = ward.engine("again")
    settings = DoctorSettings(persons=12, seconds=600, seed=3)
    one, two = (examine(ward, engine, settings=settings).as_json() for _ in range(2))
    assert one == two


def test_other_pictures_than_those_of_the_expected_figure(ward: Ward) -> None:
    """Why 0.95 and not 0.76: nothing is wrong, the pictures are others."""
    explanation = examine(
        ward,
        ward.engine("others"),
        expected=Expected(0.76, boxes="ground truth", images=5000),
        settings=DoctorSettings(persons=10, seconds=600),
    )
    named = explanation.findings[0]
    assert (named.cause, named.verdict) == ("subset", "possible")
    assert "20 images are evaluated, the expected AP is of 5000" in named.says
