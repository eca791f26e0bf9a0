"""What is read back from an evaluation, and how much of it goes into the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hrnet_deploy.evaluation.metric import STATS
from hrnet_deploy.evaluation.session import EvalJob, Watch
from hrnet_deploy.evaluation.settings import EvalSettings
from hrnet_deploy.report.bootstrap import figures
from hrnet_deploy.report.cells import Analysis, Cell, analyse
from hrnet_deploy.report.crops import MAX_SIDE, crop_person
from hrnet_deploy.report.failures import failures
from hrnet_deploy.report.html import _json_for_script
from hrnet_deploy.report.study import Study, run_study


def cell_of(folder: Path, **settings: Any) -> Cell:
    job = EvalJob(
        engine=Path(),
        annotations=Path(),
        images=folder / "images",
        output=Path(),
        settings=EvalSettings(**settings),
    )
    study = Study({"a": folder / "a.onnx"}, {"all": folder / "kp.json"}, folder / "results", job)
    (cell,) = run_study(study, Watch(say=lambda line: None))
    return cell


@pytest.fixture
def analysis(bench: Any) -> Analysis:
    return analyse(cell_of(bench.folder), resamples=100, seed=0)


def test_the_figures_from_the_matches_are_those_of_the_result(analysis: Analysis) -> None:
    ours, facts = figures(analysis.matches), analysis.cell.facts
    for name in STATS:
        expected = facts[name]
        assert ours[name] == (None if expected is None else pytest.approx(expected, abs=1e-12))


def test_pictures_that_were_left_out_are_no_part_of_it(bench: Any) -> None:
    content = json.loads((bench.folder / "kp.json").read_text())
    (bench.folder / "images" / content["images"][1]["file_name"]).unlink()
    cell = cell_of(bench.folder, limit=3, allow_missing=True)
    assert cell.image_ids == [image["id"] for image in content["images"][:3] if image["id"] != 993]
    analysis = analyse(cell, resamples=100, seed=0)
    assert set(analysis.people.image_ids.tolist()) == {986}
    assert figures(analysis.matches)["AP"] == pytest.approx(cell.facts["AP"], abs=1e-12)


def test_the_worst_and_no_more_than_asked_for(analysis: Analysis) -> None:
    shown = failures([analysis], worst=3)
    worst = np.sort(analysis.people.oks)[:3]
    assert [person["oks"] for person in shown["persons"]] == np.round(worst, 3).tolist()
    assert [person["crop"] for person in shown["persons"]] == [0, 1, 2]
    assert shown["all"] == 9
    for crop in shown["crops"]:
        assert crop["src"].startswith("data:image/jpeg;base64,/9j/")


def test_a_page_stays_small(analysis: Analysis) -> None:
    few = failures([analysis, analysis], max_crops=2)
    assert len(few["crops"]) == 2
    assert [person["crop"] for person in few["persons"][:4]] == [0, 0, 1, 1]
    assert {person["crop"] for person in few["persons"][4:]} == {None}
    none = failures([analysis], max_bytes=100)
    assert none["crops"] == []
    assert len(none["persons"]) == 9


def test_a_picture_that_is_gone_is_shown_without_it(analysis: Analysis) -> None:
    for path in analysis.cell.paths.values():
        path.unlink()
    shown = failures([analysis])
    assert shown["crops"] == []
    assert {person["crop"] for person in shown["persons"]} == {None}


def test_crops_stay_within_the_picture_and_are_small(tmp_path: Path, pictures: Any) -> None:
    path = tmp_path / "large.jpg"
    path.write_bytes(pictures.encoded(".jpg", pictures.picture(900, 1200)))
    for box in ([1000, 700, 400, 400], [-50, -50, 100, 2000], [5, 5, 0, 0]):
        crop = crop_person(path, np.array(box, float))
        assert crop is not None
        x, y, width, height = crop.xywh
        assert 0 <= x <= x + width <= 1200
        assert 0 <= y <= y + height <= 900
        assert crop.size_bytes < 3 * MAX_SIDE * MAX_SIDE
    assert crop_person(path, np.array([5000.0, 0, 10, 10])) is None


def test_no_text_ends_the_script() -> None:
    text = _json_for_script({"file": "</script><script>alert(1)//\u2028<!--"})
    assert "<" not in text
    assert json.loads(text)["file"].startswith("</script>")
