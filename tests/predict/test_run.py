"""Pictures to files: what comes out, what is left out, and what is never half-written."""

from __future__ import annotations

import csv
import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx", reason="needs the onnx package")

from hrnet_deploy.errors import EnvironmentFault, InputError
from hrnet_deploy.predict.estimator import PoseEstimator
from hrnet_deploy.predict.job import PredictJob
from hrnet_deploy.predict.outputs import CsvFile, ParquetFile
from hrnet_deploy.predict.run import Summary, predict_to_files
from hrnet_deploy.predict.video import VideoChoice
from hrnet_deploy.runtime.engine_options import EngineOptions
from hrnet_deploy.runtime.image import read_image
from tests.predict import detectors
from tests.tiny import tiny_spec
from tests.world import World, make_world


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path / "world", images=6)


def run(engine: Path, *words: object, **options: Any) -> tuple[list[dict[str, Any]], Summary]:
    lines: list[str] = []
    stdin = options.pop("stdin", ())
    stop = options.pop("stop", lambda: None)
    job = PredictJob(words=tuple(map(str, words)), engine=engine, **options)
    summary = predict_to_files(job, emit=lines.append, lines=stdin, stop=stop)
    return [json.loads(line) for line in lines], summary


def test_poses_are_those_of_the_python_interface(tiny_onnx: Path, world: World) -> None:
    records, summary = run(tiny_onnx, world.images, boxes=world.annotations, batch_size=4)
    assert (summary.frames, summary.persons, summary.skipped) == (6, 7, [])
    assert summary.without_persons == 2
    boxes: dict[str, list[list[float]]] = {}
    names = {entry["id"]: entry["file_name"] for entry in world.content["images"]}
    for entry in world.content["annotations"]:
        x, y, w, h = entry["bbox"]
        boxes.setdefault(names[entry["image_id"]], []).append([x, y, x + w, y + h])
    with PoseEstimator(tiny_onnx) as estimator:
        for record in records:
            path = Path(record["image"])
            expected = estimator(read_image(path), boxes.get(path.name, []))
            assert len(record["persons"]) == len(expected)
            for person, points, scores in zip(
                record["persons"], expected.keypoints_px, expected.scores, strict=True
            ):
                triple = np.array(person["keypoints"])
                np.testing.assert_allclose(triple[:, :2], points, atol=6e-4)
                np.testing.assert_allclose(triple[:, 2], scores, atol=6e-6)


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_batches_change_nothing(tiny_onnx: Path, world: World, batch_size: int) -> None:
    whole, _ = run(tiny_onnx, world.images, boxes=world.boxes, image_ids=world.annotations)
    split, _ = run(
        tiny_onnx,
        world.images,
        boxes=world.boxes,
        image_ids=world.annotations,
        batch_size=batch_size,
    )
    assert whole == split


def test_every_format_of_output_holds_the_same(
    tiny_onnx: Path, world: World, tmp_path: Path
) -> None:
    outputs = tuple(tmp_path / "out" / f"poses{suffix}" for suffix in (".jsonl", ".json", ".csv"))
    lines, _ = run(tiny_onnx, world.images, boxes=world.annotations, outputs=(*outputs, Path("-")))
    assert [json.loads(line) for line in outputs[0].read_text().splitlines()] == lines
    persons = [person for line in lines for person in line["persons"]]
    results = json.loads(outputs[1].read_text())
    flat = [[value for point in person["keypoints"] for value in point] for person in persons]
    assert [entry["keypoints"] for entry in results] == flat
    with outputs[2].open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["red_x"]) for row in rows] == [p["keypoints"][2][0] for p in persons]
    assert [row["source"] for row in rows] == [e["file_name"] for e in results]
    assert sorted(file.name for file in outputs[0].parent.iterdir()) == [
        "poses.csv",
        "poses.json",
        "poses.jsonl",
    ]


def test_our_csv_is_read_as_boxes_again(tiny_onnx: Path, world: World, tmp_path: Path) -> None:
    output = tmp_path / "poses.csv"
    first, _ = run(tiny_onnx, world.images, boxes=world.annotations, outputs=(output, Path("-")))
    again, _ = run(tiny_onnx, world.images, boxes=output)
    assert [line["persons"] for line in again] == [line["persons"] for line in first]


def test_parquet_needs_pyarrow_and_says_so_before_any_work(
    tiny_onnx: Path, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    output = tmp_path / "poses.parquet"
    with pytest.raises(EnvironmentFault, match=r"needs pyarrow.*hrnet-deploy\[parquet\]"):
        run(tiny_onnx, world.images, boxes=world.annotations, outputs=(output,))
    assert not output.exists()


def test_parquet_holds_what_csv_holds(
    tiny_onnx: Path, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("hrnet_deploy.predict.outputs.PARQUET_ROWS", 2)  # several row groups
    outputs = tmp_path / "poses.csv", tmp_path / "poses.parquet"
    run(tiny_onnx, world.images, boxes=world.annotations, outputs=outputs)
    with outputs[0].open(newline="") as stream:
        expected = list(csv.DictReader(stream))
    table = parquet.read_table(outputs[1])
    assert table.column_names == list(expected[0])
    rows = table.to_pylist()
    assert len(rows) == len(expected) == 7
    for row, texts in zip(rows, expected, strict=True):
        for name, value in row.items():
            text = texts[name]
            assert (value is None) == (text == "")
            assert value is None or value == (text if name == "source" else float(text))
    with ParquetFile(tmp_path / "none.parquet", tiny_spec()) as nobody:
        nobody.complete()
        nobody.finish()
    assert parquet.read_table(tmp_path / "none.parquet").num_rows == 0


def test_names_that_are_not_utf8_in_every_format(
    tiny_onnx: Path, world: World, tmp_path: Path
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    picture = tmp_path / os.fsdecode(b"caf\xe9.png")
    try:
        picture.write_bytes((world.images / "picture 1.png").read_bytes())
    except OSError:
        pytest.skip("this file system takes only UTF-8")
    outputs = tuple(tmp_path / f"poses.{kind}" for kind in ("jsonl", "json", "csv", "parquet"))
    run(tiny_onnx, picture, whole_image=True, outputs=outputs)
    assert json.loads(outputs[0].read_bytes())["image"] == str(picture)
    assert os.fsencode(picture) in outputs[2].read_bytes()
    (source,) = parquet.read_table(outputs[3]).column("source").to_pylist()
    assert source == str(picture).replace("\udce9", "\\udce9")


def test_without_boxes_the_error_says_the_three_ways(tiny_onnx: Path, world: World) -> None:
    with pytest.raises(InputError, match=r"--boxes FILE .*--detector .*--whole-image"):
        run(tiny_onnx, world.images)
    with pytest.raises(InputError, match="--whole-image: contradicts --boxes"):
        run(tiny_onnx, world.images, boxes=world.boxes, whole_image=True)


def test_the_whole_image_is_one_box(tiny_onnx: Path, world: World) -> None:
    records, _ = run(tiny_onnx, world.images / "picture 1.png", whole_image=True)
    assert [p["box_xyxy"] for p in records[0]["persons"]] == [[0, 0, 160, 120]]


def test_unreadable_pictures_are_listed_and_the_rest_is_done(tiny_onnx: Path, world: World) -> None:
    (world.images / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (world.images / "text.jpg").write_text("hello")
    records, summary = run(tiny_onnx, world.images, whole_image=True)
    assert summary.frames == 6
    assert sorted(Path(name).name for name, _ in summary.skipped) == ["broken.png", "text.jpg"]
    assert sum("error" in record for record in records) == 2


def test_a_single_unreadable_picture_is_an_error(tiny_onnx: Path, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("hello")
    output = tmp_path / "out.csv"
    with pytest.raises(InputError, match=r"text\.jpg: is not an image"):
        run(tiny_onnx, tmp_path / "text.jpg", whole_image=True, outputs=(output,))
    assert not output.exists()


def test_boxes_of_other_pictures_are_refused(tiny_onnx: Path, world: World) -> None:
    with pytest.raises(InputError, match=r"no boxes of .*or any other of the 6 pictures"):
        run(tiny_onnx, world.images, boxes=world.boxes)  # ids that are no file names


def test_nan_of_the_engine_costs_one_picture(
    make_tiny_onnx: Callable[..., Path], world: World
) -> None:
    cv2.imwrite(str(world.images / "picture 1.png"), np.full((120, 160, 3), 255, np.uint8))
    engine = make_tiny_onnx(poison=True)
    names = "".join(f"picture {i}.png,50,40,80,80\n" for i in range(6))
    boxes = world.folder / "inside.csv"
    boxes.write_text(f"image,x1,y1,x2,y2\n{names}")
    _, summary = run(engine, world.images, boxes=boxes)
    assert [Path(name).name for name, _ in summary.skipped] == ["picture 1.png"]
    assert "NaN" in summary.skipped[0][1].problem
    assert (summary.frames, summary.persons) == (5, 5)


def test_names_may_come_from_stdin(tiny_onnx: Path, world: World) -> None:
    lines = (f"{world.images}/picture {i}.png\n" for i in (2, 0))
    records, _ = run(tiny_onnx, "-", whole_image=True, stdin=lines)
    assert [Path(record["image"]).name for record in records] == ["picture 2.png", "picture 0.png"]


def test_a_list_is_answered_line_by_line_with_a_batch_of_one(tiny_onnx: Path, world: World) -> None:
    """Somebody who waits for an answer before writing the next name gets one."""
    answers: list[str] = []
    answered: list[int] = []

    def names() -> Iterator[str]:
        for number in (3, 1, 0, 2):
            answered.append(len(answers))
            yield f"{world.images}/picture {number}.png\n"

    job = PredictJob(("-",), tiny_onnx, boxes=world.annotations, batch_size=1)
    predict_to_files(job, emit=answers.append, lines=names())
    assert answered == [0, 1, 2, 3]


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_drawings_and_heatmaps(
    tiny_onnx: Path, world: World, tmp_path: Path, batch_size: int
) -> None:
    options = {"draw": tmp_path / "drawn", "heatmaps": tmp_path / "heat", "draw_boxes": True}
    run(tiny_onnx, world.images, boxes=world.annotations, batch_size=batch_size, **options)
    original = cv2.imread(str(world.images / "picture 3.png")).astype(int)
    for folder in (tmp_path / "drawn", tmp_path / "heat"):
        assert len(list(folder.iterdir())) == 6
        picture = cv2.imread(str(folder / "picture 3.png"))
        assert picture.shape == original.shape
        assert np.abs(picture - original).max() > 50
    nobody = cv2.imread(str(tmp_path / "heat" / "picture 0.png"))
    np.testing.assert_array_equal(nobody, cv2.imread(str(world.images / "picture 0.png")))


def test_side_by_side_keeps_the_original(tiny_onnx: Path, world: World, tmp_path: Path) -> None:
    draw = tmp_path / "drawn"
    picture = world.images / "picture 1.png"
    run(tiny_onnx, picture, whole_image=True, draw=draw, side_by_side=True)
    both = cv2.imread(str(draw / "picture 1.png"))
    np.testing.assert_array_equal(both[:, :160], cv2.imread(str(picture)))


def test_pictures_of_one_name_keep_their_own_drawing(
    tiny_onnx: Path, world: World, tmp_path: Path
) -> None:
    other = make_world(tmp_path / "other", images=2, seed=1)
    words = (world.images / "picture 1.png", other.images / "picture 1.png")
    run(tiny_onnx, *words, whole_image=True, draw=tmp_path / "drawn")
    names = sorted(file.name for file in (tmp_path / "drawn").iterdir())
    assert names == ["picture 1-2.png", "picture 1.png"]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"outputs": (Path("x.txt"),)}, "unknown extension"),
        ({"side_by_side": True}, "--side-by-side: needs --draw"),
        ({"keypoint_threshold": 0.5}, "--keypoint-threshold: needs --draw"),
        ({"reconnect_s": 5.0}, "--reconnect: needs a camera or stream"),
        ({"track": True}, "--track: needs a video"),
        ({"choice": VideoChoice(every=2)}, "--every: needs a video"),
        ({"choice": VideoChoice(start_s=1)}, "--start: needs a video"),
        ({"choice": VideoChoice(duration_s=1)}, "--duration: needs a video"),
        ({"boxes_format": "coco"}, "--boxes-format: needs --boxes"),
        ({"image_ids": Path("ids.json")}, "--image-ids: needs --boxes"),
        ({"score_threshold": 0.3}, "--score-threshold: is for boxes with scores"),
        ({"draw": Path("x.mp4")}, "single video for several"),
        ({"outputs": (Path("a.csv"), Path("a.csv"))}, "given twice"),
    ],
)
def test_choices_that_make_no_sense_are_refused(
    option: dict[str, Any], message: str, tiny_onnx: Path, world: World, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        run(tiny_onnx, world.images, whole_image=True, **option)


def test_an_existing_output_is_only_replaced_by_force(
    tiny_onnx: Path, world: World, tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    output.write_text("old")
    with pytest.raises(InputError, match=r"exists\. Pass --force"):
        run(tiny_onnx, world.images, whole_image=True, outputs=(output,))
    assert output.read_text() == "old"
    run(tiny_onnx, world.images, whole_image=True, outputs=(output,), force=True)
    assert len(output.read_text().splitlines()) == 6


def stopping_after(frames: int) -> Callable[[], int | None]:
    asked = iter(range(10**6))
    return lambda: 2 if next(asked) >= frames - 1 else None


def test_an_interrupted_run_goes_on_and_gives_the_same_bytes(
    tiny_onnx: Path, world: World, tmp_path: Path
) -> None:
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    run(tiny_onnx, world.images, boxes=world.annotations, outputs=(whole,))
    drawn = tmp_path / "world" / "drawn"
    options: dict[str, Any] = {"boxes": world.annotations, "outputs": (cut,), "batch_size": 2}
    options["draw"] = drawn
    run(tiny_onnx, world.images, **options, stop=stopping_after(2))
    assert not cut.exists()
    _, summary = run(tiny_onnx, world.images, **options, stop=stopping_after(4))
    assert summary.replayed >= 2
    _, summary = run(tiny_onnx, world.images, **options)
    assert summary.replayed >= 4
    assert len(list(drawn.iterdir())) == 6
    assert cut.read_bytes() == whole.read_bytes()
    assert sorted(f.name for f in tmp_path.iterdir()) == ["cut.jsonl", "whole.jsonl", "world"]


def test_a_changed_picture_is_not_taken_from_the_journal(
    tiny_onnx: Path, world: World, tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    options: dict[str, Any] = {"whole_image": True, "outputs": (output,), "batch_size": 1}
    run(tiny_onnx, world.images, **options, stop=stopping_after(3))
    picture = world.images / "picture 1.png"
    cv2.imwrite(str(picture), np.full((50, 60, 3), 9, np.uint8))
    cv2.imwrite(str(world.images / "a new one.png"), np.full((50, 60, 3), 9, np.uint8))
    _, summary = run(tiny_onnx, world.images, **options)
    records = [json.loads(line) for line in output.read_text().splitlines()]
    assert summary.replayed >= 1
    assert [record["width"] for record in records] == [60, 160, 60, 160, 160, 160, 160]


def test_the_journal_of_other_options_is_refused(
    tiny_onnx: Path, world: World, tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    run(tiny_onnx, world.images, whole_image=True, outputs=(output,), stop=stopping_after(1))
    with pytest.raises(InputError, match=r"another run; it differs in persons\.boxes: .*--fresh"):
        run(tiny_onnx, world.images, boxes=world.annotations, outputs=(output,))
    run(tiny_onnx, world.images, boxes=world.annotations, outputs=(output,), fresh=True)
    assert output.exists()


def test_a_picture_that_cannot_be_read_stands_in_the_way_of_no_other(
    tiny_onnx: Path, world: World, tmp_path: Path
) -> None:
    broken, output = tmp_path / "broken.png", tmp_path / "out.jsonl"
    broken.write_bytes((world.images / "picture 1.png").read_bytes()[:500])
    with pytest.raises(InputError, match="is truncated"):
        run(tiny_onnx, broken, whole_image=True, outputs=(output,))
    assert not list(tmp_path.glob("out*"))
    run(tiny_onnx, world.images, whole_image=True, outputs=(output,))
    assert output.exists()


def test_no_output_is_in_place_before_all_are_complete(
    tiny_onnx: Path, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is killed while it writes the last one is gone on with, not refused."""
    outputs = tmp_path / "out.jsonl", tmp_path / "out.csv"

    def killed(output: CsvFile) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(CsvFile, "complete", killed)
        with pytest.raises(KeyboardInterrupt):
            run(tiny_onnx, world.images, whole_image=True, outputs=outputs)
    assert sorted(path.name for path in tmp_path.glob("out*")) == ["out.jsonl.journal"]
    _, summary = run(tiny_onnx, world.images, whole_image=True, outputs=outputs)
    assert summary.replayed == summary.frames
    assert sorted(path.name for path in tmp_path.glob("out*")) == ["out.csv", "out.jsonl"]


def test_the_journal_of_another_backend_is_refused(
    tiny_onnx: Path, world: World, tmp_path: Path
) -> None:
    pytest.importorskip("openvino", reason="needs OpenVINO")
    options: dict[str, Any] = {"whole_image": True, "outputs": (tmp_path / "out.jsonl",)}
    run(tiny_onnx, world.images, **options, stop=stopping_after(1))
    with pytest.raises(InputError, match=r"another run; it differs in engine\.backend"):
        run(tiny_onnx, world.images, **options, engine_options=EngineOptions(backend="openvino"))


def test_the_journal_of_other_boxes_in_the_same_place_is_refused(
    tiny_onnx: Path, world: World, tmp_path: Path
) -> None:
    boxes = tmp_path / "yolo"
    boxes.mkdir()
    for picture in world.images.iterdir():
        (boxes / f"{picture.stem}.txt").write_text("0 0.5 0.5 0.4 0.4\n")
    options: dict[str, Any] = {"boxes": boxes, "outputs": (tmp_path / "out.jsonl",)}
    run(tiny_onnx, world.images, **options, stop=stopping_after(1))
    changed = boxes / "picture 3.txt"
    before = changed.read_text()
    changed.write_text("0 0.5 0.5 0.3 0.4\n")
    with pytest.raises(InputError, match=r"another run; it differs in persons\.boxes: "):
        run(tiny_onnx, world.images, **options)
    changed.write_text(before)
    _, summary = run(tiny_onnx, world.images, **options)
    assert (summary.frames, summary.replayed) == (6, 6)


def test_the_journal_of_another_opencv_or_detector_is_refused(
    tiny_onnx: Path, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = detectors.yolox(tmp_path / "d.onnx")
    options: dict[str, Any] = {"detector": detector, "outputs": (tmp_path / "out.jsonl",)}
    run(tiny_onnx, world.images, **options, stop=stopping_after(1))
    with pytest.raises(InputError, match=r"persons\.detector\.config\.score_threshold: 0\.4 -> 0"):
        run(tiny_onnx, world.images, **options, score_threshold=0.0)
    with monkeypatch.context() as other:
        other.setattr(cv2, "__version__", "5.0.0")
        with pytest.raises(InputError, match=r"versions\.opencv: .* -> 5\.0\.0"):
            run(tiny_onnx, world.images, **options)
    with monkeypatch.context() as other:
        other.setattr("onnxruntime.__version__", "9.9")
        with pytest.raises(InputError, match=r"persons\.detector\.versions\.onnxruntime: .*9\.9"):
            run(tiny_onnx, world.images, **options)
    run(tiny_onnx, world.images, **options)


def test_exif_follows_what_the_boxes_refer_to(tiny_onnx: Path, tmp_path: Path) -> None:
    from tests.predict.test_orientation import tiff, with_exif

    picture = tmp_path / "7.jpg"
    picture.write_bytes(with_exif(".jpg", np.zeros((30, 50, 3), np.uint8), tiff(6, "<")))
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("image,x1,y1,x2,y2\n7.jpg,0,0,20,20\n")
    seen, _ = run(tiny_onnx, picture, whole_image=True)
    stored, summary = run(tiny_onnx, picture, boxes=boxes)
    applied, _ = run(tiny_onnx, picture, boxes=boxes, apply_exif=True)
    assert [(r[0]["width"], r[0]["height"]) for r in (seen, stored, applied)] == [
        (30, 50),
        (50, 30),
        (30, 50),
    ]
    assert stored[0]["exif"] == {"orientation": 6, "applied": False}
    assert any("--exif apply" in note for note in summary.notes)
    assert math.isfinite(seen[0]["persons"][0]["score"])
