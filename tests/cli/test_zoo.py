"""``zoo``: what is listed is what the recipes say, and what is downloaded is proven."""

from __future__ import annotations

import hashlib
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hrnet_deploy.cli import main
from hrnet_deploy.errors import InputError
from hrnet_deploy.zoo.entries import downloadable, entries, entry
from tests.zoo import faulty

Run = Callable[..., tuple[int, str, str]]
RECIPE = """
description = "HRNet-W32, served here"
[source]
project = "https://example.org/zoo"
file = "{file}"
{source}
[network]
input_size_hw = [256, 192]
[keypoints]
set = "coco_17"
[published]
dataset = "COCO val2017"
ap_detector_boxes = 74.6
"""


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main(list(words))
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return call


SHA256 = hashlib.sha256(faulty.CONTENT).hexdigest()


class Shop:
    """A zoo of our own on 127.0.0.1."""

    def __init__(self, folder: Path, address: str, faults: Any) -> None:
        self.folder, self.address, self.faults = folder, address, faults

    def sell(self, name: str, more: str = "") -> None:
        source = f'url = "{self.address}/{name}.pth"\n' + more
        text = RECIPE.format(file=f"{name}.pth", source=source)
        (self.folder / f"{name}.toml").write_text(text)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    folder = tmp_path / "recipes"
    folder.mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr("hrnet_deploy.export.recipes.recipes_folder", lambda: folder)
    monkeypatch.setenv("HRNET_DEPLOY_ZOO", "zoo")
    faults = faulty.Faults()
    with faulty.serving(faults) as address:
        yield Shop(folder, address, faults)


def test_every_entry_has_a_safe_address_or_a_page() -> None:
    known = entries()
    assert {"mmpose_coco_w32_256x192", "official_coco_w48_384x288", "yolox_nano"} <= {
        item.name for item in known
    }
    for item in known:
        assert item.page is not None
        assert item.page.startswith("https://")
        if item.url is not None:
            assert re.fullmatch(r"https://[a-z.]+/[\w./-]+", item.url)
            assert item.url.endswith("/" + item.file)
            assert item.licence


def test_no_hash_is_invented() -> None:
    for item in entries():
        if item.name.startswith("mmpose_"):
            assert item.hash_known == "8 digits"
        elif item.name != "ultralight_256x192":
            assert item.hash_known == "no"


def test_the_official_ones_need_a_browser() -> None:
    with pytest.raises(InputError, match=r"no direct address\). Open https://drive\.google\.com/"):
        downloadable(entry("official_coco_w32_256x192"))


def test_list(run: Run) -> None:
    code, out, err = run("zoo", "list")
    assert code == 0
    lines = out.splitlines()
    (place,) = [k for k, line in enumerate(lines) if "mmpose_coco_w48_384x288 " in line]
    words = ("HRNet-W48 on COCO, mmpose", "Apache-2.0", "openmmlab", "8 digits")
    assert all(word in lines[place] for word in words)
    assert "AP 76.7, COCO val2017" in lines[place + 1]
    assert "https://drive.google.com/" in err


def test_list_as_json(run: Run) -> None:
    code, out, _ = run("zoo", "list", "--json")
    assert code == 0
    facts = {item["name"]: item for item in json.loads(out)}
    assert facts["mmpose_coco_w32_256x192"]["sha256_prefix"] == "c78dce93"
    assert facts["official_coco_w32_256x192"]["url"] is None
    assert facts["yolox_tiny"]["kind"] == "detector"


def test_get_without_a_known_hash(run: Run, shop: Shop) -> None:
    shop.sell("plain", 'licence = "MIT"')
    code, out, err = run("zoo", "get", "plain")
    assert (code, out) == (0, f"{SHA256}  zoo/plain/plain.pth\n")
    assert Path("zoo/plain/plain.pth").read_bytes() == faulty.CONTENT
    assert "licence: MIT (https://example.org/zoo)" in err
    assert "none is published, so it was compared with nothing" in err
    assert err.splitlines()[-2].endswith(" --engine plain")
    assert err.splitlines()[-1] == "next: hrnet-deploy export zoo/plain/plain.pth"
    code, out, _ = run("zoo", "list", "--json")
    assert {item["name"]: item["downloaded"] for item in json.loads(out)}["plain"]
    assert "downloaded" in run("zoo", "list")[1]


@pytest.mark.parametrize("known", [f'sha256 = "{SHA256}"', f'sha256_prefix = "{SHA256[:8]}"'])
def test_get_with_a_hash_and_again(run: Run, shop: Shop, known: str) -> None:
    shop.sell("proven", known)
    Path("there").mkdir()
    code, out, err = run("zoo", "get", "proven", "-o", "there", "--json")
    assert code == 0
    facts = json.loads(out)
    assert (facts["path"], facts["sha256"]) == ("there/proven.pth", SHA256)
    assert facts["next"] == "hrnet-deploy export there/proven.pth"
    assert "sha256: " in err
    asked = len(shop.faults.requests)
    code, out, err = run("zoo", "get", "proven", "-o", "there/proven.pth")
    assert (code, out) == (0, f"{SHA256}  there/proven.pth\n")
    assert "is there already" in err
    assert len(shop.faults.requests) == asked


def test_get_refuses_another_file(run: Run, shop: Shop) -> None:
    shop.sell("changed", 'sha256_prefix = "00000000"')
    code, out, err = run("zoo", "get", "changed")
    assert (code, out) == (2, "")
    assert f"changed.pth: sha256 is {SHA256}, published is one that begins with 00000000. " in err
    assert not [path for path in Path().rglob("*") if path.is_file()]


def test_get_never_replaces_without_the_word(run: Run, shop: Shop) -> None:
    shop.sell("plain")
    Path("plain.pth").write_bytes(b"mine")
    code, _, err = run("zoo", "get", "plain", "-o", ".")
    assert code == 2
    assert "plain.pth: exists. Pass --force to replace it" in err
    assert Path("plain.pth").read_bytes() == b"mine"
    assert shop.faults.requests == []
    assert run("zoo", "get", "plain", "-o", ".", "--force")[0] == 0
    assert Path("plain.pth").read_bytes() == faulty.CONTENT


def test_get_goes_on(run: Run, shop: Shop) -> None:
    shop.sell("plain")
    shop.faults.cut_at = 500_000
    code, _, err = run("zoo", "get", "plain")
    assert code == 3
    assert "Run the same command again: it goes on where it stopped" in err
    shop.faults.cut_at = None
    code, out, err = run("zoo", "get", "plain")
    assert (code, out) == (0, f"{SHA256}  zoo/plain/plain.pth\n")
    assert "of them from before" in err


def test_ctrl_c_keeps_what_arrived(run: Run, shop: Shop) -> None:
    shop.sell("plain")
    shop.faults.pause_s, shop.faults.piece = 0.05, 1000
    code = (
        "import pathlib\n"
        "import hrnet_deploy.export.recipes as recipes\n"
        f"recipes.recipes_folder = lambda: pathlib.Path({str(shop.folder)!r})\n"
        "from hrnet_deploy.cli import main\n"
        "main(['zoo', 'get', 'plain', '-o', 'plain.pth'])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        end = time.monotonic() + 30
        while not shop.faults.requests and time.monotonic() < end:
            time.sleep(0.02)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, "")
    assert "plain.pth: interrupted; what arrived is kept. To go on: hrnet-deploy" in err
    assert "Traceback" not in err
    kept = Path("plain.pth.part").stat().st_size
    assert 0 < kept < len(faulty.CONTENT)
    shop.faults.pause_s, shop.faults.piece = 0.0, 1 << 16
    assert run("zoo", "get", "plain", "-o", "plain.pth")[0] == 0
    assert shop.faults.requests[-1]["Range"] == f"bytes={kept}-"
    assert Path("plain.pth").read_bytes() == faulty.CONTENT


def test_get_an_unknown_name(run: Run) -> None:
    code, _, err = run("zoo", "get", "mmpose_coco_w32_256x129")
    assert code == 2
    assert "is not in the zoo. Did you mean mmpose_coco_w32_256x192" in err
