"""Every figure of the README and of docs/speed.md is one of a committed result file."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/results"
SPEED = ROOT / "docs/speed.md"
OFFICIAL = "official pipeline (PyTorch eager, two passes)"
pytestmark = pytest.mark.skipif(not RESULTS.is_dir(), reason="not in a checkout")


def result(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def table(file: Path, *header: str) -> dict[str, tuple[str, ...]]:
    """The rows of the one table whose columns begin with ``header``: first cell -> other cells."""
    start = "| " + " | ".join(header)
    _, found, rest = file.read_text(encoding="utf-8").partition(f"\n{start}")
    assert found, f"{file.name} has no table {start}"
    rows = re.findall(r"^\| (.+) \|$", rest.split("\n\n")[0], re.MULTILINE)
    cells = [tuple(row.split(" | ")) for row in rows if not row.startswith("---")]
    return {row[0]: row[1:] for row in cells}


def test_the_report_says_what_was_measured() -> None:
    """peers.md is what the script makes of peers.json today, the order of rows aside."""
    pytest.importorskip("onnxruntime")
    make = (
        "import json; from cpu_suite.report import markdown;"
        "found = json.load(open('results/peers.json', encoding='utf-8'));"
        "print(markdown(found, found.pop('command_line')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", make],
        cwd=ROOT / "benchmarks",
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    committed = (RESULTS / "peers.md").read_text(encoding="utf-8")
    assert sorted(done.stdout.split("\n")) == sorted([*committed.split("\n"), ""])


def test_ways_on_a_cpu() -> None:
    files = table(RESULTS / "peers.md", "", "ms/person", "p5", "p95", "persons/s", "times official")
    busy = table(RESULTS / "peers.md", "", "quiet ms/person")
    expected = {name: (row[0], row[4], busy[name][2]) for name, row in files.items()}
    assert table(SPEED, "Way") == expected
    in_readme = table(ROOT / "README.md", "Way")
    written_anew = in_readme.pop("official pipeline, written anew (PyTorch eager, two passes)")
    assert written_anew == expected[OFFICIAL][:2]
    assert in_readme == {name: expected[name][:2] for name in in_readme}
    assert len(in_readme) == 6


def test_engines_alone() -> None:
    alone = table(RESULTS / "peers.md", "", "ms/person", "p5", "p95", "persons/s", "times ONNX")
    del alone["ONNX Runtime fp32 as it comes"]
    expected = {name: (row[0], row[4], row[6]) for name, row in alone.items()}
    assert table(SPEED, "Engine") == expected


def test_aims_that_were_missed_are_told() -> None:
    aims = table(RESULTS / "peers.md", "", "aim", "measured")
    missed = {
        name: (aim.removeprefix(">= "), got) for name, (aim, got, y) in aims.items() if y == "no"
    }
    assert table(SPEED, "Aim") == missed


def test_what_predict_adds() -> None:
    measured = result("predict_overhead")
    runs = measured["runs"].items()
    expected = {
        name: (f"{run['added_to_engine_alone']:.1%}".replace("%", " %"),) for name, run in runs
    }
    assert table(SPEED, "What") == expected
    assert {round(mb) for mb in measured["peak_memory_mb"].values()} == {168}
    assert "168 MB after 200 frames and after 2000" in SPEED.read_text(encoding="utf-8")


def test_crops_a_second() -> None:
    crops = result("host_side")["crops"]
    expected = {
        name: (f"{row['per_second']:.0f}",) for name, row in crops.items() if "in a" in name
    }
    assert table(SPEED, "Persons", "Crops") == expected


def test_adaptive_flip() -> None:
    def row(trial: dict[str, Any]) -> tuple[str, ...]:
        doubt = trial["measures"]["mean of 4 p (1 - p)"]
        at_a_third = doubt["drop"][trial["shares"].index(0.3333)]
        held_out = doubt["held_out"]
        single, exact = (f"{trial['ap'][key]:.4f}"[1:] for key in ("single", "exact"))
        share = f"{held_out['share']:.0%}".replace("%", " %")
        return (
            str(trial["persons"]),
            single,
            exact,
            drop(at_a_third),
            drop(held_out["drop"]),
            share,
        )

    def drop(of: dict[str, float]) -> str:
        value, low, high = (round(of[key], 2) + 0.0 for key in ("value", "low", "high"))
        return f"{value:.2f} [{low:.2f}, {high:.2f}]"

    expected = {name: row(trial) for name, trial in result("adaptive_flip").items()}
    assert table(SPEED, "Network and pictures") == expected


def test_after_the_last_inference() -> None:
    measured = result("coco_tail")
    ours, official = (
        [{**run, "all": sum(run.values())} for run in measured["cpu_seconds"][name]]
        for name in ("hrnet-deploy", "official steps")
    )

    def row(step: str) -> tuple[str, ...]:
        seconds = (median(run[step] for run in runs) for runs in (official, ours))
        value, low, high = measured["times_less"][step]
        return (*(f"{one:.2f}" for one in seconds), f"{value:.1f} [{low:.1f}, {high:.1f}]")

    assert table(SPEED, "CPU seconds") == {step: row(step) for step in measured["times_less"]}
    assert f"{measured['boxes']:,} boxes" in SPEED.read_text(encoding="utf-8")
