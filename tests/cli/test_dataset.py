"""``hrnet-deploy dataset`` as a user runs it, and what docs/own-data.md says about it."""

from __future__ import annotations

import json
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

import hrnet_deploy
from hrnet_deploy.cli import main
from hrnet_deploy.cli.dataset import command
from hrnet_deploy.datasets.rules import RULES
from hrnet_deploy.datasets.subset import FACTS, FUNCTIONS
from hrnet_deploy.demo.people import write_dataset
from tests.datasets import exporters

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "own-data.md").read_text(encoding="utf-8")
OPTION = re.compile(r"(?<![\w-])--?[a-z][a-z-]*")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with ``a.json`` and its pictures, which is the current one."""
    write_dataset(tmp_path, images=6, seed=5)
    (tmp_path / "annotations.json").rename(tmp_path / "a.json")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["dataset", *words])
    code = stop.value.code
    return int(code) if code is not None else 0


def change(home: Path, **keys: Any) -> None:
    """Give every annotation these keys; None removes them."""
    content = json.loads((home / "a.json").read_text())
    for entry in content["annotations"]:
        for key, value in keys.items():
            entry.pop(key) if value is None else entry.update({key: value})
    (home / "a.json").write_text(json.dumps(content))


def test_a_full_disk_leaves_no_list_of_changes_alone(home: Path) -> None:
    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    before = sorted(home.rglob("*"))
    command = [sys.executable, "-m", "hrnet_deploy", "dataset", "clean", "a.json", "-o", "b.json"]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, preexec_fn=limit, capture_output=True, text=True, check=False, env=environment
    )
    assert (done.returncode, "b.json: disk full" in done.stderr) == (3, True)
    assert sorted(home.rglob("*")) == before


def test_half_characters_stay_what_they_were(home: Path) -> None:
    content = json.loads((home / "a.json").read_text())
    content["info"] = {"description": "half \ud83d"}
    (home / "a.json").write_text(json.dumps(content))
    assert run("clean", "a.json", "-o", "b.json") == 0
    assert json.loads((home / "b.json").read_bytes())["info"] == content["info"]


def test_check_says_clean(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", "a.json", "--images", "images") == 0
    out = capsys.readouterr().out
    assert out.startswith("a.json: plain COCO, 6 images, ")
    assert "problem " not in out


def test_check_lists_count_places_and_remedy(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(home, num_keypoints=None)
    count = len(json.loads((home / "a.json").read_text())["annotations"])
    assert run("check", "a.json") == 1
    out = capsys.readouterr().out
    assert f"{count} x num-keypoints-missing: annotations without num_keypoints" in out
    assert "first: annotation 1; annotation 2; annotation 3; ..." in out
    assert "remedy: dataset clean repairs it" in out
    assert run("check", "a.json", "--json") == 1
    facts = json.loads(capsys.readouterr().out)
    assert facts["clean"] is False
    assert facts["problems"][0]["count"] == count


def test_strict_counts_hints(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(home, num_keypoints=0, keypoints=[0] * 51)
    assert run("check", "a.json") == 0
    assert "hint       6 x no-person" in capsys.readouterr().out
    assert run("check", "a.json", "--strict") == 1


def test_clean_writes_beside_the_input_and_says_what(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(home, area=None, iscrowd=None)
    before = (home / "a.json").read_bytes()
    assert run("clean", "a.json", "--dry-run") == 0
    shown = capsys.readouterr().out
    assert "area: annotation 1: area absent -> " in shown
    assert "area-from-box" not in shown
    assert not (home / "a.clean.json").exists()
    assert run("clean", "a.json") == 0
    assert (home / "a.json").read_bytes() == before
    report = json.loads((home / "a.clean.changes.json").read_text())
    assert set(report["counts"]) == {"area", "crowd"}
    assert len(report["changes"]) == sum(report["counts"].values())
    assert run("check", "a.clean.json") == 0
    capsys.readouterr()
    assert run("clean", "a.clean.json") == 0
    assert capsys.readouterr().out == "nothing to change\n"
    assert not (home / "a.clean.clean.json").exists()
    assert run("clean", "a.json") == 2
    assert "exists. Pass --force to replace it" in capsys.readouterr().err
    assert run("clean", "a.json", "--force", "--no-area") == 1
    assert "left: " in capsys.readouterr().err


def test_clean_leaves_what_it_cannot_repair_and_says_so(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads((home / "a.json").read_text())
    content["annotations"][0]["image_id"] = 4711
    (home / "a.json").write_text(json.dumps(content))
    assert run("clean", "a.json", "-o", "b.json") == 1
    assert "left: 1 x unknown-image, e.g. annotation 1 (image 4711)" in capsys.readouterr().err
    assert run("clean", "a.json", "-o", "b.json", "--force", "--drop-broken", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["counts"] == {"drop-broken": 1}
    assert facts["files"]["annotations"] == "b.json"


def test_undo_on_the_command_line(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(f.name for f in (home / "images").iterdir())
    words = ("clean", "a.json", "--images", "images", "--rename", "rename")
    assert run(*words) == 0
    assert sorted(f.name for f in (home / "images").iterdir())[0] == "000000000001.jpg"
    assert run("clean", "--undo", "a.clean.undo.json") == 0
    assert sorted(f.name for f in (home / "images").iterdir()) == before
    assert "6 pictures: rename taken back" in capsys.readouterr().err
    assert run("clean") == 2


def test_stats_as_table_plots_and_json(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("stats", "a.json") == 0
    out = capsys.readouterr().out
    for title in ("Persons by size", "Images by number of people", "Keypoints", "left_wrist"):
        assert title in out
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    assert run("stats", "a.json", "--plots", "plots", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert all(Path(name).is_file() for name in facts["plots"])
    assert run("stats", "a.json", "--plots", "plots") == 2


def test_plots_without_matplotlib_end_in_one_line(home: Path) -> None:
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from hrnet_deploy.cli import main\n"
        "main(['dataset', 'stats', 'a.json', '--plots', 'plots'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=home,
        env={**os.environ, "PYTHONPATH": str(Path(hrnet_deploy.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 3
    assert done.stderr == (
        "hrnet-deploy: error: dataset stats --plots: needs matplotlib. "
        "pip install 'hrnet-deploy[report]'\n"
    )
    assert not (home / "plots").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("check", "nowhere.json"), "nowhere.json: no such file"),
        (("check", "a.json", "--images", "nowhere"), "nowhere: no such folder"),
        (("check", "a.json", "--keypoints", "x"), "--keypoints: unknown keypoint set 'x'"),
        (("clean", "a.json", "-o", "a.json", "--force"), "a.json: is the input file itself"),
        (("clean", "a.json", "--rename", "copy"), "--rename: needs the folder of the pictures"),
        (("clean", "a.json", "--box-margin", "7"), "7.0 is not in the range 0<=x<=1"),
        (("convert", "a.json", "-o", "images"), "images: is a directory"),
        (("convert", "a.json", "--from", "cvat"), "is not valid XML"),
        (("convert", "a.json", "--from", "label-studio"), "[0] names no picture"),
        (("subset", "a.json", "-o", "b.json"), "subset: nothing is asked for"),
        (("subset", "a.json", "-o", "b.json", "--where", ""), "--where: '' cannot be read"),
        (("subset", "a.json", "-o", "b.json", "--size", "huge"), "--size: 'huge' is unknown"),
        (("split", "a.json", "--ratios", "1"), "--ratios: '1' are not two or more parts"),
        (("split", "a.json", "--names", "../x,y"), "--names: '../x' is no part of a file name"),
        (("splat",), "unknown command 'splat'. Did you mean 'split'?"),
    ],
)
def test_bad_input_ends_in_one_line_and_writes_nothing(
    home: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    before = sorted(home.rglob("*"))
    assert run(*words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert sorted(home.rglob("*")) == before


def test_parts_are_written_and_counted(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("subset", "a.json", "-o", "front.json", "--facing", "front", "--json") == 0
    (part,) = json.loads(capsys.readouterr().out)["parts"]
    content = json.loads((home / "front.json").read_text())
    assert part == {
        "file": "front.json",
        "images": len(content["images"]),
        "annotations": len(content["annotations"]),
    }
    assert run("split", "a.json", "--ratios", "2:1", "-o", "parts") == 0
    assert capsys.readouterr().out.startswith("parts/a.train.json: 4 images, ")
    assert run("check", "parts/a.val.json") == 0


def section(name: str) -> str:
    found = re.search(rf"^### {name}\n(.*?)(?=^##|\Z)", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert found is not None, name
    return found.group(1)


@pytest.mark.parametrize("name", sorted(command.commands))
def test_the_document_lists_exactly_the_options_that_there_are(name: str) -> None:
    rows = [line for line in section(name).splitlines() if line.startswith("| `-")]
    listed = {option for row in rows for option in OPTION.findall(row.split(" | ")[0])}
    options = [p for p in command.commands[name].params if isinstance(p, click.Option)]
    assert listed == {word for p in options for word in (*p.opts, *p.secondary_opts)}


def test_the_document_names_every_fact_and_function() -> None:
    text = section("subset")
    assert all(f"`{name}`" in text or f"`{name}(" in text for name in FACTS | FUNCTIONS)


def test_every_rule_is_a_flag() -> None:
    names = {option.name for option in command.commands["clean"].params}
    assert set(RULES) <= names


def test_the_document_s_way_from_export_to_clean_data(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads((home / "a.json").read_text())
    (home / "export.json").write_text(json.dumps(exporters.datatorch(content)))
    (home / "annotations.xml").write_text(exporters.cvat_xml(content))
    (home / "images").rename(home / "pictures")
    blocks = re.findall(r"```sh\n(.*?)```", DOCUMENT, re.DOTALL)
    lines = [shlex.split(line) for line in blocks[0].splitlines()]
    assert [line[:2] for line in lines] == [["hrnet-deploy", "dataset"]] * 6
    codes = [run(*line[2:]) for line in lines]
    assert codes == [1, 0, 0, 0, 0, 0]
    people = json.loads((home / "people.json").read_text())
    assert len(people["images"]) == 6
    assert len(people["annotations"]) == len(exporters.persons(content))
    assert (home / "images" / people["images"][0]["file_name"]).is_file()
    parts = [json.loads((home / f"people.{part}.json").read_text()) for part in ("train", "val")]
    assert [len(part["images"]) for part in parts] == [4, 2]
    (line,) = blocks[1].splitlines()
    (home / "people.json").unlink()
    assert run(*shlex.split(line)[2:]) == 0
    capsys.readouterr()
