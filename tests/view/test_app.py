"""The page's server: who may ask, what it takes, and that its poses are the engine's own."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

from hrnet_deploy import PoseEstimator
from hrnet_deploy.engines import load_engine
from hrnet_deploy.errors import InputError
from hrnet_deploy.predict import PersonDetector
from hrnet_deploy.runtime.image import decode_image
from tests.predict import detectors

pytest.importorskip("starlette", reason="needs Starlette (pip install 'hrnet-deploy[view]')")
pytest.importorskip("httpx", reason="needs httpx (pip install 'hrnet-deploy[dev]')")

from starlette.testclient import TestClient

from hrnet_deploy.view.app import MAX_PICTURE_BYTES, SCRIPTS, application
from hrnet_deploy.view.bench import KEPT_PICTURES, MAX_PERSONS, Bench

HOME = "http://127.0.0.1:8123"
BOXES = [[4.0, 5.0, 40.0, 44.0], [20.5, 1.0, 60.0, 30.0]]
ORIENTED = 6
"""Turned by a quarter: width and height change places."""


@pytest.fixture
def paths(make_tiny_onnx: Callable[..., Path]) -> list[Path]:
    return [
        make_tiny_onnx("plain.onnx"),
        make_tiny_onnx("other.onnx", source_sha256="1" * 64),
        make_tiny_onnx("bare.onnx", has_heatmaps=False),
    ]


@pytest.fixture
def client(paths: list[Path]) -> Iterator[TestClient]:
    engines = [(path, load_engine(path)) for path in paths]
    with TestClient(application(Bench(engines)), base_url=HOME) as browser:
        yield browser
    for _, engine in engines:
        engine.close()


@pytest.fixture
def content(pictures: ModuleType) -> bytes:
    encoded: bytes = pictures.encoded(".png")
    return encoded


def dropped(client: TestClient, content: bytes, name: str = "a.png") -> dict[str, Any]:
    answer = client.post("/api/picture", content=content, params={"name": name})
    assert answer.status_code == 200, answer.text
    facts: dict[str, Any] = answer.json()
    return facts


def asked(client: TestClient, **question: Any) -> Any:
    return client.post("/api/poses", content=json.dumps(question))


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/", "text/html"), ("/page.css", "text/css")]
    + [(f"/{name}", "text/javascript") for name in SCRIPTS],
)
def test_the_page_asks_nobody_else(client: TestClient, path: str, kind: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(kind)
    rules = answer.headers["content-security-policy"]
    assert "default-src 'none'" in rules
    assert "*" not in rules
    text = answer.text.replace("http://www.w3.org/2000/svg", "")
    assert "://" not in text
    assert "style=" not in text


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "evil.example:8123"},
        {"host": "127.0.0.1"},
        {"host": "127.0.0.1:8124"},
        {"host": "127.0.0.1.evil.example:8123"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "https://127.0.0.1:8123"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
@pytest.mark.parametrize("path", ["/", "/api/bench"])
def test_others_are_refused(client: TestClient, headers: dict[str, str], path: str) -> None:
    answer = client.get(path, headers=headers)
    assert answer.status_code == 403
    assert "plain.onnx" not in answer.text


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": "localhost:8123"},
        {"origin": HOME},
        {"host": "localhost:8123", "origin": "http://localhost:8123"},
        {"sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "none"},
    ],
)
def test_our_own_browser_is_answered(client: TestClient, headers: dict[str, str]) -> None:
    assert client.get("/api/bench", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "localhost"}, 200),
        ({"host": "localhost:80"}, 200),
        ({"host": "localhost", "origin": "http://localhost"}, 200),
        ({"host": "evil.example"}, 403),
        ({"host": "127.0.0.1:8123"}, 403),
        ({"origin": "http://evil.example"}, 403),
    ],
)
def test_the_port_of_the_web_is_left_out_by_browsers(
    paths: list[Path], headers: dict[str, str], status: int
) -> None:
    with load_engine(paths[0]) as engine:
        browser = TestClient(application(Bench([(paths[0], engine)])), base_url="http://127.0.0.1")
        assert browser.get("/api/bench", headers=headers).status_code == status


def test_no_other_site_may_read(client: TestClient, content: bytes) -> None:
    preflight = client.options("/api/poses", headers={"origin": HOME})
    for answer in (preflight, client.get("/"), client.post("/api/picture", content=content)):
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_engines(client: TestClient) -> None:
    facts = client.get("/api/bench").json()
    plain, _, bare = facts["engines"]
    assert plain["name"] == "plain.onnx"
    assert plain["names"] == ["blue", "green", "red"]
    assert plain["input"] == "64x48"
    assert (plain["heatmaps"], bare["heatmaps"]) == (True, False)
    assert (plain["flip_choice"], bare["flip_choice"]) == (True, False)
    assert facts["detector"] is None


def test_the_flip_test_can_be_switched(
    make_tiny_onnx: Callable[..., Path], content: bytes, tmp_path: Path
) -> None:
    swap = {"flip_pairs": ((0, 1),), "shift_heatmap": False}
    paths = [
        make_tiny_onnx("without.onnx", **swap),
        make_tiny_onnx("with.onnx", flip_test=True, **swap),
    ]
    bench = Bench([(path, load_engine(path)) for path in paths])
    facts = bench.facts()["engines"]
    assert [item["flip_choice"] for item in facts] == [True, False]
    key = bench.add(content, "a.png")["picture"]
    plain = bench.poses(key, 0, BOXES, flip=False)
    flipped = bench.poses(key, 0, BOXES, flip=True)
    assert plain["keypoints"] == bench.poses(key, 0, BOXES)["keypoints"]
    assert flipped["scores"] != plain["scores"]
    with PoseEstimator(paths[0], flip="adaptive", flip_threshold=0.0) as estimator:
        poses = estimator(decode_image(content, name="a.png"), BOXES)
    np.testing.assert_allclose(flipped["keypoints"], poses.keypoints_px, atol=0.006)
    assert bench.poses(key, 1, BOXES, flip=True)["keypoints"]
    with pytest.raises(InputError, match="has the flip-test in its graph"):
        bench.poses(key, 1, BOXES, flip=False)


def test_people_are_found(paths: list[Path], tmp_path: Path) -> None:
    picture = np.full((120, 160, 3), 30, np.uint8)
    picture[20:90, 40:80, 2] = 255
    detector = PersonDetector(detectors.yolox(tmp_path / "d.onnx"))
    with TestClient(application(Bench([], detector=detector)), base_url=HOME) as client:
        assert client.get("/api/bench").json()["detector"] == "d.onnx"
        key = dropped(client, cv2.imencode(".png", picture)[1].tobytes())["picture"]
        found = client.post("/api/people", content=json.dumps({"picture": key})).json()
        unknown = client.post("/api/people", content=json.dumps({"picture": "f" * 32}))
    expected = detector.detect(picture)
    np.testing.assert_allclose(found["boxes"], expected.xyxy, atol=0.06)
    assert found["found"] == len(expected)
    assert "is not known any more" in unknown.json()["message"]


def test_without_a_detector_nobody_is_found(client: TestClient, content: bytes) -> None:
    key = dropped(client, content)["picture"]
    answer = client.post("/api/people", content=json.dumps({"picture": key}))
    assert answer.status_code == 400
    assert "Start view with --detector" in answer.json()["message"]


def test_the_drawing_is_the_librarys(client: TestClient, content: bytes, paths: list[Path]) -> None:
    key = dropped(client, content)["picture"]
    question = {"picture": key, "engine": 0, "boxes": BOXES, "threshold": 0.1, "with_boxes": True}
    answer = client.post("/api/drawing", content=json.dumps(question))
    assert answer.headers["content-type"] == "image/png"
    image = decode_image(content, name="a.png")
    with PoseEstimator(paths[0]) as estimator:
        expected = estimator(image, BOXES).draw(image, threshold=0.1, boxes=True)
    np.testing.assert_array_equal(decode_image(answer.content, name="b.png"), expected)
    answer = client.post("/api/drawing", content=json.dumps({**question, "threshold": "0"}))
    assert answer.status_code == 400
    assert "question: has no usable threshold" in answer.json()["message"]


def test_poses_are_the_estimators_own(
    client: TestClient, content: bytes, paths: list[Path]
) -> None:
    picture = dropped(client, content)
    assert (picture["width"], picture["height"]) == (64, 48)
    found = asked(client, picture=picture["picture"], engine=0, boxes=BOXES).json()
    with PoseEstimator(paths[0]) as estimator:
        poses = estimator(decode_image(content, name="a.png"), BOXES)
    np.testing.assert_allclose(found["keypoints"], poses.keypoints_px, atol=0.006)
    np.testing.assert_allclose(found["scores"], poses.scores, atol=6e-5)
    np.testing.assert_allclose(found["instances"], poses.instance_scores, atol=6e-5)
    assert set(found["times_ms"]) == {"decode", "crops", "engine"}
    assert min(found["times_ms"].values()) >= 0
    assert "heatmap" not in found


def test_no_boxes(client: TestClient, content: bytes) -> None:
    key = dropped(client, content)["picture"]
    found = asked(client, picture=key, engine=0, boxes=[]).json()
    assert (found["keypoints"], found["scores"]) == ([], [])


@pytest.mark.parametrize("keypoint", [-1, 0, 2])
def test_a_heatmap_lies_where_the_keypoint_is(client: TestClient, keypoint: int) -> None:
    image = np.zeros((120, 200, 3), np.uint8)
    cv2.circle(image, (130, 70), 6, (255, 255, 255), -1)
    done, encoded = cv2.imencode(".png", image)
    assert done
    key = dropped(client, encoded.tobytes())["picture"]
    question = {"picture": key, "engine": 0, "boxes": [[90, 30, 170, 110]], "heatmap": keypoint}
    found = asked(client, **question).json()
    head, data = found["heatmap"].split(",")
    assert head == "data:image/png;base64"
    png = np.frombuffer(base64.b64decode(data), np.uint8)
    heat = cv2.imdecode(png, cv2.IMREAD_UNCHANGED)
    assert heat.shape == (120, 200, 4)
    row, column = np.unravel_index(int(heat[..., 3].argmax()), heat.shape[:2])
    assert abs(column - 130) <= 8
    assert abs(row - 70) <= 8
    assert not heat[:20, :, 3].any()


def test_exif_is_applied_as_the_browser_does(client: TestClient, pictures: ModuleType) -> None:
    jpeg = pictures.encoded(".jpg")
    tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0" + bytes([ORIENTED, 0, 0, 0]) + b"\0" * 4
    body = b"Exif\0\0" + tiff
    turned = jpeg[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + jpeg[2:]
    facts = dropped(client, turned)
    assert (facts["width"], facts["height"]) == (48, 64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda png: b"GIF89a" + png, "unsupported image type"),
        (lambda png: b"not a picture at all, but long enough to be one", "a.png: "),
        (lambda png: png[:-30], "a.png: is "),
        (lambda png: b"", "a.png: "),
    ],
)
def test_a_bad_picture_is_one_line(
    client: TestClient, content: bytes, change: Callable[[bytes], bytes], message: str
) -> None:
    answer = client.post("/api/picture", content=change(content), params={"name": "a.png"})
    assert answer.status_code == 400
    assert message in answer.json()["message"]
    assert answer.json()["error"]["code"] == 2


def test_too_large_an_upload_is_not_read_to_its_end(client: TestClient) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 2 * MAX_PICTURE_BYTES:
            sent += 10_000_000
            yield b"\xff" * 10_000_000

    answer = client.post("/api/picture", content=endless())
    assert answer.status_code == 400
    assert "has more than 100 MB" in answer.json()["message"]


def test_too_many_pixels(paths: list[Path], content: bytes) -> None:
    with TestClient(application(Bench([], max_pixels=100)), base_url=HOME) as client:
        answer = client.post("/api/picture", content=content)
    assert "exceeds 0.0001 Mpx limit" in answer.json()["message"]


def test_a_name_stays_on_one_line(client: TestClient) -> None:
    name = {"name": "\n\x1b[31mred.png"}
    message = client.post("/api/picture", content=b"?", params=name).json()["message"]
    assert message.isprintable()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boxes": [[1, 2, 3]]}, "boxes_xyxy"),
        ({"boxes": [[5, 5, 1, 1]]}, "box 0 has x2 <= x1"),
        ({"boxes": [["a", 1, 2, 3]]}, "boxes_xyxy"),
        ({"boxes": [[0, 0, 9, 9]] * (MAX_PERSONS + 1)}, "Draw at most"),
        ({"boxes": "all"}, "question"),
        ({"engine": 3}, "is not one of 3"),
        ({"engine": -1}, "is not one of 3"),
        ({"engine": True}, "question"),
        ({"engine": "0"}, "question"),
        ({"heatmap": 3}, "keypoint 3 is not one of 3"),
        ({"heatmap": -2}, "keypoint -2 is not one of 3"),
        ({"heatmap": 0.5}, "question"),
        ({"heatmap": 0, "engine": 2}, "--no-heatmaps"),
        ({"picture": "f" * 32}, "is not known any more"),
        ({"picture": 7}, "question"),
    ],
)
def test_a_bad_question(
    client: TestClient, content: bytes, change: dict[str, Any], message: str
) -> None:
    question = {"picture": dropped(client, content)["picture"], "engine": 0, "boxes": BOXES}
    answer = asked(client, **(question | change))
    assert answer.status_code == 400
    assert message in answer.json()["message"]


@pytest.mark.parametrize("body", [b"", b"[]", b"7", b"{}", b"\xff", b"[" * 50_000, b"x" * 100_001])
def test_no_question_at_all(client: TestClient, body: bytes) -> None:
    answer = client.post("/api/poses", content=body)
    assert answer.status_code == 400
    assert "question: " in answer.json()["message"]


def test_old_pictures_are_forgotten(client: TestClient, content: bytes) -> None:
    first = dropped(client, content)["picture"]
    keys = [dropped(client, content)["picture"] for _ in range(KEPT_PICTURES)]
    assert len({first, *keys}) == KEPT_PICTURES + 1
    assert asked(client, picture=first, engine=0, boxes=BOXES).status_code == 400
    assert asked(client, picture=keys[0], engine=0, boxes=BOXES).status_code == 200


def test_a_bug_is_said_and_the_server_goes_on(
    paths: list[Path], content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Bench):
        def add(self, content: bytes, name: str) -> dict[str, Any]:
            raise ZeroDivisionError("hidden")

    app = application(Broken([]))
    with TestClient(app, base_url=HOME, raise_server_exceptions=False) as client:
        answer = client.post("/api/picture", content=content)
        assert answer.status_code == 500
        assert "hidden" not in answer.text
        assert client.get("/").status_code == 200
    assert "a bug of ours" in caplog.text
