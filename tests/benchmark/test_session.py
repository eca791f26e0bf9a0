from __future__ import annotations

import dataclasses
import re
import signal
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("onnx", reason="needs the onnx package")
pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")

from hrnet_deploy.benchmark import session
from hrnet_deploy.benchmark.contenders import first_spec, open_way, ways
from hrnet_deploy.benchmark.end_to_end import STAGES, Pictures
from hrnet_deploy.benchmark.job import BenchmarkJob
from hrnet_deploy.benchmark.memory import peak_mb
from hrnet_deploy.benchmark.session import run_benchmark
from hrnet_deploy.cli.benchmark import _raise_end
from hrnet_deploy.engines import NonFiniteOutput, load_engine
from hrnet_deploy.engines.manifest import BatchProfile, Manifest, write_manifest
from hrnet_deploy.engines.onnxruntime import OnnxRuntimeEngine
from hrnet_deploy.engines.signature import read_engine_file
from hrnet_deploy.errors import DeployError, EnvironmentFault, InputError
from hrnet_deploy.files import sha256_bytes
from tests.world import NAMES, SIGMAS, make_world

QUICK: dict[str, Any] = {
    "backends": ("onnxruntime",),
    "batch": 2,
    "sweep": (1, 2),
    "rounds": 3,
    "warmup": 1,
    "memory": False,
    "ceiling": False,
    "threads": 1,
}


def quiet(line: str) -> None:
    pass


def test_engine_and_checkpoint_side_by_side(
    small_onnx: Path, small_checkpoint: Path, small: ModuleType, tmp_path: Path
) -> None:
    job = BenchmarkJob((small_onnx, small_checkpoint), **(QUICK | {"ceiling": True}))
    run = run_benchmark(job, say=quiet)
    assert [row["name"] for row in run["rows"]] == [
        "small.onnx onnxruntime fp32",
        "small.pth torch fp32",
    ]
    for row in run["rows"]:
        assert len(row["seconds"]) == 3
        assert {size: len(seconds) for size, seconds in row["sweep"].items()} == {"1": 3, "2": 3}
        assert row["knee"] in (1, 2)
        assert row["figures"]["persons_per_second"] > 0
    assert run["rows"][0]["figures"]["share_of_gemm"] > 0
    assert run["rows"][1]["figures"]["times_first"]["value"] > 0
    assert len(run["ceilings"]["gemm fp32"]["seconds"]) == 3
    assert run["stopped"] is None
    assert run["failed"] is None
    assert run["end_to_end"]["rows"] == {}


def test_openvino_comes_by_itself_where_it_is(small_onnx: Path) -> None:
    openvino = pytest.importorskip("openvino", reason="needs OpenVINO")
    from hrnet_deploy.engines.openvino_model import native_precisions

    found = ways([small_onnx], [], [], device=None, threads=None)
    expected = [("onnxruntime", "exact"), ("openvino", "exact")]
    if "bf16" in native_precisions(openvino):
        expected.append(("openvino", "bf16"))
    assert [(way.backend, way.precision) for way in found] == expected
    on_gpu = ways([small_onnx], [], [], device="cuda", threads=None)
    assert [way.backend for way in on_gpu] == ["onnxruntime"]


def test_combinations_that_do_not_exist_are_left_out(small_onnx: Path) -> None:
    found = ways(
        [small_onnx], ["onnxruntime", "openvino"], ["exact", "bf16"], device=None, threads=2
    )
    assert [(way.backend, way.precision) for way in found] == [
        ("onnxruntime", "exact"),
        ("openvino", "exact"),
        ("openvino", "bf16"),
    ]


def test_where_nothing_is_left_to_run_that_is_said(small_onnx: Path) -> None:
    job = BenchmarkJob((small_onnx,), **(QUICK | {"precisions": ("bf16",)}))
    with pytest.raises(InputError, match="precision: is bf16, ONNX Runtime computes"):
        run_benchmark(job, say=quiet)
    job = BenchmarkJob((small_onnx,), **(QUICK | {"flip_threshold": 0.5}))
    with pytest.raises(InputError, match="flip_threshold: belongs to the adaptive flip-test"):
        run_benchmark(job, say=quiet)


def test_a_checkpoint_does_what_the_first_engine_does(
    small_onnx: Path, small_checkpoint: Path, tmp_path: Path
) -> None:
    """Also where that is a plan, whose manifest says it: one pass is not compared with two."""
    content, spec = read_engine_file(small_onnx)
    single = dataclasses.replace(spec, flip_test=False, shift_heatmap=False)
    plan = tmp_path / "single.plan"
    plan.write_bytes(content)
    manifest = Manifest(
        spec=single,
        plan_sha256=sha256_bytes(content),
        onnx_sha256="1" * 64,
        onnx_name="single.onnx",
        tensorrt="10.9.0.34",
        cuda="12.8",
        gpu_name="NVIDIA GeForce RTX 3090",
        compute_capability=(8, 6),
        precision=single.precision,
        strongly_typed=True,
        profile=BatchProfile(1, 2, 4),
    )
    write_manifest(plan, manifest)
    found = ways([small_checkpoint, plan, small_onnx], [], [], device=None, threads=1)
    assert spec.flip_test
    assert first_spec(found) == single
    assert first_spec(found[:1]) is None
    with open_way(found[0], first_spec(found)) as engine:
        assert not engine.spec.flip_test


def test_a_broken_picture_is_said_before_anything_is_measured(
    make_tiny_onnx: Any, tmp_path: Path
) -> None:
    world = make_world(tmp_path / "world", images=6)
    engine = make_tiny_onnx(keypoint_names=NAMES)
    broken = sorted(path for path in world.images.rglob("*") if path.is_file())[1]
    broken.write_bytes(b"no picture")
    pictures = Pictures(world.images, world.annotations, None, 4)
    said: list[str] = []
    job = BenchmarkJob((engine,), **(QUICK | {"pictures": pictures}))
    with pytest.raises(InputError, match=re.escape(broken.name)):
        run_benchmark(job, say=said.append)
    assert said == []


def test_the_whole_way_with_its_stages(make_tiny_onnx: Any, tmp_path: Path) -> None:
    from tests.world import NAMES

    world = make_world(tmp_path / "world", images=6)
    engine = make_tiny_onnx(keypoint_names=NAMES)
    pictures = Pictures(world.images, world.annotations, None, 4)
    job = BenchmarkJob((engine,), **(QUICK | {"sweep": (), "pictures": pictures}))
    run = run_benchmark(job, say=quiet)
    whole = run["end_to_end"]
    assert whole["pictures"] == 4
    assert whole["persons"] == 7  # pictures hold 1, 2, 3 and then 0 or 1 persons
    (entry,) = whole["rows"].values()
    assert len(entry["seconds"]) == 3
    assert set(entry["figures"]["stages_ms_per_person"]) == set(STAGES)
    assert all(value > 0 for value in entry["figures"]["stages_ms_per_person"].values())


def test_adaptive_beside_exact_flip_test(make_tiny_onnx: Any, tmp_path: Path) -> None:
    """Each engine in the ways that it can; the share of second passes is that of the pictures."""
    world = make_world(tmp_path / "world", images=8)
    single = make_tiny_onnx("single.onnx", keypoint_names=NAMES, sigmas=SIGMAS)
    exact = make_tiny_onnx("exact.onnx", keypoint_names=NAMES, sigmas=SIGMAS, flip_test=True)
    pictures = Pictures(world.images, world.annotations, None, 4)
    options = QUICK | {"flips": ("exact", "off", "adaptive"), "flip_threshold": 0}
    run = run_benchmark(BenchmarkJob((exact, single), pictures=pictures, **options), say=quiet)
    names = [
        "exact.onnx onnxruntime fp32",
        "single.onnx onnxruntime fp32",
        "single.onnx onnxruntime fp32 adaptive",
    ]
    assert [row["name"] for row in run["rows"]] == names
    assert [row["flip"] and row["flip"]["threshold"] for row in run["rows"]] == [None, None, 0]
    shares = [run["end_to_end"]["rows"][name]["second_pass_share"] for name in names]
    assert shares == [None, None, 1]
    assert f"{names[2]}: 100.0% of the persons looked at twice" in run["notes"]
    with pytest.raises(InputError, match=r"flip: is adaptive.* Give --images and --annotations"):
        run_benchmark(BenchmarkJob((single,), **options), say=quiet)
    options["flips"] = ("adaptive",)
    with pytest.raises(InputError, match=r"exact.onnx: has a flip-test .* with --no-flip"):
        run_benchmark(BenchmarkJob((exact,), pictures=pictures, **options), say=quiet)


def test_a_signal_keeps_finished_rounds(small_onnx: Path) -> None:
    asked = iter([None] * 12 + [int(signal.SIGINT)] * 1000)
    run = run_benchmark(
        BenchmarkJob((small_onnx,), **(QUICK | {"rounds": 50})), say=quiet, stop=lambda: next(asked)
    )
    assert run["stopped"] == signal.SIGINT
    done = len(run["rows"][0]["seconds"])
    assert 1 <= done < 50
    assert run["rows"][0]["figures"]["ms_per_person"]["rounds"] == done


def test_a_batch_that_does_not_fit_is_halved(
    small_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    infer = OnnxRuntimeEngine._infer

    def small_memory(self: OnnxRuntimeEngine, crops: NDArray[np.uint8], *, heatmaps: bool) -> Any:
        if len(crops) > 3:
            raise EnvironmentFault("small.onnx", "ran out of memory in ONNX Runtime", "x")
        return infer(self, crops, heatmaps=heatmaps)

    monkeypatch.setattr(OnnxRuntimeEngine, "_infer", small_memory)
    job = BenchmarkJob((small_onnx,), **(QUICK | {"batch": 16, "sweep": (1, 4)}))
    run = run_benchmark(job, say=quiet)
    (row,) = run["rows"]
    assert row["batch"] == 2
    assert len(row["seconds"]) == 3
    assert set(row["sweep"]) == {"1"}
    assert any("batch 16 ran out of memory, 2 is used" in note for note in run["notes"])


@pytest.mark.parametrize(
    "error",
    [
        EnvironmentFault("cuda:0", "CUDA error 700", "Run it again"),
        NonFiniteOutput("small.onnx", np.array([0]), 2),
    ],
    ids=["lost device", "NaN"],
)
def test_an_error_ends_the_run_and_keeps_its_rounds(
    error: DeployError, small_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    infer, calls = OnnxRuntimeEngine._infer, [0]

    def dying(self: OnnxRuntimeEngine, crops: NDArray[np.uint8], *, heatmaps: bool) -> Any:
        calls[0] += 1
        if calls[0] > 6:
            raise error
        return infer(self, crops, heatmaps=heatmaps)

    monkeypatch.setattr(OnnxRuntimeEngine, "_infer", dying)
    run = run_benchmark(BenchmarkJob((small_onnx,), **QUICK), say=quiet)
    assert run["failed"] == str(error)
    assert run["failed_exit_code"] == error.exit_code
    with pytest.raises(DeployError, match=r"ended early: .* finished part is in r\.json") as ended:
        _raise_end(run, Path("r.json"))
    assert ended.value.exit_code == error.exit_code
    assert len(run["rows"][0]["seconds"]) == 3  # the sweep was what died


def test_a_gpu_that_is_not_there_is_an_error(small_onnx: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has the CUDA provider")
    job = BenchmarkJob((small_onnx,), **(QUICK | {"device": "cuda"}))
    with pytest.raises(EnvironmentFault, match="device: is cuda, but this ONNX Runtime"):
        run_benchmark(job, say=quiet)


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (("missing.onnx",), r"missing\.onnx: no such file"),
        (("notes.txt",), r"has the unknown extension '\.txt'"),
        (("small.onnx", "small.onnx"), "is given twice"),
    ],
)
def test_wrong_artefacts_are_named(
    small_onnx: Path, tmp_path: Path, names: tuple[str, ...], problem: str
) -> None:
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "small.onnx").write_bytes(small_onnx.read_bytes())
    job = BenchmarkJob(tuple(tmp_path / name for name in names), **QUICK)
    with pytest.raises(InputError, match=problem):
        run_benchmark(job, say=quiet)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_memory_is_that_of_the_artefact_alone(small_onnx: Path) -> None:
    (way,) = ways([small_onnx], ["onnxruntime"], [], device=None, threads=1)
    with load_engine(small_onnx) as engine:
        spec = engine.spec
    ballast = np.ones(400 << 17)  # 400 MiB that are ours, not the engine's
    said: list[str] = []
    used = peak_mb(way, spec, 2, say=said.append)
    assert used is not None
    assert 40 < used < 350
    assert ballast.sum() > 0
    assert said == []
    gone = dataclasses.replace(way, path=way.path.with_name("gone.onnx"))
    assert peak_mb(gone, spec, 2, say=said.append) is None
    assert len(said) == 1
    assert "gone.onnx: not measured (exit code 1; " in said[0]
    assert "no such file" in said[0]


def test_convolutions_of_any_precision_are_chained() -> None:
    pytest.importorskip("openvino", reason="needs OpenVINO")
    from hrnet_deploy.benchmark.ceiling import convolution_chain, gemm_ceilings

    for precision in ("fp32", "int8"):
        work, flop = convolution_chain((8, 16, 8), 1, (4, 6), precision, 2)
        work()
        assert flop == 2 * 2 * (2 * 8 * 16) * 4 * 6
    assert "convolution" in gemm_ceilings({"int8"}, 1)["int8"].library


def test_the_ceilings_are_measured_in_the_same_rounds() -> None:
    from hrnet_deploy.benchmark.ceiling import copy_ceiling, gemm_ceilings

    (ceiling,) = gemm_ceilings({"fp32", "fp16"}, 1).values()
    ceiling.task.work()
    assert ceiling.task.name == "gemm fp32"
    convolutions = 32 * 2 * 9 * 256**2 * 16 * 12
    assert ceiling.amount in (2 * 1024**3, 4 * 1024**3, convolutions)
    assert ceiling.rate(2.0) == ceiling.amount / 2
    copy = copy_ceiling()
    copy.task.work()
    assert copy.amount == 2 * (128 << 20)
    assert session.MIN_ROUNDS >= 3
