"""Headless Chromium, steered over the WebDriver protocol without a library for it."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
CHROMEDRIVER = shutil.which("chromedriver")
MISSING = "no chromium with chromedriver (apt-get install chromium chromium-driver)"
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars")
WAIT_S = 20.0


class Browser:
    """One window; ``profile`` is a folder for its data, where downloads land too."""

    def __init__(self, address: str, profile: Path) -> None:
        self._address, self.downloads = address, profile / "downloads"
        arguments = [*FLAGS, "--window-size=1280,800", f"--user-data-dir={profile}"]
        chosen = {
            "goog:chromeOptions": {
                "binary": CHROMIUM,
                "args": arguments,
                "prefs": {"download.default_directory": str(self.downloads)},
            },
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

    def open(self, address: str) -> None:
        self.post("/url", {"url": address})

    def run(self, script: str, *words: Any) -> Any:
        return self.post("/execute/sync", {"script": script, "args": list(words)})

    def until(self, condition: str) -> None:
        """Wait for a JavaScript expression to become true."""
        end = time.monotonic() + WAIT_S
        while not self.run(f"return {condition}"):
            text = self.run("return document.body.innerText")
            assert time.monotonic() < end, f"{condition} never came true: {text}"
            time.sleep(0.05)

    def element(self, selector: str) -> str:
        found = self.post("/element", {"using": "css selector", "value": selector})
        (element,) = found.values()
        return str(element)

    def click(self, selector: str) -> None:
        self.post(f"/element/{self.element(selector)}/click", {})

    def type(self, selector: str, text: str) -> None:
        """Keys into an element; a path into an input for files."""
        self.post(f"/element/{self.element(selector)}/value", {"text": text})

    def choose(self, name: str, value: str) -> None:
        """Choose the option of a ``select`` by the id of that and its value."""
        script = (
            "const e = document.getElementById(arguments[0]); e.value = arguments[1];"
            "e.dispatchEvent(new Event('change'))"
        )
        self.run(script, name, value)

    def drag(self, *places: tuple[float, float]) -> None:
        """Press at the first place of the window (CSS pixels), move over the others, release."""
        moves = [
            {"type": "pointerMove", "duration": 20, "x": int(x), "y": int(y)} for x, y in places
        ]
        actions = [moves[0], {"type": "pointerDown", "button": 0}, *moves[1:]]
        actions.append({"type": "pointerUp", "button": 0})
        mouse = {"type": "pointer", "id": "mouse", "actions": actions}
        self.post("/actions", {"actions": [mouse]})

    def resize(self, width: int, height: int) -> None:
        """The page's own size, which on a phone is smaller than any window of a desktop."""
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        command = {"cmd": "Emulation.setDeviceMetricsOverride", "params": screen}
        self.post("/goog/cdp/execute", command)

    def screenshot(self, path: Path) -> Path:
        with urllib.request.urlopen(
            f"{self._address}{self._session}/screenshot", timeout=60
        ) as answer:
            path.write_bytes(base64.b64decode(json.load(answer)["value"]))
        return path

    def complaints(self) -> list[Any]:
        """What the browser's console calls severe since the last time."""
        logged = self.post("/se/log", {"type": "browser"})
        return [entry for entry in logged if entry["level"] == "SEVERE"]

    def close(self) -> None:
        request = urllib.request.Request(self._address + self._session, method="DELETE")
        urllib.request.urlopen(request, timeout=60).close()


@contextlib.contextmanager
def browsing(profile: Path) -> Iterator[Browser]:
    """A browser for as long as the block."""
    assert CHROMEDRIVER is not None
    words = [CHROMEDRIVER, "--port=0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        port = next(m.group(1) for line in lines if (m := re.search(r"on port (\d+)\.", line)))
        try:
            opened = Browser(f"http://127.0.0.1:{port}", profile)
            yield opened
            opened.close()
        finally:
            process.terminate()
