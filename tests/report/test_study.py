"""``hrnet-deploy eval`` over several engines and subsets: the files of the report."""

from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path
from typing import Any

import cv2
import pytest

FILES = {
    *("report.html", "report.md", "report.json", "figures.csv", "keypoints.csv"),
    *("ap_ar.png", "pck.png", "oks.png", "errors.png"),
}


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_one_command_gives_a_cell_for_every_engine_and_subset(finished: Any) -> None:
    bench, done = finished
    assert done.code == 0, done.err
    assert {path.name for path in (bench.folder / "out").iterdir()} == {*FILES, "results"}
    facts = bench.report()
    assert [(cell["engine"], cell["subset"]) for cell in facts["cells"]] == [
        (engine, subset)
        for subset in ("all", "first", "nobody")
        for engine in ("a.onnx", "wide.onnx")
    ]
    for cell in facts["cells"]:
        result = f"out/results/{cell['engine']}.{cell['subset']}.eval.json"
        written = json.loads((bench.folder / result).read_text())
        for name in ("AP", "AP50", "APm", "AR"):
            assert cell[name] == written[name]
    assert "[6/6] wide.onnx on nobody" in done.err
    for word in ("all (7 images, 9 persons)", "first (4 images, 6 persons)", "AP75", "n/a"):
        assert word in done.out


def test_the_error_kinds_are_those_that_were_planted(finished: Any) -> None:
    bench, _ = finished
    whole = next(cell for cell in bench.report()["cells"] if cell["engine"] == "a.onnx")
    by_name = {row["keypoint"]: row for row in whole["keypoints"]}
    assert by_name["blue"]["inversion"] == by_name["red"]["inversion"] == pytest.approx(1 / 9)
    assert by_name["green"]["inversion"] == 0
    assert by_name["blue"]["miss"] == pytest.approx(1 / 9)
    assert whole["pck"][0] <= whole["pck"][-1] < 1
    assert whole["oks"][0] == 1
    low, high = whole["intervals"]["AP"]
    assert low < whole["AP"] < high


def test_undefined_is_said_and_never_a_number(finished: Any) -> None:
    bench, _ = finished
    text = (bench.folder / "out/report.md").read_text()
    nobody = text.split("## nobody (1 images, 0 persons)")[1]
    assert "| a.onnx | n/a | n/a | n/a | n/a | n/a | n/a |  |" in nobody
    assert "| wide.onnx | n/a | n/a | n/a | n/a | n/a | n/a | n/a |" in nobody
    assert not re.search(r"-1\b|-100", text)
    lines = rows(bench.folder / "out/figures.csv")
    assert len(lines) == 6
    (line,) = [line for line in lines if (line["engine"], line["subset"]) == ("a.onnx", "nobody")]
    assert {line[name] for name in ("AP", "AP_low", "APl", "miss", "PCK@0.1")} == {"n/a"}
    assert line["images"] == "1"
    assert float(lines[0]["AP_low"]) <= float(lines[0]["AP"]) <= float(lines[0]["AP_high"])
    assert len(rows(bench.folder / "out/keypoints.csv")) == 6 * 3
    assert not re.search(r"(?<=[>\s|])-1(?:\.0*)?(?=[<\s|])", _tables(bench.folder))


def _tables(folder: Path) -> str:
    page = (folder / "out/report.html").read_text(encoding="utf-8")
    return "".join(re.findall(r"<table.*?</table>", page, re.DOTALL))


def test_it_says_how_wide_intervals_are(finished: Any) -> None:
    bench, done = finished
    for text in (done.err, (bench.folder / "out/report.html").read_text(encoding="utf-8")):
        assert "95% intervals: percentiles over 100 resamples of the pictures" in text
        assert "So few pictures leave much open: AP of " in text
        assert "Fewer than 30 pictures (all, first, nobody): the intervals are" in text


def test_engines_are_compared_on_the_same_draws(finished: Any) -> None:
    bench, _ = finished
    first, second = bench.report()["cells"][:2]
    assert first["AP_minus_first"] is None
    difference = second["AP_minus_first"]
    assert difference["value"] == pytest.approx(second["AP"] - first["AP"])
    low, high = difference["interval"]
    assert low <= difference["value"] <= high
    text = f"| {difference['value']:+.3f} [{low:+.3f}, {high:+.3f}] |"
    assert text in (bench.folder / "out/report.md").read_text()
    line = rows(bench.folder / "out/figures.csv")[1]
    assert float(line["AP_minus_first_low"]) == pytest.approx(low, abs=1e-6)


def test_the_plots_are_pictures(finished: Any) -> None:
    bench, _ = finished
    for name in ("ap_ar", "pck", "oks", "errors"):
        picture = cv2.imread(str(bench.folder / "out" / f"{name}.png"))
        assert picture.shape[1] > 600
        assert picture.std() > 10


def test_the_page_needs_nothing_from_elsewhere(finished: Any) -> None:
    bench, _ = finished
    page = (bench.folder / "out/report.html").read_text(encoding="utf-8")
    assert set(re.findall(r"https?://[^\s\"'<)]+", page)) == {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in page
    assert not re.search(r"\b(?:src|href)=\"(?!data:|#)", page)
    assert "{{" not in page
    assert "<b id=evil>" not in page
    assert page.count("data:image/jpeg;base64,") == 9  # a picture for each person, shared
    assert str(bench.folder) not in page


def test_again_gives_the_same_bytes_without_evaluating(bench: Any) -> None:
    words = bench.words("--report", "out")
    assert bench(*words).code == 0
    before = {name: (bench.folder / "out" / name).read_bytes() for name in FILES}
    done = bench(*words)
    assert done.code == 0
    assert done.err.count("done already; --fresh evaluates again") == 1
    assert {name: (bench.folder / "out" / name).read_bytes() for name in FILES} == before


def test_one_engine_with_a_report_and_only_subsets(bench: Any) -> None:
    words = ("eval", "--engine", "a.onnx", "--images", "images", "--bootstrap", "100")
    done = bench(*words, "--subset", "first.json", "--json")
    assert done.code == 0, done.err
    facts = json.loads(done.out)
    assert facts["subsets"] == ["first"]
    assert facts["files"]["report.html"] == "eval-report/report.html"
    assert facts["failed"] == []


def test_an_adaptive_flip_test_is_said(bench: Any) -> None:
    flip = ("--flip", "adaptive", "--flip-threshold", "0")
    done = bench(*bench.words("--report", "out", "--fresh", *flip))
    assert done.code == 0, done.err
    (note,) = (note for note in bench.report()["notes"] if "adaptive" in note)
    assert note.startswith("a.onnx on ")
    assert note.endswith("adaptive flip-test: 100.0% looked at twice (doubt >= 0).")
    assert note in (bench.folder / "out/report.md").read_text()


def test_boxes_of_a_detector_go_to_the_subsets_they_belong_to(bench: Any) -> None:
    done = bench(*bench.words("--subset", "first=first.json", "--boxes", "boxes.json"))
    assert done.code == 0, done.err
    boxes = json.loads((bench.folder / "eval-report/results/first.boxes.json").read_text())
    known = {i["id"] for i in json.loads((bench.folder / "first.json").read_text())["images"]}
    assert len(boxes) == 6
    assert {box["image_id"] for box in boxes} <= known
    facts = bench.report("eval-report")
    assert facts["boxes"] == "detector"
    assert [cell["persons"] for cell in facts["cells"]] == [9, 6]
    assert facts["cells"][0]["AP"] > 0.5
    assert "Detector's boxes: a person who is on a picture" in done.err


def test_min_ap_names_engine_and_subset(bench: Any) -> None:
    done = bench(*bench.words("--report", "out", "--min-ap", "0.999"))
    assert done.code == 1
    assert "failed: a.onnx on all: AP " in done.err
    assert (bench.folder / "out/report.html").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--subset", "a/b=first.json"), "--subset: 'a/b' cannot be the name of a subset"),
        (("--subset", "all=first.json"), "--subset: all is given twice. Give every subset a name"),
        (("--subset", "x="), "--subset: 'x=' names no file"),
        (("--subset", "A b=first.json", "--subset", "a_b=first.json"), "2 names give files called"),
        (("--subset", "x=none.json"), "none.json: no such file"),
        (("--subset", "x=boxes.json"), "boxes.json: is a list (a results or boxes file)"),
        (("--engine", "a.onnx"), "--engine: here/a.onnx is given twice"),
        (("--report", "out", "-o", "x.json"), "-o: is for one engine on one set of annotations"),
        (("--report", "kp.json"), "kp.json: is a file. Give the folder for the report"),
        (("--report", "images/.."), "report.md: exists in images/.., which holds no report"),
        (("--subset", "x=first.json", "--boxes", "kp.json"), "kp.json: is not a list of boxes"),
        (
            ("--subset", "x=nobody.json", "--boxes", "boxes.json"),
            "boxes.json: has no box on the pictures of subset x. Leave that subset out",
        ),
    ],
)
def test_wrong_usage(bench: Any, more: tuple[str, ...], message: str) -> None:
    (bench.folder / "report.md").write_text("my thesis")
    done = bench(*bench.words(*more))
    assert done.code == 2, done.err
    (line,) = done.err.splitlines()
    assert message in line
    assert done.out == ""
    assert not list(bench.folder.rglob("*.eval.json"))
    assert (bench.folder / "report.md").read_text() == "my thesis"


def test_something_to_evaluate_on_has_to_be_given(bench: Any) -> None:
    done = bench("eval", "--engine", "a.onnx", "--images", "images")
    assert (done.code, done.out) == (2, "")
    assert "--annotations: is missing" in done.err


def test_without_matplotlib_nothing_is_evaluated(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [n for n in sys.modules if n.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = bench(*bench.words("--report", "out"))
    assert done.code == 3
    assert "pip install 'hrnet-deploy[report]'" in done.err
    assert not list(bench.folder.rglob("*.eval.json"))
