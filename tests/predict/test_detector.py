"""Every family of detectors finds the same rectangle, from its graph or with a description."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx", reason="needs the onnx package")

from onnx import TensorProto, helper

from hrnet_deploy.errors import EnvironmentFault, InputError
from hrnet_deploy.predict.detector.candidates import Candidates, of_picture
from hrnet_deploy.predict.detector.config import DetectorConfig
from hrnet_deploy.predict.detector.detector import PersonDetector
from hrnet_deploy.predict.detector.network import prepared
from hrnet_deploy.predict.job import PredictJob
from hrnet_deploy.predict.run import predict_to_files
from tests.predict import detectors
from tests.world import make_world

BOX = (60, 30, 150, 170)
IMAGE_WH = (320, 256)
CAFFE = 'family = "ssd"\ncolor = "bgr"\nresize = "stretch"\nperson_class = 15\n'
FRACTIONS = 'family = "end-to-end"\nresize = "letterbox-center"\nstd = [255, 255, 255]\n'

FAMILIES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "yolox": (detectors.yolox, ""),
    "yolox decoded": (lambda p: detectors.yolox(p, decoded=True), ""),
    "nanodet": (detectors.nanodet, ""),
    "detr": (detectors.detr, ""),
    "hf-detr": (detectors.hf_detr, ""),
    "tensorflow": (detectors.tensorflow_ssd, ""),
    "caffe": (detectors.caffe_ssd, CAFFE),
    "nms": (lambda p: detectors.end_to_end(p, "nms"), FRACTIONS),
    "mm": (lambda p: detectors.end_to_end(p, "mm"), FRACTIONS),
    "six": (lambda p: detectors.end_to_end(p, "six"), FRACTIONS),
    "seven": (lambda p: detectors.end_to_end(p, "seven"), FRACTIONS),
}


def picture(box: tuple[int, int, int, int] | None = BOX) -> np.ndarray:
    image = np.full((IMAGE_WH[1], IMAGE_WH[0], 3), 30, np.uint8)
    if box is not None:
        image[box[1] : box[3], box[0] : box[2], 2] = 255
    return image


def described(folder: Path, text: str) -> Path | None:
    if not text:
        return None
    path = folder / "detector.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_finds_the_rectangle_once(family: str, tmp_path: Path) -> None:
    make, text = FAMILIES[family]
    detector = PersonDetector(make(tmp_path / "d.onnx"), described(tmp_path, text))
    found = detector.detect(picture())
    assert len(found) == 1
    assert 0.7 < found.scores[0] <= 1
    # Scaling down to 192x128 blurs an edge over up to two pixels of the picture.
    np.testing.assert_allclose(found.xyxy[0], BOX, atol=2.5)
    assert len(detector.detect(picture(None))) == 0


IN_BATCHES = ("yolox", "nanodet", "detr", "hf-detr", "nms", "mm", "six")
SEVERAL = (BOX, None, (100, 20, 180, 240), (10, 90, 60, 200), BOX)


@pytest.mark.parametrize("batch", [None, 3])
@pytest.mark.parametrize("family", IN_BATCHES)
def test_batches_change_nothing(family: str, batch: int | None, tmp_path: Path) -> None:
    make, text = FAMILIES[family]
    config = described(tmp_path, text)
    pictures = [picture(box) for box in SEVERAL]
    alone = [PersonDetector(make(tmp_path / "1.onnx"), config).detect(p) for p in pictures]
    many = detectors.batched(make(tmp_path / "n.onnx"), batch)
    detector = PersonDetector(many, config)
    assert detector.at_once == (batch or 8)
    together = detector.detect_many(pictures)
    assert [len(found) for found in together] == [1, 0, 1, 1, 1]
    for one, found in zip(alone, together, strict=True):
        np.testing.assert_array_equal(found.xyxy, one.xyxy)
        np.testing.assert_array_equal(found.scores, one.scores)


def test_tables_over_all_pictures_are_taken_apart() -> None:
    table = np.array([[0, 1, 2, 3, 4, 0, 0.9], [2, 5, 6, 7, 8, 0, 0.8], [2, 0, 0, 1, 1, 0, 0.7]])
    for outputs in ({"output": table}, {"output": table[None, None]}):
        rows = [of_picture(outputs, index, 3)["output"].reshape(-1, 7) for index in range(3)]
        assert [row[:, 6].tolist() for row in rows] == [[0.9], [], [0.8, 0.7]]


def test_a_batch_is_what_the_graph_and_its_description_say(tmp_path: Path) -> None:
    free = detectors.batched(detectors.yolox(tmp_path / "n.onnx"), None)
    assert PersonDetector(free, described(tmp_path, "batch = 2")).at_once == 2
    fixed = detectors.batched(detectors.yolox(tmp_path / "3.onnx"), 3)
    with pytest.raises(InputError, match=r"has batch = 2, the graph takes 3"):
        PersonDetector(fixed, described(tmp_path, "batch = 2"))
    assert PersonDetector(detectors.tensorflow_ssd(tmp_path / "t.onnx")).at_once == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_openvino_finds_the_same(family: str, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    make, text = FAMILIES[family]
    model, config = make(tmp_path / "d.onnx"), described(tmp_path, text)
    expected = PersonDetector(model, config).detect(picture())
    found = PersonDetector(model, config, backend="openvino").detect(picture())
    np.testing.assert_allclose(found.xyxy, expected.xyxy, atol=1e-3)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    with pytest.raises(InputError, match="OpenVINO runs on cpu"):
        PersonDetector(model, config, backend="openvino", device="cuda")


@pytest.mark.parametrize("form", ["nms", "six", "caffe"])
def test_a_graph_that_does_not_say_what_goes_in_asks_for_a_description(
    form: str, tmp_path: Path
) -> None:
    make = detectors.caffe_ssd if form == "caffe" else FAMILIES[form][0]
    with pytest.raises(InputError, match="--detector-config"):
        PersonDetector(make(tmp_path / "d.onnx"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("family = ", "not valid TOML"),
        ('famly = "yolox"', "unknown key 'famly'"),
        ("pad = 114", "has no 'family'"),
        ('family = "rcnn"', "has family = 'rcnn'"),
        ('family = "ssd"\nstd = [1, 0, 1]', r"has std = \(1, 0, 1\)"),
        ('family = "ssd"\nsize_hw = [0, 3]', "has size_hw"),
    ],
)
def test_a_wrong_description_is_refused_by_its_key(text: str, message: str, tmp_path: Path) -> None:
    model = detectors.caffe_ssd(tmp_path / "d.onnx")
    with pytest.raises(InputError, match=message):
        PersonDetector(model, described(tmp_path, text))


def test_a_description_changes_what_was_recognised(tmp_path: Path) -> None:
    model = detectors.yolox(tmp_path / "d.onnx")
    config = described(tmp_path, "score_threshold = 0.95")
    assert len(PersonDetector(model, config).detect(picture())) == 0
    assert len(PersonDetector(model, config, score_threshold=0.5).detect(picture())) == 1


def test_what_is_no_detector_is_refused(tmp_path: Path, tiny_onnx: Path) -> None:
    (tmp_path / "d.onnx").write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match="not a valid ONNX file"):
        PersonDetector(tmp_path / "d.onnx")
    with pytest.raises(InputError, match="is a pose engine of ours, no person detector"):
        PersonDetector(tiny_onnx)
    graph, shape = detectors.Graph(), [1, 3, 64, 64]
    graph.op("Identity", "images", out="features")
    ends = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)]
        for name in ("images", "features")
    ]
    with pytest.raises(InputError, match=r"outputs of an unknown form: features \(1, 3, 64, 64\)"):
        PersonDetector(graph.save(tmp_path / "f.onnx", *ends))
    with pytest.raises((InputError, EnvironmentFault), match="device"):
        PersonDetector(detectors.yolox(tmp_path / "y.onnx"), device="cuda:77")
    with pytest.raises(InputError, match=r"device: is ''. Give cpu"):
        PersonDetector(detectors.yolox(tmp_path / "y.onnx"), device="")
    unknown = tmp_path / "u.onnx"
    unknown.write_bytes((tmp_path / "f.onnx").read_bytes().replace(b"Identity", b"Frobnica"))
    with pytest.raises(InputError, match=r"u\.onnx: ONNX Runtime cannot load it \(.*Frobnica"):
        PersonDetector(unknown)


def test_overlaps_are_suppressed_and_the_best_comes_first(tmp_path: Path) -> None:
    detector = PersonDetector(detectors.yolox(tmp_path / "d.onnx"))
    boxes = np.array([[0, 0, 50, 100], [2, 0, 52, 100], [100, 0, 150, 100], [0, 0, 9, 0.5]])
    found = detector._chosen(Candidates(boxes, np.array([0.6, 0.9, 0.95, 0.99]), "image"))
    assert found.scores.tolist() == [0.95, 0.9]
    assert found.xyxy.tolist() == [[100, 0, 150, 100], [2, 0, 52, 100]]


@given(
    st.integers(1, 400),
    st.integers(1, 400),
    st.sampled_from(["letterbox", "letterbox-center", "stretch"]),
)
def test_the_way_into_the_network_is_the_way_back(width: int, height: int, resize: str) -> None:
    config = DetectorConfig("yolox", resize=resize)  # type: ignore[arg-type]
    image = np.full((height, width, 3), 200, np.uint8)
    tensor, scale, shift = prepared(image, (128, 192), config)
    assert tensor.shape == (128, 192, 3)
    rows, columns = np.nonzero(tensor[..., 0] == 200)
    for axis, (places, side) in enumerate(((columns, width), (rows, height))):
        low = (places.min() - shift[axis]) / scale[axis]
        high = (places.max() + 1 - shift[axis]) / scale[axis]
        assert low == pytest.approx(0, abs=1e-6)
        # Whole pixels: at most one is lost, and a picture has at least one.
        assert high <= side + 1e-6 or side * scale[axis] < 1
        assert (side - high) * scale[axis] <= 1 + 1e-6


def test_predict_with_a_detector(tiny_onnx: Path, tmp_path: Path) -> None:
    """Whatever the batch, and with a picture between that cannot be read."""
    world = make_world(tmp_path / "w", images=11)
    (world.images / "picture 3b.png").write_bytes(b"no picture")
    model = detectors.yolox(tmp_path / "d.onnx")
    results = []
    for detector in (model, detectors.batched(detectors.yolox(tmp_path / "n.onnx"), None)):
        lines: list[str] = []
        job = PredictJob((str(world.images),), tiny_onnx, detector=detector)
        summary = predict_to_files(job, emit=lines.append)
        assert (summary.frames, len(summary.skipped)) == (11, 1)
        assert summary.persons > 1
        results.append(lines)
    assert results[0] == results[1]
