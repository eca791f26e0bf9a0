"""``hrnet-deploy benchmark`` as a user runs it: real processes, files and signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx", reason="needs the onnx package")
pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")

ROOT = Path(__file__).parents[2]
QUICK = ["--backend", "onnxruntime", "--rounds", "5", "--warmup", "0", "--batch", "2"]
QUICK += ["--sweep", "none", "--no-memory", "--no-ceiling"]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8"}


def benchmark(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hrnet_deploy", "benchmark", *words],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def results(tiny_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result file with two runs."""
    folder = tmp_path_factory.mktemp("results")
    for number in (1, 2):
        done = benchmark(folder, str(tiny_onnx), *QUICK, "-o", "r.json")
        assert done.returncode == 0, done.stderr
        assert f"written: r.json, run {number}" in done.stderr
        assert "tiny.onnx onnxruntime fp32" in done.stdout
        assert "persons/s" in done.stdout
    return folder / "r.json"


def test_results_are_appended(results: Path) -> None:
    runs = json.loads(results.read_text())["runs"]
    assert len(runs) == 2
    for run in runs:
        assert len(run["rows"][0]["seconds"]) == 5
        assert run["machine"]["cores"] >= 1
        assert str(ROOT) not in json.dumps(run)


def test_the_last_two_runs_are_compared(results: Path) -> None:
    done = benchmark(results.parent, "r.json", "--compare", "--json")
    assert done.returncode == 0, done.stderr
    (change,) = json.loads(done.stdout)["changes"]
    assert change["name"] == "tiny.onnx onnxruntime fp32"
    assert change["verdict"] in ("faster", "slower", "no change beyond noise")
    table = benchmark(results.parent, "r.json", "r.json", "--compare", "--markdown")
    assert "| tiny.onnx onnxruntime fp32 |" in table.stdout
    assert "no change beyond noise" in table.stdout  # a run against itself


def test_the_whole_command(tiny_onnx: Path, tmp_path: Path) -> None:
    """Nothing left out: sweep, ceilings, memory, plots."""
    pytest.importorskip("matplotlib", reason="needs Matplotlib")
    words = ["--backend", "onnxruntime", "--rounds", "3", "--sweep", "1,2", "--plots", "plots"]
    done = benchmark(tmp_path, str(tiny_onnx), *words, "--json")
    assert done.returncode == 0, done.stderr
    run = json.loads(done.stdout)
    assert run["ceilings"]["copy"]["rate"] > 1e8
    assert run["ceilings"]["gemm fp32"]["rate"] > 1e9
    (row,) = run["rows"]
    assert set(row["sweep"]) == {"1", "2"}
    if sys.platform == "linux":
        assert row["peak_mb"] > 30
    assert {file.name for file in (tmp_path / "plots").iterdir()} == {
        "latency.png",
        "throughput.png",
    }


def test_json_and_markdown_say_the_same(tiny_onnx: Path, tmp_path: Path) -> None:
    done = benchmark(tmp_path, str(tiny_onnx), *QUICK, "--json")
    assert done.returncode == 0, done.stderr
    run = json.loads(done.stdout)
    stored = json.loads((tmp_path / "hrnet-deploy-benchmark.json").read_text())["runs"][-1]
    assert run == stored
    done = benchmark(tmp_path, str(tiny_onnx), *QUICK, "--markdown")
    assert "**Engines alone: batch 2, 5 rounds" in done.stdout


@pytest.mark.parametrize(
    ("words", "code", "problem"),
    [
        (["--rounds", "0"], 2, "0 is not in the range"),
        (["--warmup", "-1"], 2, "-1 is not in the range"),
        (["--batch", "0"], 2, "0 is not in the range"),
        (["--sweep", "1,x"], 2, "is not a list of batches"),
        (["--sweep", "0"], 2, "is not a list of batches"),
        (["--images", "."], 2, "--images: needs the boxes of persons"),
        (["--annotations", "a.json"], 2, "--annotations: needs the pictures"),
        (["--boxes", "b.json"], 2, "--boxes: needs the pictures"),
        (["--device", "tpu"], 2, "device: is 'tpu'"),
        (["--plots", __file__], 2, "test_benchmark.py: cannot be created"),
    ],
)
def test_wrong_options_are_named(
    tiny_onnx: Path, tmp_path: Path, words: list[str], code: int, problem: str
) -> None:
    done = benchmark(tmp_path, str(tiny_onnx), *QUICK, *words)
    assert done.returncode == code
    assert problem in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_gpu_that_is_not_there_ends_with_3(tiny_onnx: Path, tmp_path: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has the CUDA provider")
    done = benchmark(tmp_path, str(tiny_onnx), *QUICK, "--device", "cuda")
    assert done.returncode == 3
    assert "device: is cuda, but this ONNX Runtime" in done.stderr


def test_a_malformed_earlier_result_is_refused_before_the_work(
    tiny_onnx: Path, tmp_path: Path
) -> None:
    (tmp_path / "r.json").write_text("name,ms\nx,1\n")
    done = benchmark(tmp_path, str(tiny_onnx), *QUICK, "-o", "r.json")
    assert done.returncode == 2
    assert "r.json: is not valid JSON" in done.stderr
    assert (tmp_path / "r.json").read_text() == "name,ms\nx,1\n"


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        (["one.json"], "holds a single run"),
        (["one.json", "one.json", "one.json"], "got 3 files"),
        (["gone.json", "one.json"], "gone.json: no such file"),
    ],
)
def test_what_cannot_be_compared_is_said(
    results: Path, tmp_path: Path, files: list[str], problem: str
) -> None:
    content = json.loads(results.read_text())
    (tmp_path / "one.json").write_text(json.dumps({**content, "runs": content["runs"][:1]}))
    done = benchmark(tmp_path, *files, "--compare")
    assert done.returncode == 2
    assert problem in done.stderr


@pytest.mark.parametrize("choice", [("--batch", "8"), ("-o", "r2.json"), ("--no-memory",)])
def test_a_comparison_passes_over_no_choice(results: Path, choice: tuple[str, ...]) -> None:
    done = benchmark(results.parent, "r.json", "--compare", *choice)
    assert done.returncode == 2
    assert "is for a measurement, not for --compare" in done.stderr
    assert not (results.parent / "r2.json").exists()


@pytest.mark.skipif(os.name != "posix", reason="sends signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_keeps_the_finished_rounds(
    tiny_onnx: Path, tmp_path: Path, number: int, code: int
) -> None:
    words = [str(tiny_onnx), *QUICK, "--rounds", "100000", "-o", "r.json"]
    running = subprocess.Popen(
        [sys.executable, "-m", "hrnet_deploy", "benchmark", *words],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert running.stderr is not None
        assert "interleaved rounds" in running.stderr.readline()
        time.sleep(2)
        running.send_signal(number)
        _, talk = running.communicate(timeout=60)
    finally:
        running.kill()
    assert running.returncode == code, talk
    assert "the finished rounds are in r.json" in talk
    run: dict[str, Any] = json.loads((tmp_path / "r.json").read_text())["runs"][-1]
    assert run["stopped"] == number
    assert 1 <= len(run["rows"][0]["seconds"]) < 100_000


def test_eval_takes_the_backend_and_says_what_runs(make_tiny_onnx: Any, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="needs OpenVINO")
    from tests.world import NAMES, SIGMAS, make_world

    world = make_world(tmp_path / "world", images=3)
    engine = make_tiny_onnx(keypoint_names=NAMES, sigmas=SIGMAS)
    words = ["eval", "--engine", str(engine), "--annotations", str(world.annotations)]
    words += ["--images", str(world.images), "--backend", "openvino", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "hrnet_deploy", *words],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "tiny.onnx: OpenVINO in fp32, asked for" in done.stderr
    facts = json.loads(done.stdout)
    assert facts["fingerprint"]["engine"]["backend"] == "openvino"
