"""The failure browser in a real one: headless Chromium, from the file system."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import cv2
import pytest

from tests.browser import CHROMIUM, FLAGS, MISSING, Browser

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=MISSING)
CARD = re.compile(
    r'<article class="card" data-engine="(.*?)" data-subset="(.*?)" data-size="(.*?)"'
    r' data-kinds="(.*?)" data-oks="(.*?)">'
)


def browse(page: Path, profile: Path, *options: str, fragment: str = "") -> str:
    assert CHROMIUM is not None
    done = subprocess.run(
        [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", *options, f"{page.as_uri()}#{fragment}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def page(finished: Any) -> Path:
    bench, _ = finished
    path: Path = bench.folder / "out/report.html"
    return path


def cards(document: str) -> list[tuple[str, ...]]:
    return CARD.findall(document)


def test_the_worst_come_first_with_both_skeletons(page: Path, tmp_path: Path) -> None:
    document = browse(page, tmp_path, "--dump-dom")
    found = cards(document)
    assert len(found) == 9
    assert {(card[0], card[1]) for card in found} == {("a.onnx", "all")}
    similarities = [float(card[4]) for card in found]
    assert similarities == sorted(similarities)
    assert similarities[0] < 0.9
    assert "9 of 9 shown; this page holds the worst 30 of 30 poses" in document
    first = document.split("<article")[1]
    assert first.count("<svg") == first.count("<image") == 2
    assert re.findall(r"<figcaption>(.*?)<", first) == ["labelled", "predicted"]
    assert first.count('class="keypoint"') == 6
    assert first.count("<line") == 8  # two limbs with their rims on each side


@pytest.mark.parametrize(
    ("fragment", "count", "check"),
    [
        ("subset=first", 12, lambda card: card[1] == "first"),
        ("engine=wide.onnx&subset=all", 9, lambda card: card[0] == "wide.onnx"),
        ("engine=a.onnx&subset=all&kind=inversion", 1, lambda card: "inversion" in card[3]),
        ("size=large", 0, None),
        ("size=medium&engine=a.onnx", 15, lambda card: card[2] == "medium"),
    ],
)
def test_filters(page: Path, tmp_path: Path, fragment: str, count: int, check: Any) -> None:
    document = browse(page, tmp_path, "--dump-dom", fragment=fragment)
    found = cards(document)
    assert len(found) == count
    assert all(check(card) for card in found)


def test_a_file_name_stays_text(page: Path, tmp_path: Path) -> None:
    document = browse(page, tmp_path, "--dump-dom", fragment="subset=first")
    assert "&lt;b id=evil&gt;" in document
    assert "<b id=" not in document


def test_it_can_be_seen(page: Path, tmp_path: Path) -> None:
    shot = tmp_path / "shot.png"
    browse(page, tmp_path, f"--screenshot={shot}", "--window-size=1200,4400")
    picture = cv2.imread(str(shot))
    assert picture.shape == (4400, 1200, 3)
    dark = (picture.max(axis=2) < 60).mean()
    assert dark > 0.01  # the pictures of the cards are dark, the page is not


def test_clicks(page: Path, browser: Browser) -> None:
    count = "return document.querySelectorAll('.card').length"
    browser.open(page.as_uri())
    assert browser.run(count) == 9
    browser.click('select[name="subset"] option[value="first"]')
    assert browser.run(count) == 6
    browser.click('select[name="kind"] option[value="inversion"]')
    inverted = browser.run(count)
    assert 0 < inverted < 6
    asked = browser.run("return location.hash")
    assert asked == "#engine=a.onnx&subset=first&kind=inversion"
    browser.click('select[name="engine"] option[value=""]')
    browser.click('select[name="subset"] option[value=""]')
    browser.click('select[name="kind"] option[value=""]')
    assert browser.run(count) == 24
    browser.click("#more")
    assert browser.run(count) == 30
    assert browser.run("return document.getElementById('more').hidden") is True
    small = "return document.querySelector('.card svg').getBoundingClientRect().width"
    before = browser.run(small)
    browser.click(".card")
    assert browser.run(small) > 1.5 * before
    browser.click('nav a[href="#errors"]')
    assert browser.run(count) == 30
