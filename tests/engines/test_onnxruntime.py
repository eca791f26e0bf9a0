from __future__ import annotations

import gc
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

pytest.importorskip("hypothesis", reason="needs hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hrnet_deploy import load_engine
from hrnet_deploy.engines import NonFiniteOutput, onnxruntime
from hrnet_deploy.engines.onnxruntime import load_onnx_engine
from hrnet_deploy.errors import DeployError, EnvironmentFault, InputError
from hrnet_deploy.files import sha256_file
from hrnet_deploy.spec import METADATA_KEY

Make = Callable[..., Path]


def crops_of(count: int, size_hw: tuple[int, int] = (64, 48), seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, *size_hw, 3), np.uint8)


def expected(crops_nhwc: NDArray[np.uint8]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """What the tiny graph computes, in numpy."""
    count, height, width, _ = crops_nhwc.shape
    blocks = crops_nhwc.reshape(count, height // 4, 4, width // 4, 4, 3) / np.float32(255)
    heatmaps = blocks.mean(axis=(2, 4), dtype=np.float32).transpose(0, 3, 1, 2)
    flat = heatmaps.reshape(count, 3, -1)
    peak = flat.argmax(axis=2)
    keypoints = np.stack([peak % (width // 4), peak // (width // 4)], axis=2)
    return keypoints, flat.max(axis=2), heatmaps


def test_the_outputs_are_those_of_the_graph(tiny_onnx: Path) -> None:
    crops = crops_of(5)
    keypoints, scores, heatmaps = expected(crops)
    with load_engine(tiny_onnx) as engine:
        output = engine.run(crops, heatmaps=True)
        assert output.heatmaps_nkhw is not None
        np.testing.assert_array_equal(output.keypoints_heatmap, keypoints)
        np.testing.assert_allclose(output.scores, scores, atol=1e-6)
        np.testing.assert_allclose(output.heatmaps_nkhw, heatmaps, atol=1e-6)
        assert output.keypoints_heatmap.dtype == output.scores.dtype == np.float32
        assert engine.run(crops).heatmaps_nkhw is None


def test_the_engine_says_what_it_is(tiny_onnx: Path, tiny: ModuleType) -> None:
    import onnxruntime as ort

    with load_engine(tiny_onnx) as engine:
        assert engine.spec == tiny.tiny_spec()
        assert engine.max_batch is None
        assert engine.info.backend == "onnxruntime"
        assert engine.info.device == "cpu"
        assert engine.info.precision == "fp32"
        assert engine.info.sha256 == sha256_file(tiny_onnx)
        assert engine.info.versions == {"onnxruntime": ort.__version__}


def test_no_crops_give_empty_outputs(tiny_onnx: Path) -> None:
    with load_engine(tiny_onnx) as engine:
        output = engine.run(crops_of(0), heatmaps=True)
    assert output.keypoints_heatmap.shape == (0, 3, 2)
    assert output.scores.shape == (0, 3)
    assert output.heatmaps_nkhw is not None
    assert output.heatmaps_nkhw.shape == (0, 3, 16, 12)


@pytest.mark.parametrize("batch", [1, 3, 4, 16])
def test_a_static_batch_is_filled_up_and_cut(make_tiny_onnx: Make, batch: int) -> None:
    crops = crops_of(7)
    keypoints, scores, heatmaps = expected(crops)
    with load_engine(make_tiny_onnx(static_batch=batch)) as engine:
        assert engine.max_batch == batch
        output = engine.run(crops, heatmaps=True)
    np.testing.assert_array_equal(output.keypoints_heatmap, keypoints)
    np.testing.assert_allclose(output.scores, scores, atol=1e-6)
    assert output.heatmaps_nkhw is not None
    np.testing.assert_allclose(output.heatmaps_nkhw, heatmaps, atol=1e-6)


def test_what_stands_beside_in_a_static_batch_does_not_matter(make_tiny_onnx: Make) -> None:
    """The black crops that fill up a batch may give NaN: nobody sees them."""
    white = np.full((3, 64, 48, 3), 255, np.uint8)
    grey = crops_of(3) // 2
    with load_engine(make_tiny_onnx(static_batch=2, poison=True)) as engine:
        assert len(engine.run(grey).scores) == 3
        with pytest.raises(NonFiniteOutput) as caught:
            engine.run(np.concatenate([grey, white, grey]))
    assert caught.value.indices.tolist() == [3, 4, 5]
    assert "engine produced NaN or infinity for 3 of 9 crops" in str(caught.value)


def test_any_split_gives_the_same_poses(small_onnx: Path, small: ModuleType) -> None:
    crops = crops_of(11, small.SIZE_HW)
    with load_engine(small_onnx) as engine:
        whole = engine.run(crops, heatmaps=True)
        assert whole.heatmaps_nkhw is not None
        for step in (1, 2, 3, 4, 7):
            for start in range(0, 11, step):
                part = engine.run(crops[start : start + step], heatmaps=True)
                assert part.heatmaps_nkhw is not None
                own = slice(start, start + step)
                np.testing.assert_allclose(part.heatmaps_nkhw, whole.heatmaps_nkhw[own], atol=1e-5)
                np.testing.assert_allclose(part.scores, whole.scores[own], atol=1e-5)


def test_a_dynamic_graph_runs_in_bounded_pieces(
    tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "MAX_PIXELS_PER_RUN", 4 * 64 * 48)
    crops = crops_of(10)
    with load_engine(tiny_onnx) as engine:
        session, sizes = engine._session, []  # type: ignore[attr-defined]

        class Spy:
            def run(self, names: list[str], feeds: dict[str, Any]) -> Any:
                sizes.append(len(feeds["crops"]))
                return session.run(names, feeds)

        engine._session = Spy()  # type: ignore[attr-defined]
        output = engine.run(crops)
    assert sizes == [4, 4, 2]
    np.testing.assert_array_equal(output.keypoints_heatmap, expected(crops)[0])


def test_heatmaps_are_computed_only_when_asked_for(make_tiny_onnx: Make) -> None:
    with load_engine(make_tiny_onnx(has_heatmaps=False)) as engine:
        assert engine.run(crops_of(2)).heatmaps_nkhw is None
        with pytest.raises(InputError, match="was exported with --no-heatmaps"):
            engine.run(crops_of(2), heatmaps=True)


@pytest.mark.parametrize(
    "crops",
    [
        np.zeros((2, 48, 64, 3), np.uint8),
        np.zeros((2, 64, 48, 3), np.float32),
        np.zeros((64, 48, 3), np.uint8),
        np.zeros((2, 3, 64, 48), np.uint8),
        [[1]],
    ],
)
def test_other_crops_are_refused(tiny_onnx: Path, crops: Any) -> None:
    with (
        load_engine(tiny_onnx) as engine,
        pytest.raises(InputError, match=r"crops_nhwc: expected \(N, 64, 48, 3\) uint8, got "),
    ):
        engine.run(crops)


def test_crops_in_any_memory_layout_work(tiny_onnx: Path) -> None:
    crops = crops_of(6)
    with load_engine(tiny_onnx) as engine:
        np.testing.assert_array_equal(engine.run(crops[::2]).scores, engine.run(crops).scores[::2])
        frozen = crops.copy()
        frozen.flags.writeable = False
        np.testing.assert_array_equal(engine.run(frozen).scores, engine.run(crops).scores)


def test_one_engine_serves_eight_threads(small_onnx: Path, small: ModuleType) -> None:
    batches = [crops_of(1 + i % 3, small.SIZE_HW, seed=i) for i in range(32)]
    with load_engine(small_onnx) as engine, ThreadPoolExecutor(8) as pool:
        alone = [engine.run(batch) for batch in batches]
        together = list(pool.map(engine.run, batches, timeout=120))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.scores, other.scores)
        np.testing.assert_array_equal(one.keypoints_heatmap, other.keypoints_heatmap)


def test_eight_threads_with_eight_engines(tiny_onnx: Path) -> None:
    crops = crops_of(4)

    def work(_: int) -> NDArray[np.float32]:
        with load_engine(tiny_onnx, threads=1) as engine:
            for _ in range(20):
                output = engine.run(crops)
        return output.scores

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(work, range(8), timeout=120))
    for scores in results:
        np.testing.assert_array_equal(scores, results[0])


def test_a_closed_engine_says_so(tiny_onnx: Path) -> None:
    engine = load_engine(tiny_onnx)
    engine.close()
    engine.close()
    with pytest.raises(InputError, match=r"tiny\.onnx: engine is closed\. Load it again"):
        engine.run(crops_of(1))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"<!doctype html>\n<html>", r"is not a valid ONNX file \(an HTML page\)"),
        (b"\x89PNG\r\n\x1a\n", "is not a valid ONNX file"),
        (b"\x80\x02}q\x00.", "is not a valid ONNX file"),
        (bytes(500), "is not a valid ONNX file"),
        (b"\x08\x08", r"is not a valid ONNX file \(it holds no graph\)"),
    ],
)
def test_what_is_no_onnx_file_is_said(tmp_path: Path, content: bytes, problem: str) -> None:
    file = tmp_path / "file.onnx"
    file.write_bytes(content)
    with pytest.raises(InputError, match=rf"file\.onnx: {problem}"):
        load_engine(file)


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.99, -1])
def test_a_truncated_file_is_refused(tiny_onnx: Path, tmp_path: Path, keep: float) -> None:
    content = tiny_onnx.read_bytes()
    file = tmp_path / "cut.onnx"
    file.write_bytes(content[: int(len(content) * keep) if keep > 0 else -1])
    with pytest.raises(InputError, match=r"cut\.onnx: is not a valid ONNX file"):
        load_engine(file)


@pytest.mark.parametrize("tail", [b"\0", b"\0" * 64, b"<html>", b"\xff" * 9])
def test_bytes_behind_the_end_are_refused(tiny_onnx: Path, tmp_path: Path, tail: bytes) -> None:
    file = tmp_path / "tail.onnx"
    file.write_bytes(tiny_onnx.read_bytes() + tail)
    with pytest.raises(InputError, match=r"tail\.onnx: is not a valid ONNX file"):
        load_engine(file)


def test_a_file_of_somebody_else_is_told_what_to_do(make_tiny_onnx: Make) -> None:
    file = make_tiny_onnx(metadata=None)
    message = (
        r"tiny\.onnx: was not written by hrnet-deploy export; its inputs are "
        r"crops \(N, 64, 48, 3\)\. .*hrnet-deploy adopt .*tiny\.onnx --recipe"
    )
    with pytest.raises(InputError, match=message):
        load_engine(file)


def test_a_real_foreign_network_is_told_what_to_do(shared: Path) -> None:
    file = shared / "data/weights-ultralight/deploy.onnx"
    with pytest.raises(InputError, match=r"its inputs are data \(1, 3, 256, 192\)\. .* adopt "):
        load_engine(file)


@pytest.mark.parametrize(
    ("metadata", "problem"),
    [
        ("not json", "its hrnet_deploy metadata is not JSON"),
        ("{}", "has schema None"),
        ('{"schema": 99}', "has schema 99"),
        ("NaN", "its hrnet_deploy metadata"),
        ("[" * 10_000, "its hrnet_deploy metadata is not JSON"),
    ],
)
def test_a_damaged_spec_is_named(make_tiny_onnx: Make, metadata: str, problem: str) -> None:
    with pytest.raises(InputError, match=rf"tiny\.onnx: .*{problem}"):
        load_engine(make_tiny_onnx(metadata=metadata))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"input_size_hw": (64, 64)},
            r"input crops is tensor\(uint8\) \(N, 64, 48, 3\), "
            r"expected tensor\(uint8\) \(N, 64, 64, 3\)",
        ),
        ({"keypoint_names": ("a", "b")}, r"output \w+ is tensor\(float\) \(N, 3.* expected .*N, 2"),
        ({"heatmap_size_hw": (8, 6)}, r"output heatmaps is .*16, 12.*expected .*8, 6\)"),
        ({"static_batch": 4}, r"input crops is .*\(N, 64.*expected .*\(4, 64"),
        ({"has_heatmaps": False}, "outputs are heatmaps, keypoints, scores, expected keypoints, s"),
    ],
)
def test_a_graph_that_does_not_do_what_its_spec_says(
    make_tiny_onnx: Make, tiny: ModuleType, changes: dict[str, Any], problem: str
) -> None:
    wrong = tiny.tiny_spec(**changes).to_json()
    with pytest.raises(InputError, match=rf"tiny\.onnx: its {problem}"):
        load_engine(make_tiny_onnx(metadata=wrong))


def test_other_names_and_types_are_refused(tiny: ModuleType, tmp_path: Path) -> None:
    import onnx

    def written(change: Callable[[Any], None]) -> Path:
        model = tiny.tiny_model(tiny.tiny_spec())
        onnx.helper.set_model_props(model, {METADATA_KEY: tiny.tiny_spec().to_json()})
        change(model)
        file = tmp_path / "changed.onnx"
        file.write_bytes(model.SerializeToString())
        return file

    def as_float(model: Any) -> None:
        model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT

    def renamed(model: Any) -> None:
        model.graph.input[0].name = "input"
        model.graph.node[0].input[0] = "input"

    with pytest.raises(
        InputError, match=r"its input crops is tensor\(float\) .* expected tensor.u"
    ):
        load_engine(written(as_float))
    with pytest.raises(InputError, match="its inputs are input, expected crops"):
        load_engine(written(renamed))


def test_an_opset_from_the_future_is_refused(tiny_onnx: Path, tmp_path: Path) -> None:
    import onnx

    model = onnx.load(tiny_onnx)
    model.opset_import[0].version = 999
    file = tmp_path / "future.onnx"
    file.write_bytes(model.SerializeToString())
    expected_message = r"future\.onnx: needs opset 999, this ONNX Runtime reads up to \d+\."
    with pytest.raises(InputError, match=expected_message):
        load_engine(file)


def test_an_unknown_operator_is_named(tiny_onnx: Path, tmp_path: Path) -> None:
    import onnx

    model = onnx.load(tiny_onnx)
    model.graph.node[0].op_type = "Frobnicate"
    file = tmp_path / "op.onnx"
    file.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match=r"op\.onnx: ONNX Runtime cannot load it \(.*Frobnicate"):
        load_engine(file)


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:7"])
def test_a_gpu_that_onnx_runtime_cannot_use_is_an_error(tiny_onnx: Path, device: str) -> None:
    import onnxruntime as ort

    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("this ONNX Runtime has the CUDA provider")
    with pytest.raises(EnvironmentFault, match=rf"device: is {device}, but this ONNX .*CPU"):
        load_engine(tiny_onnx, device=device)


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_session_on_another_provider_than_asked_is_an_error(
    tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The CUDA provider is there but cannot be used: ONNX Runtime falls back with a warning."""
    import onnxruntime as ort

    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    if "CUDAExecutionProvider" in ort.InferenceSession(str(tiny_onnx)).get_providers():
        pytest.skip("this ONNX Runtime has a working CUDA provider")
    message = "device: is cuda, but ONNX Runtime would run on CPUExecutionProvider"
    with pytest.raises(EnvironmentFault, match=message):
        load_engine(tiny_onnx, device="cuda")
    assert capsys.readouterr().out == ""


def test_a_run_never_goes_over_to_another_provider(tiny_onnx: Path) -> None:
    with load_engine(tiny_onnx) as engine:
        assert engine._session._enable_fallback is False  # type: ignore[attr-defined]


@pytest.mark.parametrize("device", ["gpu", "CPU", "cuda:", "cuda:-1", ""])
def test_an_unknown_device_is_named(tiny_onnx: Path, device: str) -> None:
    with pytest.raises(InputError, match=rf"device: is '{device}'\. Give cpu, cuda or cuda:N"):
        load_engine(tiny_onnx, device=device)


@pytest.mark.parametrize("threads", [0, -2])
def test_a_number_of_threads_below_one_is_named(tiny_onnx: Path, threads: int) -> None:
    with pytest.raises(InputError, match=f"threads: is {threads}"):
        load_engine(tiny_onnx, threads=threads)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        (
            "w32.pth",
            "is a checkpoint, not an engine. To make an engine of it: hrnet-deploy export ",
        ),
        ("w32.safetensors", "is a checkpoint, not an engine"),
        ("w32.engine", "has the unknown extension '.engine'"),
        ("w32", "has the unknown extension ''"),
    ],
)
def test_what_is_no_engine_is_told_what_to_do(tmp_path: Path, name: str, problem: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(InputError, match=rf"{name}: {problem}"):
        load_engine(tmp_path / name)


def test_onnx_runtime_that_is_not_installed_is_an_environment_fault(
    tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    message = r"needs ONNX Runtime\. pip install 'hrnet-deploy\[cpu\]'"
    with pytest.raises(EnvironmentFault, match=message):
        load_engine(tiny_onnx)


@pytest.mark.parametrize("fault", [MemoryError(), RuntimeError("std::bad_alloc")])
def test_memory_that_runs_out_in_a_run_is_an_environment_fault(
    tiny_onnx: Path, fault: Exception
) -> None:
    class Full:
        def run(self, names: list[str], feeds: dict[str, Any]) -> None:
            raise fault

    with load_engine(tiny_onnx) as engine:
        engine._session = Full()  # type: ignore[attr-defined]
        with pytest.raises(EnvironmentFault, match="ran out of memory in ONNX Runtime"):
            engine.run(crops_of(1))


def test_every_exception_of_onnx_runtime_is_ours_afterwards(tiny_onnx: Path) -> None:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = [
        "Fail",
        "InvalidArgument",
        "NotImplemented",
        "InvalidGraph",
        "EPFail",
        "RuntimeException",
    ]

    class Failing:
        def __init__(self, kind: type[Exception]) -> None:
            self.kind = kind

        def run(self, names: list[str], feeds: dict[str, Any]) -> None:
            raise self.kind("[ONNXRuntimeError] : 1 : FAIL : node Conv_7 failed\nand more")

    with load_engine(tiny_onnx) as engine:
        for name in names:
            kind = getattr(state, name)
            assert not issubclass(kind, RuntimeError)  # which is why this is tested
            engine._session = Failing(kind)  # type: ignore[attr-defined]
            message = r"ONNX Runtime failed \(node Conv_7 failed\)\."
            with pytest.raises(EnvironmentFault, match=message):
                engine.run(crops_of(1))


def test_the_name_of_a_free_dimension_is_no_text(tiny_onnx: Path, tmp_path: Path) -> None:
    content, name = tiny_onnx.read_bytes(), b"\x12\x01N"
    place = content.rindex(name)  # in the last output
    file = tmp_path / "n.onnx"
    file.write_bytes(content[:place] + b"\x12\x01\xce" + content[place + len(name) :])
    with pytest.raises(InputError, match=r"n\.onnx: ONNX Runtime cannot load it \('utf-8' codec"):
        load_onnx_engine(file)


@settings(max_examples=150, deadline=None)
@given(changes=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255)), min_size=1, max_size=3))
def test_flipped_bytes_end_in_an_engine_or_in_our_error(
    tiny_onnx: Path, tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[float, int]]
) -> None:
    content = bytearray(tiny_onnx.read_bytes())
    for place, flip in changes:
        content[int(place * (len(content) - 1))] ^= flip
    file = tmp_path_factory.getbasetemp() / "flipped.onnx"
    file.write_bytes(content)
    try:
        engine = load_onnx_engine(file)
    except DeployError:
        return
    assert engine.spec.joints == 3
    engine.close()


def test_a_newer_format_is_said_without_the_source_of_onnx_runtime(
    tiny: ModuleType, tmp_path: Path
) -> None:
    import onnx

    model = onnx.load(tiny.write_tiny_onnx(tmp_path / "new.onnx"))
    model.ir_version = 999
    (tmp_path / "new.onnx").write_bytes(model.SerializeToString())
    problem = r"cannot load it \(Unsupported model IR version: 999, max"
    with pytest.raises(InputError, match=problem):
        load_onnx_engine(tmp_path / "new.onnx")


def test_names_that_are_no_text(tiny_onnx: Path, tmp_path: Path) -> None:
    file = tmp_path / "flipped.onnx"
    content = tiny_onnx.read_bytes()
    assert content.count(b"crops") > 1
    file.write_bytes(content.replace(b"crops", b"cro\xffs"))
    with pytest.raises(InputError, match=r"flipped\.onnx: "):
        load_onnx_engine(file)


def test_loading_and_running_imports_neither_torch_nor_onnx(tiny_onnx: Path) -> None:
    script = (
        "import json, sys, numpy as np\n"
        "from hrnet_deploy import PoseEstimator\n"
        "with PoseEstimator(sys.argv[1]) as estimator:\n"
        "    estimator(np.zeros((50, 50, 3), np.uint8), [[0, 0, 40, 40]])\n"
        "print(json.dumps([m for m in ('torch', 'onnx') if m in sys.modules]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tiny_onnx)], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == []
    assert done.stderr == ""


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_many_runs_hold_on_to_nothing(small_onnx: Path, small: ModuleType) -> None:
    sizes = [1, 4, 2, 3]
    batches = [crops_of(size, small.SIZE_HW) for size in sizes]
    with load_engine(small_onnx) as engine:
        for _ in range(20):
            for batch in batches:
                engine.run(batch)
        before, files = resident_mib(), open_files()
        for _ in range(60):
            for batch in batches:
                engine.run(batch)
        assert resident_mib() - before < 50
        assert open_files() == files


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_many_engines_leave_nothing_behind(small_onnx: Path, small: ModuleType) -> None:
    crops = crops_of(1, small.SIZE_HW)

    def cycle(count: int) -> None:
        for _ in range(count):
            with load_engine(small_onnx) as engine:
                engine.run(crops)
        gc.collect()

    cycle(10)
    before, files = resident_mib(), open_files()
    cycle(40)
    assert resident_mib() - before < 20
    assert open_files() == files
