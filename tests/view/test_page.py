"""``hrnet-deploy view`` as a process, and its page in headless Chromium."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("starlette", reason="needs Starlette (pip install 'hrnet-deploy[view]')")
pytest.importorskip("uvicorn", reason="needs uvicorn (pip install 'hrnet-deploy[view]')")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
CHROMEDRIVER = shutil.which("chromedriver")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars")
WAIT_S = 20.0


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
    process, address = started(*(word for path in paths for word in ("--engine", str(path))))
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


class Browser:
    """A browser that is steered over the WebDriver protocol."""

    def __init__(self, address: str, profile: Path) -> None:
        self._address = address
        arguments = [*FLAGS, "--window-size=1300,900", f"--user-data-dir={profile}"]
        chosen = {
            "goog:chromeOptions": {"binary": CHROMIUM, "args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        }
        session = self._post("/session", {"capabilities": {"alwaysMatch": chosen}})
        self._session = f"/session/{session['sessionId']}"

    def _post(self, path: str, content: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            self._address + path, json.dumps(content).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def post(self, path: str, content: dict[str, Any]) -> Any:
        return self._post(self._session + path, content)

    def run(self, script: str, *words: Any) -> Any:
        return self.post("/execute/sync", {"script": script, "args": list(words)})

    def until(self, condition: str) -> None:
        end = time.monotonic() + WAIT_S
        while not self.run(f"return {condition}"):
            text = self.run("return document.body.innerText")
            assert time.monotonic() < end, f"{condition} never came true: {text}"
            time.sleep(0.05)

    def choose(self, name: str, value: str) -> None:
        script = (
            "const e = document.getElementById(arguments[0]); e.value = arguments[1];"
            "e.dispatchEvent(new Event('change'))"
        )
        self.run(script, name, value)

    def click(self, selector: str) -> None:
        found = self.post("/element", {"using": "css selector", "value": selector})
        (element,) = found.values()
        self.post(f"/element/{element}/click", {})

    def upload(self, file: Path) -> None:
        found = self.post("/element", {"using": "css selector", "value": "#open"})
        (element,) = found.values()
        self.post(f"/element/{element}/value", {"text": str(file)})

    def drag(self, *points: tuple[float, float]) -> None:
        """Press at the first point (picture pixels), move over the others, release."""
        places = [self.run(_TO_SCREEN, *point) for point in points]
        moves = [
            {"type": "pointerMove", "duration": 20, "x": int(x), "y": int(y)} for x, y in places
        ]
        actions = [moves[0], {"type": "pointerDown", "button": 0}, *moves[1:]]
        actions.append({"type": "pointerUp", "button": 0})
        mouse = {"type": "pointer", "id": "mouse", "actions": actions}
        self.post("/actions", {"actions": [mouse]})

    def complaints(self) -> list[Any]:
        logged = self.post("/se/log", {"type": "browser"})
        return [entry for entry in logged if entry["level"] == "SEVERE"]

    def close(self) -> None:
        request = urllib.request.Request(self._address + self._session, method="DELETE")
        urllib.request.urlopen(request, timeout=60).close()


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


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    if CHROMIUM is None or CHROMEDRIVER is None:
        pytest.skip("no chromium with chromedriver (apt-get install chromium chromium-driver)")
    with subprocess.Popen([CHROMEDRIVER, "--port=0"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        port = next(m.group(1) for line in lines if (m := re.search(r"on port (\d+)\.", line)))
        try:
            opened = Browser(f"http://127.0.0.1:{port}", tmp_path / "profile")
            yield opened
            opened.close()
        finally:
            process.terminate()


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
    browser.post("/url", {"url": page})
    browser.until("document.querySelectorAll('#engine option').length === 2")
    browser.upload(tmp_path / "dots.png")
    browser.until("!document.getElementById('canvas').hasAttribute('hidden')")
    assert "dots.png, 400 x 300" in browser.run("return document.body.innerText")

    browser.drag((80, 60), (120, 150), (180, 240))
    browser.until(f"{JOINTS} === 3")
    assert near(browser, [[80, 60, 180, 240]])
    points = browser.run(
        "return [...document.querySelectorAll('#poses .joint')]"
        ".map((c) => [Number(c.getAttribute('cx')), Number(c.getAttribute('cy'))])"
    )
    assert np.abs(np.array(points) - [[120, 100], [150, 150], [120, 200]]).max() < 12
    rows = "document.querySelectorAll('#keypoints tbody tr').length"
    assert browser.run(f"return {rows}") == 3

    browser.drag((130, 170), (140, 180), (150, 190))  # moves it
    browser.until("!state.asking")
    assert near(browser, [[100, 80, 200, 260]])
    browser.drag((200, 260), (210, 262), (220, 270))  # its corner
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
    browser.click("#flip")
    browser.until("document.getElementById('engine').value === '1' && !state.asking")
    assert browser.run("return document.getElementById('flip').checked") is False

    browser.run(_DROP)
    browser.until("document.getElementById('file').textContent === 'dropped.png, 60 x 40'")
    assert browser.run("return state.boxes.length") == 0
    browser.click("#whole")
    browser.until("state.first !== null")

    (tmp_path / "broken.png").write_bytes((tmp_path / "dots.png").read_bytes()[:-40])
    assert browser.complaints() == []
    browser.upload(tmp_path / "broken.png")
    browser.until("!document.getElementById('message').hidden")
    assert "broken.png: " in browser.run("return document.getElementById('message').innerText")
    assert browser.run("return state.boxes.length") == 1  # what was there is untouched
