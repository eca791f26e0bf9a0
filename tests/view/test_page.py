"""``hrnet-deploy view`` as a process, and its page in headless Chromium."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.browser import WAIT_S, Browser
from tests.predict import detectors

pytest.importorskip("starlette", reason="needs Starlette (pip install 'hrnet-deploy[view]')")
pytest.importorskip("uvicorn", reason="needs uvicorn (pip install 'hrnet-deploy[view]')")


def started(*words: str) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "hrnet_deploy", "view", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


@pytest.fixture
def page(make_tiny_onnx: Callable[..., Path]) -> Iterator[str]:
    names = {"with.onnx": {"flip_test": True}, "without.onnx": {}}
    chain = ((0, 1), (1, 2))
    paths = [make_tiny_onnx(name, skeleton=chain, **more) for name, more in names.items()]
    words = [word for path in paths for word in ("--engine", str(path))]
    detector = detectors.yolox(paths[0].with_name("finds_red.onnx"))
    process, address = started(*words, "--detector", str(detector))
    with process:
        yield address
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "view: is closed" in err
    assert "Traceback" not in err


def fetch(address: str, **headers: str) -> int:
    request = urllib.request.Request(address, headers=headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_it_listens_on_this_machine_only(page: str) -> None:
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", page)
    assert fetch(page) == 200
    assert fetch(page, Host="evil.example") == 403
    assert fetch(page, Origin="http://evil.example") == 403


def test_a_port_that_is_taken(page: str, tiny_onnx: Path) -> None:
    port = page.rsplit(":", 1)[1].strip("/")
    process, line = started("--engine", str(tiny_onnx), "--port", port)
    with process:
        _, err = process.communicate(timeout=60)
    assert (process.returncode, line) == (3, "")
    assert err.splitlines()[-1].startswith(
        f"hrnet-deploy: error: --port: port {port} on 127.0.0.1 is taken"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--detector", "nothing.onnx"), "nothing.onnx: no such file"),
        (("--detector", "no_such_name"), "no_such_name: "),
    ],
)
def test_what_is_quickly_checked_is_checked_before_engines_are_loaded(
    words: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    process, line = started("--engine", str(broken), *words)
    with process:
        _, err = process.communicate(timeout=60)
    assert (process.returncode, line) == (2, "")
    assert err.splitlines()[-1].startswith(f"hrnet-deploy: error: {message}")


_TO_SCREEN = (
    "const m = document.getElementById('canvas').getScreenCTM();"
    "const p = new DOMPoint(arguments[0], arguments[1]).matrixTransform(m); return [p.x, p.y]"
)


_DROP = """
const canvas = document.createElement('canvas');
canvas.width = 60; canvas.height = 40;
canvas.getContext('2d').fillRect(0, 0, 60, 40);
canvas.toBlob((blob) => {
  const dropped = new DataTransfer();
  dropped.items.add(new File([blob], 'dropped.png'));
  const event = new DragEvent('drop', { dataTransfer: dropped, bubbles: true, cancelable: true });
  document.getElementById('stage').dispatchEvent(event);
});
"""


def drag(browser: Browser, *points: tuple[float, float]) -> None:
    """A drag over points in pixels of the picture."""
    browser.drag(*(browser.run(_TO_SCREEN, *point) for point in points))


BOXES = "JSON.stringify(state.boxes.map((box) => box.map(Math.round)))"
JOINTS = "document.querySelectorAll('#poses .joint').length"


def near(browser: Browser, expected: list[list[int]]) -> bool:
    boxes = json.loads(browser.run(f"return {BOXES}"))
    assert np.abs(np.array(boxes) - expected).max() <= 2
    return True


def test_a_session(page: str, browser: Browser, tmp_path: Path) -> None:
    image = np.zeros((300, 400, 3), np.uint8)
    for centre, colour in (((120, 100), (255, 0, 0)), ((150, 150), (0, 255, 0))):
        cv2.circle(image, centre, 12, colour, -1)
    cv2.circle(image, (120, 200), 12, (0, 0, 255), -1)
    assert cv2.imwrite(str(tmp_path / "dots.png"), image)
    browser.open(page)
    browser.until("document.querySelectorAll('#engine option').length === 2")
    browser.type("#open", str(tmp_path / "dots.png"))
    browser.until("!document.getElementById('canvas').hasAttribute('hidden')")
    assert "dots.png, 400 x 300" in browser.run("return document.body.innerText")

    drag(browser, (80, 60), (120, 150), (180, 240))
    browser.until(f"{JOINTS} === 3")
    assert near(browser, [[80, 60, 180, 240]])
    points = browser.run(
        "return [...document.querySelectorAll('#poses .joint')]"
        ".map((c) => [Number(c.getAttribute('cx')), Number(c.getAttribute('cy'))])"
    )
    assert np.abs(np.array(points) - [[120, 100], [150, 150], [120, 200]]).max() < 12
    rows = "document.querySelectorAll('#keypoints tbody tr').length"
    assert browser.run(f"return {rows}") == 3

    drag(browser, (130, 170), (140, 180), (150, 190))  # moves it
    browser.until("!state.asking")
    assert near(browser, [[100, 80, 200, 260]])
    drag(browser, (200, 260), (210, 262), (220, 270))  # its corner
    browser.until("!state.asking")
    assert near(browser, [[100, 80, 220, 270]])
    browser.click("#whole")
    browser.until(f"{JOINTS} > 3")
    browser.click("#remove")
    browser.until(f"{JOINTS} <= 3 && state.boxes.length === 1 && !state.asking")

    browser.choose("heatmap", "-1")
    browser.until(
        "document.getElementById('heat').getAttribute('href')?.startsWith('data:image/png')"
    )
    browser.choose("other", "1")
    browser.until("document.querySelectorAll('#other-poses .joint').length > 0")
    assert "apart" in browser.run("return document.getElementById('keypoints').innerText")
    assert browser.run("return document.querySelectorAll('#times tr').length") == 5
    flip = "const f = document.getElementById('flip'); return [f.checked, f.disabled]"
    assert browser.run(flip) == [True, True]  # it is inside this engine
    browser.choose("engine", "1")
    assert browser.run(flip) == [True, False]
    browser.click("#flip")
    browser.choose("other", "turned")
    browser.until("state.second !== null && !state.asking")
    assert "itself with flip-test" in browser.run("return document.body.innerText")

    browser.run(_DROP)
    browser.until("document.getElementById('file').textContent === 'dropped.png, 60 x 40'")
    assert browser.run("return state.boxes.length") == 0
    browser.click("#whole")
    browser.until("state.first !== null")

    (tmp_path / "broken.png").write_bytes((tmp_path / "dots.png").read_bytes()[:-40])
    assert browser.complaints() == []
    browser.type("#open", str(tmp_path / "broken.png"))
    browser.until("!document.getElementById('message').hidden")
    assert "broken.png: " in browser.run("return document.getElementById('message').innerText")
    assert browser.run("return state.boxes.length") == 1  # what was there is untouched


@pytest.fixture
def opened(page: str, browser: Browser, tmp_path: Path) -> Browser:
    """The page with a picture of one red person."""
    image = np.full((240, 320, 3), 30, np.uint8)
    image[60:200, 100:170, 2] = 255
    assert cv2.imwrite(str(tmp_path / "red.png"), image)
    browser.open(page)
    browser.until("document.querySelectorAll('#engine option').length === 2")
    browser.type("#open", str(tmp_path / "red.png"))
    browser.until("state.picture !== null")
    return browser


def test_people_are_found_and_saved(opened: Browser) -> None:
    opened.click("#find")
    opened.until("state.first !== null && !state.asking")
    assert near(opened, [[100, 60, 170, 200]])
    opened.click("#save-poses")
    record = json.loads(downloaded(opened, "red.poses.json"))
    assert (record["image"], record["width"], record["height"]) == ("red.png", 320, 240)
    assert (record["engine"], record["flip_test"]) == ("with.onnx", True)
    (person,) = record["persons"]
    assert np.shape(person["keypoints"]) == (3, 3)
    assert person["score"] == opened.run("return state.first.instances[0]")
    opened.click("#save-picture")
    drawn = cv2.imdecode(np.frombuffer(downloaded(opened, "red.poses.png"), np.uint8), 1)
    assert drawn.shape == (240, 320, 3)
    assert (drawn != 30).any(axis=2).sum() > 70 * 140  # the red one and something over it


def test_only_poses_of_the_boxes_that_are_shown_are_saved(opened: Browser) -> None:
    cannot = "return document.getElementById('save-poses').disabled"
    opened.click("#find")
    opened.until("state.first !== null && !state.asking")
    assert opened.run(cannot) is False
    opened.type("#canvas", ".")
    opened.run("window.fetch = () => new Promise(() => {})")  # it works
    opened.type("#canvas", "\ue014")  # arrow right
    assert opened.run(cannot) is True


def test_a_note_of_the_detector_stays(opened: Browser) -> None:
    opened.run(
        "const real = fetch, found = { boxes: [[100, 60, 170, 200]], found: 2 };"
        "window.fetch = (path, asked) => path === 'api/people'"
        " ? Promise.resolve(new Response(JSON.stringify(found))) : real(path, asked)"
    )
    opened.click("#find")
    opened.until("state.first !== null && !state.asking")
    assert "found 2 persons; the 1 surest" in opened.run("return document.body.innerText")


def downloaded(browser: Browser, name: str) -> bytes:
    """A file that the page saved."""
    path, end = browser.downloads / name, time.monotonic() + WAIT_S
    while not path.is_file():
        assert time.monotonic() < end, f"{name} was not saved"
        time.sleep(0.05)
    return path.read_bytes()


def test_without_a_mouse(opened: Browser) -> None:
    opened.type("#canvas", "n")
    opened.until("state.boxes.length === 1 && !state.asking")
    before = opened.run("return state.boxes[0]")
    opened.type("#canvas", "\ue014")  # arrow right
    opened.type("#canvas", "\ue008\ue015")  # Shift and arrow down
    opened.until("!state.asking")
    expected = [before[0] + 3, before[1], before[2] + 3, before[3] + 3]
    assert opened.run("return state.boxes[0]") == expected
    opened.type("#canvas", "n")
    opened.type("#canvas", ",")
    assert opened.run("return state.chosen") == 0
    opened.type("#canvas", "\ue017")  # Delete
    opened.until("state.boxes.length === 1 && !state.asking")
    opened.click("#save-poses")  # a button keeps its own keys
    opened.run("document.getElementById('whole').focus()")
    opened.type("#whole", "\ue017")
    assert opened.run("return state.boxes.length") == 1


@pytest.mark.parametrize("size", [(1280, 800), (390, 844)])
def test_nothing_sticks_out(opened: Browser, size: tuple[int, int]) -> None:
    opened.resize(*size)
    opened.click("#find")
    opened.until("state.first !== null && !state.asking")
    assert opened.run("return document.documentElement.scrollWidth") <= size[0]
    outside = (
        "return [...document.querySelectorAll('button, .button, select, #canvas')].filter((e) => {"
        "const r = e.getBoundingClientRect();"
        "return r.width > 0 && (r.left < 0 || r.right > innerWidth); }).map((e) => e.id)"
    )
    assert opened.run(outside) == []
    shown = opened.run("return document.getElementById('canvas').getBoundingClientRect().height")
    assert shown > 150


def test_a_server_that_is_gone_is_said(opened: Browser) -> None:
    opened.click("#find")
    opened.until("state.first !== null && !state.asking")
    opened.run("window.fetch = () => Promise.reject(new TypeError('Failed to fetch'))")
    opened.click("#whole")
    opened.until("!document.getElementById('message').hidden")
    assert opened.run("return state.first") is None
    message = opened.run("return document.getElementById('message').innerText")
    assert "is hrnet-deploy view still running?" in message
