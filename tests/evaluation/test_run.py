from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from hrnet_deploy import load_engine
from hrnet_deploy.engines import EngineOutput
from hrnet_deploy.errors import (
    EnvironmentFault,
    GateError,
    InputError,
    InterruptedRun,
)
from hrnet_deploy.evaluation.journal import Journal
from hrnet_deploy.evaluation.metric import STATS
from hrnet_deploy.evaluation.plan import prepare
from hrnet_deploy.evaluation.result import EvalResult
from hrnet_deploy.evaluation.run import evaluate, infer
from hrnet_deploy.evaluation.settings import EvalSettings
from hrnet_deploy.keypoints import keypoint_set
from hrnet_deploy.spec import ModelSpec

pytest.importorskip("onnx", reason="needs the onnx package")

from hrnet_deploy.evaluation.result import measure
from hrnet_deploy.runtime.flip import FlipEngine, doubt
from tests.colour_engine import ColourEngine
from tests.tiny import tiny_spec, write_tiny_onnx
from tests.world import NAMES, SIGMAS, World, make_world

SPEC = tiny_spec(keypoint_names=NAMES, sigmas=SIGMAS)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path, images=12)


def engine(**options: Any) -> ColourEngine:
    return ColourEngine(SPEC, **options)


def entries(result: EvalResult) -> list[dict[str, Any]]:
    return list(result.detections.as_coco())


def settings(**changes: Any) -> EvalSettings:
    return EvalSettings(**{"batch_size": 4, **changes})


def test_ground_truth_boxes(world: World) -> None:
    result = evaluate(engine(), world.annotations, world.images)
    assert list(result.stats) == list(STATS)
    assert result.stats["AP"] is not None
    assert result.stats["AP"] > 0.8
    assert result.stats["APl"] is None
    assert result.label == "full"
    assert result.counts == {
        "images_in_file": 12,
        "images": 12,
        "images_skipped": 0,
        "images_without_person": 3,
        "persons": 18,
        "boxes_without_extent": 0,
        "boxes_left_out": {"crowds": 0, "without_area_or_keypoints": 0, "outside_image": 0},
        "detections": 18,
    }


def test_detections_are_coco_results(world: World) -> None:
    options = settings(nms="none")
    result = evaluate(
        engine(), world.annotations, world.images, boxes=world.boxes, settings=options
    )
    boxes = json.loads(world.boxes.read_text())
    assert len(result.detections) == len(boxes)
    for detection, box in zip(result.detections.as_coco(), boxes, strict=True):
        x, y, w, h = box["bbox"]
        keypoints = np.array(detection["keypoints"]).reshape(3, 3)
        seen = keypoints[:, 2][keypoints[:, 2] > 0.2]
        assert detection["image_id"] == box["image_id"]
        assert detection["category_id"] == 1
        assert detection["center"] == pytest.approx([x + w / 2, y + h / 2], abs=1e-4)
        assert detection["scale"][1] == pytest.approx(max(h, w * 4 / 3) * 1.25 / 200)
        assert detection["score"] == pytest.approx(box["score"] * seen.mean())
        assert (
            (keypoints[:, :2] > [x - 12, y - 12]) & (keypoints[:, :2] < [x + w + 12, y + h + 12])
        ).all()


def test_the_same_file_again_through_pycocotools_alone(world: World, tmp_path: Path) -> None:
    """What is written is what was measured: an independent reading gives the same figures."""
    pytest.importorskip("pycocotools", reason="needs pycocotools")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    result = evaluate(engine(), world.annotations, world.images, boxes=world.boxes)
    path = tmp_path / "found.json"
    path.write_text(json.dumps(list(result.detections.as_coco())))
    truth = COCO(str(world.annotations))
    evaluation = COCOeval(truth, truth.loadRes(str(path)), "keypoints")
    evaluation.params.kpt_oks_sigmas = np.array(SIGMAS)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    known = [-1 if value is None else value for value in result.stats.values()]
    assert known == evaluation.stats.tolist()


@pytest.mark.parametrize("batch_size", [1, 3, 7, 1024])
def test_any_batch_size_gives_the_same_result(world: World, batch_size: int) -> None:
    one = evaluate(engine(), world.annotations, world.images, settings=settings(batch_size=32))
    two = evaluate(
        engine(), world.annotations, world.images, settings=settings(batch_size=batch_size)
    )
    assert entries(one) == entries(two)
    assert one.as_json() == two.as_json()


def test_official_suppression_and_scores_written_as_loops(world: World) -> None:
    """Twin boxes on every person: hard suppression keeps the better half."""
    boxes = json.loads(world.boxes.read_text())
    twins = [{**box, "score": box["score"] / 2, "bbox": [*box["bbox"]]} for box in boxes]
    world.boxes.write_text(json.dumps([*twins, *boxes]))
    by_kind = {
        kind: evaluate(
            engine(),
            world.annotations,
            world.images,
            boxes=world.boxes,
            settings=settings(nms=kind),
        )
        for kind in ("hard", "soft", "none")
    }
    found = {kind: len(result.detections) for kind, result in by_kind.items()}
    assert found == {"hard": len(boxes), "soft": 2 * len(boxes), "none": 2 * len(boxes)}
    alone = evaluate_boxes(world, boxes)
    assert by_kind["hard"].stats == alone.stats
    assert by_kind["hard"].counts["persons"] == 2 * len(boxes)


def evaluate_boxes(world: World, boxes: list[Any], **changes: Any) -> Any:
    world.boxes.write_text(json.dumps(boxes))
    return evaluate(
        engine(), world.annotations, world.images, boxes=world.boxes, settings=settings(**changes)
    )


def test_limit_is_labelled(world: World) -> None:
    result = evaluate(engine(), world.annotations, world.images, settings=settings(limit=5))
    assert result.subset
    assert result.label == "subset (the first 5 of 12 images), not comparable"
    facts = result.as_json()
    assert (facts["subset"], facts["comparable"]) == (True, False)
    assert facts["fingerprint"]["settings"]["limit"] == 5
    assert {d["image_id"] for d in entries(result)} <= {1000, 993, 986, 979, 972}
    everything = evaluate(engine(), world.annotations, world.images, settings=settings(limit=12))
    assert everything.label == "full"


def test_no_box_above_the_threshold_is_ap_zero(world: World) -> None:
    used = engine()
    result = evaluate(
        used,
        world.annotations,
        world.images,
        boxes=world.boxes,
        settings=settings(score_threshold=2.0),
    )
    assert (result.stats["AP"], entries(result), used.batches) == (0.0, [], [])
    assert result.notes == ["no person box is left to evaluate: AP is 0"]


@pytest.mark.parametrize("crowd", [False, True])
def test_without_persons_ap_is_undefined(world: World, crowd: bool) -> None:
    persons = [{**entry, "iscrowd": 1} for entry in world.content["annotations"]]
    path = world.rewrite(annotations=persons if crowd else [])
    result = evaluate(engine(), path, world.images)
    assert result.stats == dict.fromkeys(STATS)
    assert result.notes == ["no labelled person in the ground truth: AP is undefined"]
    json.dumps(result.as_json(), allow_nan=False)


def test_boxes_without_extent_are_evaluated_and_counted(world: World) -> None:
    boxes = [
        {"image_id": 993, "category_id": 1, "bbox": bbox, "score": 0.5}
        for bbox in ([10, 20, 0, 40], [10, 20, 0, 0], [30, 40, -5, -6], [-1e9, 4, 1e9, 10])
    ]
    result = evaluate_boxes(world, boxes)
    assert result.counts["persons"] == 4
    assert result.counts["boxes_without_extent"] == 3
    assert result.notes[0].startswith("3 boxes have no width or height")
    values = [v for d in entries(result) for v in (*d["keypoints"], d["score"])]
    assert np.isfinite(values).all()


def test_engine_without_sigmas(world: World) -> None:
    other = ColourEngine(tiny_spec(keypoint_names=NAMES))
    with pytest.raises(InputError, match=r"colour\.onnx: has no OKS sigmas .* \(colours\)"):
        evaluate(other, world.annotations, world.images)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"limit": 0}, "limit: is 0"),
        ({"batch_size": 0}, "batch_size: is 0. Give 1 to 1024"),
        ({"batch_size": 1025}, "batch_size: is 1025"),
        ({"nms": "fast"}, "nms: is 'fast'. Give hard, soft or none"),
        ({"nms_threshold": 0.0}, "nms_threshold: is 0.0"),
    ],
)
def test_settings_out_of_range(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        settings(**changes)


def truncate(world: World, index: int) -> Path:
    path = world.images / world.content["images"][index]["file_name"]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def test_a_truncated_picture_stops_by_name(world: World, tmp_path: Path) -> None:
    path = truncate(world, 9)
    with pytest.raises(InputError, match=rf"{path.name}: is (truncated|damaged).*--keep-going"):
        evaluate(
            engine(),
            world.annotations,
            world.images,
            settings=settings(),
            journal=tmp_path / "j",
        )
    assert len((tmp_path / "j").read_text().splitlines()) > 4, "what was done is kept"


def test_keep_going_leaves_it_out_and_says_so(world: World) -> None:
    truncate(world, 9)
    result = evaluate(engine(), world.annotations, world.images, settings=settings(keep_going=True))
    assert [image.file_name for image in result.skipped] == ["picture 9.png"]
    assert result.partial
    assert result.label == "partial (1 images left out), not comparable"
    without = evaluate(
        engine(),
        world.rewrite(images=[im for im in world.content["images"] if im["id"] != 937]),
        world.images,
    )
    assert result.stats == without.stats, "its ground truth is left out too"


def test_missing_pictures_are_refused_before_inference(world: World) -> None:
    (world.images / "picture 5.png").unlink()
    (world.images / "picture 8.png").unlink()  # nobody is in it: never read
    used = engine()
    with pytest.raises(InputError, match=r"1 of 9 images are missing: picture 5\.png"):
        evaluate(used, world.annotations, world.images)
    assert used.batches == []
    result = evaluate(used, world.annotations, world.images, settings=settings(allow_missing=True))
    assert [(image.image_id, image.reason) for image in result.skipped] == [(965, "missing")]
    assert result.counts["images"] == 11


class NanEngine(ColourEngine):
    """Gives NaN wherever the crop shows the red spot of one picture."""

    def _infer(self, crops_nhwc: np.ndarray, *, heatmaps: bool) -> EngineOutput:
        output = super()._infer(crops_nhwc, heatmaps=heatmaps)
        output.scores[crops_nhwc.max((1, 2, 3)) == 255] = np.nan
        return output


def test_not_finite_names_the_image(world: World) -> None:
    name = world.content["images"][3]["file_name"]
    picture = cv2.imread(str(world.images / name))
    picture[picture > 199] = 255
    cv2.imwrite(str(world.images / name), picture)
    with pytest.raises(
        GateError, match=r"NaN or infinity for 3 of 3 crops \(image id 979, picture 3"
    ):
        evaluate(NanEngine(SPEC), world.annotations, world.images, settings=settings())
    result = evaluate(
        NanEngine(SPEC), world.annotations, world.images, settings=settings(keep_going=True)
    )
    assert [image.image_id for image in result.skipped] == [979]
    assert {d["image_id"] for d in entries(result)}.isdisjoint({979})


def goes_on(
    world: World, journal: Path, first: ColourEngine, error: type[Exception], match: str
) -> None:
    """The error comes, the journal holds what was finished, the next run only does the rest."""
    whole = evaluate(engine(), world.annotations, world.images, settings=settings())
    with pytest.raises(error, match=match):
        evaluate(first, world.annotations, world.images, settings=settings(), journal=journal)
    second = engine()
    result = evaluate(second, world.annotations, world.images, settings=settings(), journal=journal)
    assert result.as_json() == whole.as_json()
    assert entries(result) == entries(whole)
    assert 0 < len(second.batches) < 5
    assert len(first.batches) + len(second.batches) <= 5 + 1, "at most one batch is done twice"


def test_a_lost_device(world: World, tmp_path: Path) -> None:
    def lose(number: int) -> None:
        if number == 2:
            raise EnvironmentFault("cuda:0", "GPU error 700 (illegal address)", "Restart")

    match = r"cuda:0: GPU error 700 \(illegal address\)\. Restart\. Run the same command again"
    goes_on(world, tmp_path / "j", engine(before=lose), EnvironmentFault, match)


def test_memory_runs_out(world: World, tmp_path: Path) -> None:
    def run_out(number: int) -> None:
        if number == 3:
            raise MemoryError

    match = "memory: ran out of memory. Lower --batch. Run the same command again"
    goes_on(world, tmp_path / "j", engine(before=run_out), EnvironmentFault, match)


def test_a_bug_in_an_engine_keeps_the_journal(world: World, tmp_path: Path) -> None:
    def fail(number: int) -> None:
        if number == 3:
            raise ZeroDivisionError("a bug")

    goes_on(world, tmp_path / "j", engine(before=fail), ZeroDivisionError, "a bug")


def test_an_interrupted_adaptive_flip_test_counts_everybody_once(
    world: World, tmp_path: Path
) -> None:
    """Second passes wait in a queue of their own; what goes on gives the same result and share."""
    path = write_tiny_onnx(tmp_path / "tiny.onnx", sigmas=SIGMAS, keypoint_names=NAMES)
    with load_engine(path) as inner:
        plan = prepare(inner, world.annotations, world.images, boxes=None, settings=settings())
        scores = np.concatenate([poses[..., 2] for poses in infer(plan, None).poses.values()])
        flip = FlipEngine(inner, float(np.median(doubt(scores))))
        plan = prepare(flip, world.annotations, world.images, boxes=None, settings=settings())
        whole = infer(plan, None)
        assert whole.second_passes == 9
        asked: list[int] = []
        with (
            Journal(tmp_path / "j", plan.fingerprint, joints=3) as journal,
            pytest.raises(InterruptedRun, match=r"[1-8] of 9 images are done"),
        ):
            infer(plan, journal, stop=lambda: (asked.append(0), 2 if len(asked) == 5 else None)[1])
        with Journal(tmp_path / "j", plan.fingerprint, joints=3) as journal:
            assert journal.finished
            again = infer(plan, journal)
    assert measure(plan, again).as_json() == measure(plan, whole).as_json()
    assert again.second_passes == whole.second_passes


@pytest.mark.parametrize("signal_number", [2, 15])
def test_a_signal_ends_after_the_batch(world: World, tmp_path: Path, signal_number: int) -> None:
    asked: list[int] = []
    used = engine(before=asked.append)
    plan = prepare(used, world.annotations, world.images, boxes=None, settings=settings())
    with (
        Journal(tmp_path / "j", plan.fingerprint, joints=3) as journal,
        pytest.raises(InterruptedRun, match=r"j: interrupted, \d of 9 images are done") as caught,
    ):
        infer(plan, journal, stop=lambda: signal_number if len(asked) == 3 else None)
    assert caught.value.signal_number == signal_number
    assert len(used.batches) == 3
    done = len((tmp_path / "j").read_text().splitlines()) - 1
    assert done >= 5, "the pictures of the last batch are in the journal"


def test_a_picture_that_disappears_is_named_and_may_come_back(world: World, tmp_path: Path) -> None:
    path = world.images / "picture 11.png"
    content = path.read_bytes()

    def delete(number: int) -> None:
        path.unlink(missing_ok=True)

    first = engine(before=delete)
    options: dict[str, Any] = {
        "settings": settings(batch_size=1),
        "journal": tmp_path / "j",
    }
    with pytest.raises(InputError, match=r"picture 11\.png: "):
        evaluate(first, world.annotations, world.images, **options)
    path.write_bytes(content)
    result = evaluate(engine(), world.annotations, world.images, **options)
    assert result.label == "full"
    assert result.counts["images"] == 12


def test_a_skipped_picture_is_tried_again(world: World, tmp_path: Path) -> None:
    path = world.images / "picture 6.png"
    content = path.read_bytes()
    path.write_bytes(content[:200])
    options: dict[str, Any] = {
        "settings": settings(keep_going=True),
        "journal": tmp_path / "j",
    }
    assert evaluate(engine(), world.annotations, world.images, **options).partial
    path.write_bytes(content)
    again = engine()
    result = evaluate(again, world.annotations, world.images, **options)
    assert not result.partial
    assert sum(map(len, again.batches)) == 2
    whole = evaluate(engine(), world.annotations, world.images, settings=settings())
    assert entries(result) == entries(whole)


def test_progress_counts_persons(world: World, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    evaluate(
        engine(),
        world.annotations,
        world.images,
        settings=settings(),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen[0] == (0, 18)
    assert seen[-1] == (18, 18)
    assert seen == sorted(seen)


def test_fingerprint_knows_what_matters(world: World) -> None:
    def taken(used: ColourEngine | None = None, boxes: Path | None = None, **changes: Any) -> Any:
        return prepare(
            used or engine(),
            world.annotations,
            world.images,
            boxes=boxes,
            settings=settings(**changes),
        ).fingerprint

    base = taken()
    assert base["versions"]["opencv"] == cv2.__version__
    assert taken(batch_size=8, keep_going=True, allow_missing=True, max_pixels=1e9) == base
    assert taken(engine(path="moved/elsewhere.onnx")) == base
    other = [
        taken(engine(sha256="d" * 64)),
        taken(engine(device="cuda:0")),
        taken(engine(versions={"numpy": "2"})),
        taken(ColourEngine(tiny_spec(keypoint_names=NAMES, sigmas=(0.1, 0.1, 0.2)))),
        taken(boxes=world.boxes),
        taken(limit=3),
        taken(nms="soft"),
        taken(nms_threshold=0.8),
        taken(score_threshold=0.1),
    ]
    assert all(print_ != base for print_ in other)
    world.rewrite(annotations=[])
    assert taken() != base


def coco_engine(**options: Any) -> ColourEngine:
    coco = keypoint_set("coco_17")
    spec: ModelSpec = tiny_spec(keypoint_names=coco.names, sigmas=coco.sigmas, **options)
    return ColourEngine(spec)


def test_real_pictures_with_detector_boxes(shared: Path) -> None:
    folder = shared / "data/mmpose-tests/coco"
    result = evaluate(
        coco_engine(),
        folder / "test_coco.json",
        folder,
        boxes=folder / "test_coco_det_AP_H_56.json",
    )
    assert result.counts["persons"] == 118 - sum(result.counts["boxes_left_out"].values())
    assert result.stats["AP"] is not None
    assert 0 <= result.stats["AP"] < 0.1, "colours are no keypoints"
    assert result.label == "full"


def test_real_pictures_with_crowds_and_without_persons(shared: Path) -> None:
    folder = shared / "data/coco-train2017-mini"
    result = evaluate(
        coco_engine(), folder / "person_keypoints_train2017_mini.json", folder / "images"
    )
    assert (result.counts["images"], result.counts["persons"]) == (110, 139)
    assert result.counts["images_without_person"] > 0
    with pytest.raises(InputError, match="'person' has 17 keypoints, the engine gives 3"):
        evaluate(engine(), folder / "person_keypoints_train2017_mini.json", folder / "images")
