from __future__ import annotations

import dataclasses
import gc
import platform
import resource
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch", reason="needs PyTorch")

from hrnet_deploy.engines import load_engine
from hrnet_deploy.engines.openvino import OpenVinoEngine, load_openvino_engine
from hrnet_deploy.engines.openvino_model import check_precision, native_precisions
from hrnet_deploy.errors import EnvironmentFault, InputError
from hrnet_deploy.export.checkpoint import read_checkpoint
from hrnet_deploy.export.crops import seeded_crops
from hrnet_deploy.export.parity import compare
from hrnet_deploy.export.run import reference_engine

ov = pytest.importorskip("openvino", reason="needs OpenVINO")

Make = Callable[..., Path]
needs_bf16 = pytest.mark.skipif(
    "bf16" not in native_precisions(ov), reason="this processor has no bf16 arithmetic"
)


def crops_of(count: int, size_hw: tuple[int, int] = (64, 48), seed: int = 0) -> NDArray[np.uint8]:
    return seeded_crops(size_hw, count, seed)


@pytest.fixture(scope="module")
def small_engine(small_onnx: Path) -> Any:
    with load_openvino_engine(small_onnx, threads=2) as engine:
        yield engine


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def test_it_says_what_runs(small_engine: OpenVinoEngine) -> None:
    info = small_engine.info
    assert (info.backend, info.device, info.precision) == ("openvino", "cpu", "fp32")
    assert set(info.versions) == {"openvino"}
    assert info.versions["openvino"][:2] == "20"


@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=needs_bf16)])
def test_it_agrees_with_pytorch(
    small_onnx: Path, small_checkpoint: Path, precision: str, small: ModuleType
) -> None:
    checkpoint = read_checkpoint(small_checkpoint)
    crops = crops_of(6, small.SIZE_HW)
    with load_openvino_engine(small_onnx, threads=2, precision=precision) as engine:
        spec = dataclasses.replace(engine.spec, source_sha256=checkpoint.sha256)
        with reference_engine(checkpoint, spec) as reference:
            report = compare(reference, engine, crops)
    assert report.passed, report.failures
    assert report.heatmap_max is not None
    if precision == "bf16":
        # Both would be exact if bf16 had silently become fp32.
        assert report.heatmap_max > 1e-4


def test_it_gives_the_brightest_spots(tiny_onnx: Path) -> None:
    crops = crops_of(5)
    with load_engine(tiny_onnx) as reference, load_openvino_engine(tiny_onnx) as engine:
        expected, output = (e.run(crops, heatmaps=True) for e in (reference, engine))
    np.testing.assert_array_equal(output.keypoints_heatmap, expected.keypoints_heatmap)
    np.testing.assert_allclose(output.scores, expected.scores, atol=1e-6)
    assert output.heatmaps_nkhw is not None
    assert expected.heatmaps_nkhw is not None
    np.testing.assert_allclose(output.heatmaps_nkhw, expected.heatmaps_nkhw, atol=1e-6)


@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=needs_bf16)])
def test_the_batch_does_not_change_a_result(
    small_onnx: Path, small: ModuleType, precision: str
) -> None:
    """Alone (on one thread, then on all) or among others: the same bits."""
    crops = crops_of(7, small.SIZE_HW)
    with load_openvino_engine(small_onnx, threads=2, precision=precision) as engine:
        together = engine.run(crops, heatmaps=True)
        alone = [engine.run(crops[i : i + 1], heatmaps=True) for i in range(7)]
        assert engine._narrow is not None  # type: ignore[attr-defined]
    for name in ("keypoints_heatmap", "scores", "heatmaps_nkhw"):
        joined = np.concatenate([getattr(one, name) for one in alone])
        np.testing.assert_array_equal(joined, getattr(together, name))


def test_a_single_small_batch_compiles_nothing_more(small_onnx: Path, small: ModuleType) -> None:
    with load_openvino_engine(small_onnx, threads=2) as engine:
        for count in (4, 1, 4, 1):  # the ragged end of a batch, twice
            engine.run(crops_of(count, small.SIZE_HW))
        assert engine._narrow is None  # type: ignore[attr-defined]


def test_no_crops_give_no_poses(small_engine: OpenVinoEngine, small: ModuleType) -> None:
    output = small_engine.run(crops_of(1, small.SIZE_HW)[:0], heatmaps=True)
    assert output.keypoints_heatmap.shape == (0, 17, 2)


def test_crops_in_any_memory_layout_work(small_engine: OpenVinoEngine, small: ModuleType) -> None:
    crops = crops_of(6, small.SIZE_HW)
    expected = small_engine.run(crops).scores
    frozen = crops.copy()
    frozen.flags.writeable = False
    np.testing.assert_array_equal(small_engine.run(frozen).scores, expected)
    np.testing.assert_array_equal(small_engine.run(crops[::2]).scores, expected[::2])


def test_a_static_batch_is_filled_up(make_tiny_onnx: Make, tiny_onnx: Path) -> None:
    crops = crops_of(7)
    with (
        load_openvino_engine(make_tiny_onnx(static_batch=4), threads=2) as engine,
        load_openvino_engine(tiny_onnx) as free,
    ):
        np.testing.assert_array_equal(engine.run(crops).scores, free.run(crops).scores)
        assert engine.max_batch == 4


def test_results_outlive_later_runs_and_the_engine(small_onnx: Path, small: ModuleType) -> None:
    with load_openvino_engine(small_onnx, threads=2) as engine:
        first = engine.run(crops_of(3, small.SIZE_HW), heatmaps=True)
        kept = [first.scores.copy(), first.heatmaps_nkhw.copy()]  # type: ignore[union-attr]
        engine.run(crops_of(3, small.SIZE_HW, seed=9), heatmaps=True)
    gc.collect()
    np.testing.assert_array_equal(first.scores, kept[0])
    np.testing.assert_array_equal(first.heatmaps_nkhw, kept[1])  # type: ignore[arg-type]


def test_shared_crops_are_alive_while_they_are_read(
    small_engine: OpenVinoEngine, small: ModuleType
) -> None:
    """Temporaries of many runs: memory that was let go would be written over by the next one."""
    base = crops_of(3, small.SIZE_HW)
    expected = small_engine.run(base).scores
    for shift in range(20):
        np.testing.assert_array_equal(small_engine.run(base + np.uint8(0)).scores, expected)
        np.full((64, 96, 64, 3), shift, np.uint8)


def test_one_engine_serves_eight_threads(small_engine: OpenVinoEngine, small: ModuleType) -> None:
    batches = [crops_of(1 + i % 3, small.SIZE_HW, seed=i) for i in range(32)]
    alone = [small_engine.run(batch) for batch in batches]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(small_engine.run, batches, timeout=120))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.scores, other.scores)
        np.testing.assert_array_equal(one.keypoints_heatmap, other.keypoints_heatmap)


def test_a_closed_engine_says_so_and_leaves_no_thread(small_onnx: Path, small: ModuleType) -> None:
    before = {thread.name for thread in threading.enumerate()}
    engine = load_openvino_engine(small_onnx, threads=2)
    engine.run(crops_of(3, small.SIZE_HW))
    engine.close()
    engine.close()
    assert {thread.name for thread in threading.enumerate()} <= before
    with pytest.raises(InputError, match="engine is closed"):
        engine.run(crops_of(1, small.SIZE_HW))


@pytest.mark.skipif(platform.system() != "Linux", reason="needs Linux's /proc")
def test_many_engines_leave_nothing_behind(small_onnx: Path, small: ModuleType) -> None:
    crops = crops_of(2, small.SIZE_HW)

    def cycle(count: int) -> None:
        for _ in range(count):
            with load_openvino_engine(small_onnx, threads=2) as engine:
                engine.run(crops)
        gc.collect()

    cycle(5)
    before = resident_mib()
    cycle(15)
    assert resident_mib() - before < 30


@pytest.mark.skipif(platform.system() != "Linux", reason="needs Linux's /proc")
def test_many_runs_hold_on_to_nothing(small_engine: OpenVinoEngine, small: ModuleType) -> None:
    batches = [crops_of(size, small.SIZE_HW) for size in (1, 4, 2, 3)]
    for _ in range(20):
        for batch in batches:
            small_engine.run(batch)
    before = resident_mib()
    for _ in range(100):
        for batch in batches:
            small_engine.run(batch)
    assert resident_mib() - before < 50


def test_a_file_typed_fp16_is_not_run_in_another_precision(
    small: ModuleType, tmp_path: Path
) -> None:
    file = small.write_small_onnx(tmp_path / "half.onnx", precision="fp16")
    with pytest.raises(InputError, match=r"half\.onnx: is typed fp16, bf16 was asked for"):
        load_openvino_engine(file, precision="bf16")
    if "fp16" not in native_precisions(ov):
        with pytest.raises(EnvironmentFault, match="precision: is fp16, which this CPU does not"):
            load_openvino_engine(file)


def test_a_precision_that_became_another_one_is_an_error(small_onnx: Path) -> None:
    model = ov.Core().read_model(small_onnx)
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    check_precision(compiled, "fp32", "small.onnx")
    with pytest.raises(EnvironmentFault, match=r"would run it in f32, bf16 was asked for"):
        check_precision(compiled, "bf16", "small.onnx")


def test_a_wrong_precision_is_named(tiny_onnx: Path) -> None:
    with pytest.raises(InputError, match=r"precision: is 'int4'\. Give fp32, fp16, bf16"):
        load_openvino_engine(tiny_onnx, precision="int4")


def test_a_file_of_somebody_else_is_told_what_to_do(make_tiny_onnx: Make) -> None:
    with pytest.raises(InputError, match="was not written by hrnet-deploy export"):
        load_openvino_engine(make_tiny_onnx(metadata=None))


def test_a_graph_that_does_not_do_what_its_spec_says(
    make_tiny_onnx: Make, tiny: ModuleType
) -> None:
    wrong = tiny.tiny_spec(input_size_hw=(64, 64)).to_json()
    with pytest.raises(InputError, match=r"its input crops is tensor\(uint8\) \(N, 64, 48, 3\)"):
        load_openvino_engine(make_tiny_onnx(metadata=wrong))


def test_an_unknown_operator_is_named(tiny_onnx: Path, tmp_path: Path) -> None:
    import onnx

    model = onnx.load(tiny_onnx)
    model.graph.node[0].op_type = "Frobnicate"
    file = tmp_path / "op.onnx"
    file.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match=r"op\.onnx: OpenVINO cannot load it \("):
        load_openvino_engine(file)


def test_openvino_that_is_not_installed_is_an_environment_fault(
    tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    message = r"needs OpenVINO\. pip install 'hrnet-deploy\[openvino\]'"
    with pytest.raises(EnvironmentFault, match=message):
        load_openvino_engine(tiny_onnx)


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        (MemoryError(), "ran out of memory in OpenVINO"),
        (RuntimeError("std::bad_alloc"), "ran out of memory in OpenVINO"),
        (RuntimeError("Exception from x.cpp:1:\nbad shape\n\n"), r"OpenVINO failed \(bad shape\)"),
    ],
)
def test_faults_of_a_run_are_ours_afterwards(
    tiny_onnx: Path, fault: Exception, problem: str
) -> None:
    def submit(*_: Any) -> Any:
        def result() -> None:
            raise fault

        return SimpleNamespace(result=result)

    with load_openvino_engine(tiny_onnx, threads=1) as engine:
        engine._wide.submit = submit  # type: ignore[attr-defined]
        with pytest.raises(EnvironmentFault, match=problem):
            engine.run(crops_of(1))
