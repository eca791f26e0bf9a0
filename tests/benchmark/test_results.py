from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hrnet_deploy.benchmark.compare import compare_runs, differences
from hrnet_deploy.benchmark.figures import add_figures, knee
from hrnet_deploy.benchmark.results import (
    append_run,
    check_output,
    default_output,
    read_runs,
)
from hrnet_deploy.benchmark.tables import comparison_tables, header, run_tables
from hrnet_deploy.errors import InputError


def made_up_run(
    times: dict[str, float],
    *,
    rounds: int = 20,
    noise: float = 0.01,
    seed: int = 0,
    gemm: float = 1,
) -> dict[str, Any]:
    """A run whose rows take the given seconds for a batch of 8, with some noise."""
    rng = np.random.default_rng(seed)

    def around(seconds: float) -> list[float]:
        return [float(v) for v in seconds * rng.normal(1, noise, rounds)]

    rows = [
        {
            "name": name,
            "sha256": "0" * 64,
            "precision": "fp32",
            "device": "cpu",
            "batch": 8,
            "cost": {"gflop": 2.0, "weight_mb": 1.0, "activation_mb": 10.0, "passes": 2},
            "seconds": around(seconds),
            "sweep": {"1": around(seconds / 4), "8": around(seconds)},
            "peak_mb": 300.0,
        }
        for name, seconds in times.items()
    ]
    run = {
        "schema": 1,
        "time": "2026-01-01T00:00:00+00:00",
        "machine": {
            "cpu": "Test CPU", "cores": 2, "threads": 2, "commit": "abc", "versions": {},
            "instructions": ["avx2"],
        },
        "disturbance": {"others_cores": 0.0, "own_cores": 2.0, "seconds": 9.0, "load": None},
        "settings": {"rounds": rounds, "batch": 8},
        "ceilings": {
            "gemm fp32": {"library": "x 1", "amount": 1e9, "seconds": around(0.01 * gemm),
                          "rate": 1e11},
            "copy": {"library": "y 2", "amount": 1e9, "seconds": around(0.1), "rate": 1e10},
        },
        "rows": rows,
        "end_to_end": {"pictures": 0, "persons": 0, "rows": {}},
        "warnings": [],
        "notes": [],
    }  # fmt: skip
    return add_figures(run)


def test_figures_are_per_person_and_against_the_first_row() -> None:
    run = made_up_run({"slow": 0.8, "fast": 0.4}, noise=1e-6)
    slow, fast = (row["figures"] for row in run["rows"])
    assert slow["ms_per_person"]["median"] == pytest.approx(100, rel=1e-3)
    assert fast["persons_per_second"] == pytest.approx(20, rel=1e-3)
    assert slow["times_first"] is None
    assert fast["times_first"]["value"] == pytest.approx(2, rel=1e-3)
    assert fast["gflops"] == pytest.approx(40, rel=1e-3)
    # 16 GFLOP in 0.4 s against 1 GFLOP in 0.01 s
    assert fast["share_of_gemm"] == pytest.approx(0.4, rel=1e-3)
    assert fast["share_of_copy"] == pytest.approx(81e6 / 0.4 / 1e10, rel=1e-3)


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ({1: 10, 2: 19, 4: 20, 8: 20}, 2),
        ({1: 20, 2: 20, 4: 20}, 1),
        ({1: 5, 2: 10, 4: 18, 8: 30}, 8),
        ({1: 10, 2: 20, 4: 12}, 2),
        ({}, None),
    ],
)
def test_the_knee_is_the_smallest_batch_that_is_nearly_best(
    rates: dict[int, float], expected: int | None
) -> None:
    assert knee({str(size): [size / rate] * 3 for size, rate in rates.items()}) == expected


def test_runs_are_appended_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "r.json"
    check_output(path)
    runs = [made_up_run({"a": 0.5}, seed=seed) for seed in range(3)]
    assert [append_run(path, run) for run in runs] == [1, 2, 3]
    assert read_runs(path) == json.loads(json.dumps(runs))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "is not valid JSON"),
        ("a,b\n1,2\n", "is not valid JSON"),
        ("[]", "is not a benchmark result of this version"),
        ('{"schema": 99}', "is not a benchmark result of this version"),
        ('{"schema": 1, "runs": []}', "holds no runs"),
        ('{"schema": 1, "runs": [3]}', "run 1 is not an object"),
        ('{"schema": 1, "runs": [{}]}', "run 1 has no 'machine'"),
    ],
)
def test_a_malformed_file_is_refused_and_stays_as_it_is(
    tmp_path: Path, content: str, problem: str
) -> None:
    path = tmp_path / "r.json"
    path.write_text(content)
    with pytest.raises(InputError, match=rf"r\.json: {problem}"):
        check_output(path)
    with pytest.raises(InputError, match=problem):
        append_run(path, made_up_run({"a": 1}))
    assert path.read_text() == content


@pytest.mark.parametrize("seconds", [[-1.0], ["x"], [True], 3, [0]])
def test_times_that_are_none_are_refused(tmp_path: Path, seconds: Any) -> None:
    run = made_up_run({"a": 1})
    run["rows"][0]["seconds"] = seconds
    path = tmp_path / "r.json"
    path.write_text(json.dumps({"schema": 1, "runs": [run]}))
    with pytest.raises(InputError, match="no positive numbers"):
        read_runs(path)


def test_the_default_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert default_output("AMD EPYC (9R14)") == Path("hrnet-deploy-benchmark.json")
    (tmp_path / "benchmarks/results").mkdir(parents=True)
    name = default_output("AMD EPYC (9R14)").name
    assert name.startswith("amd-epyc-9r14-")
    assert name.endswith("-cores.json")


def verdict(first: dict[str, Any], second: dict[str, Any]) -> str:
    (change,) = compare_runs(first, second)
    return change.verdict


def test_what_changed_and_what_did_not() -> None:
    base = made_up_run({"a": 0.8}, seed=1)
    assert verdict(base, made_up_run({"a": 0.8}, seed=2)) == "no change beyond noise"
    assert verdict(base, made_up_run({"a": 1.0}, seed=2)) == "slower"
    assert verdict(base, made_up_run({"a": 0.6}, seed=2)) == "faster"
    assert verdict(base, made_up_run({"a": 0.808}, seed=2)) == "no change beyond noise"
    assert verdict(base, made_up_run({"a": 1.0}, noise=0.5, seed=2)) == "no change beyond noise"


def test_few_rounds_prove_nothing() -> None:
    base = made_up_run({"a": 0.8}, rounds=4)
    assert verdict(base, made_up_run({"a": 8.0}, rounds=4)) == "too few rounds"


def test_a_machine_that_became_slower_is_not_a_slower_engine() -> None:
    base = made_up_run({"a": 0.8}, seed=1)
    throttled = made_up_run({"a": 1.2}, seed=2, gemm=1.5)
    (change,) = compare_runs(base, throttled)
    assert change.time.value == pytest.approx(1.5, rel=0.02)
    assert change.against_machine is not None
    assert change.against_machine.value == pytest.approx(1.0, rel=0.02)
    assert change.verdict == "no change beyond noise"


def test_equal_runs_hardly_ever_look_different() -> None:
    base = made_up_run({"a": 0.8}, noise=0.05)
    verdicts = [verdict(base, made_up_run({"a": 0.8}, noise=0.05, seed=s)) for s in range(1, 60)]
    assert sum(text != "no change beyond noise" for text in verdicts) <= 2


def test_what_makes_runs_hard_to_compare_is_said() -> None:
    first, second = made_up_run({"a": 1, "b": 1}), made_up_run({"a": 1, "c": 1})
    second = copy.deepcopy(second)
    second["machine"]["cpu"] = "Other CPU"
    second["rows"][0]["sha256"] = "1" * 64
    second["warnings"] = ["disturbed"]
    notes = differences(first, second)
    for words in ("cpu: Test CPU -> Other CPU", "only in the first: b", "only in the second: c",
                  "a: another file (sha256)", "second run: disturbed"):  # fmt: skip
        assert words in notes
    assert differences(first, first) == []


def test_tables_hold_every_row_and_are_rectangular() -> None:
    run = made_up_run({"a | b": 0.8, "c": 0.4})
    tables = run_tables(run)
    assert [table.title.split(",")[0].split(":")[0] for table in tables] == [
        "Engines alone",
        "Rates",
        "Persons per second by batch",
        "What the machine can do",
    ]
    tables += comparison_tables(compare_runs(run, run))
    for table in tables:
        assert all(len(row) == len(table.columns) for row in table.rows)
        lines = table.markdown().splitlines()[2:]
        assert len({line.replace("\\|", "").count("|") for line in lines}) == 1


def test_tables_fit_into_a_terminal() -> None:
    run = made_up_run({"w32.onnx onnxruntime fp32": 0.8, "w32.onnx openvino bf16": 0.04})
    for table in [*run_tables(run), *comparison_tables(compare_runs(run, run))]:
        cells = zip(table.columns, *table.rows, strict=True)
        assert sum(max(map(len, column)) + 1 for column in cells) <= 80


def test_the_header_says_clocks_and_temperatures_where_they_are_known() -> None:
    run = made_up_run({"a": 0.8})
    gpu = {"name": "H200", "clocks.sm": "1980 MHz", "power.draw": "310 W"}
    run["after"] = {"cpu_mhz": 2596, "cpu_celsius": 61.4, "gpus": [gpu]}
    assert "2596 MHz, 61 °C, H200 1980 MHz 310 W" in header(run)
    run["after"] = {"cpu_mhz": None, "cpu_celsius": None, "gpus": []}
    assert "MHz" not in header(run)


def test_a_row_without_times_is_shown_as_such() -> None:
    run = made_up_run({"a": 0.8, "b": 0.4})
    run["rows"][1]["seconds"], run["rows"][1]["sweep"] = [], {}
    tables = run_tables(add_figures(run))
    assert tables[0].rows[1][1] == "-"


def test_a_share_of_the_ceiling_that_cannot_be_told_is_called_unknown() -> None:
    run = made_up_run({"a": 0.8, "adopted": 0.4})
    run["rows"][1]["cost"] = None
    rates = run_tables(add_figures(run))[1]
    shares = [row[rates.columns.index("of ceiling")] for row in rates.rows]
    assert shares == ["20%", "unknown"]
    run["ceilings"] = {}
    assert run_tables(add_figures(run))[1].rows[1][3] == "-"


def test_plots_are_pictures_with_something_on_them(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs Matplotlib")
    import cv2

    from hrnet_deploy.benchmark.plots import write_plots

    run = made_up_run({"a": 0.8, "b": 0.04})
    run["end_to_end"] = {
        "pictures": 4,
        "persons": 9,
        "rows": {
            name: {
                "seconds": [1.0, 1.1],
                "stages": {"read and decode": [0.1], "crop": [0.01], "engine": [0.8],
                           "to picture": [0.01]},
            }
            for name in ("a", "b")
        },
    }  # fmt: skip
    files = write_plots(add_figures(run), tmp_path / "plots")
    assert [file.name for file in files] == ["latency.png", "throughput.png", "stages.png"]
    for file in files:
        picture = cv2.imread(str(file))
        assert picture is not None
        assert picture.shape[1] >= 800
        assert file.stat().st_size < 60_000
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50
