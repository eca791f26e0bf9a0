"""The TensorRT runner on the stand-in: run by ``tests/engines/test_on_standin.py``, not directly.

The stand-in's streams are lazy, so that a missing dependency gives a wrong result here.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import gc
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

if "STANDIN_TENSORRT" not in os.environ:
    pytest.skip("run by tests/engines/test_on_standin.py", allow_module_level=True)

from hrnet_deploy import PoseEstimator
from hrnet_deploy.engines import Engine, EngineOutput, NonFiniteOutput, load_engine
from hrnet_deploy.engines.build_settings import BuildSettings
from hrnet_deploy.engines.cuda import dlpack
from hrnet_deploy.engines.cuda.device import Device, GpuFault
from hrnet_deploy.engines.manifest import Manifest, manifest_path, read_manifest, write_manifest
from hrnet_deploy.engines.tensorrt import TensorRTEngine, load_plan_engine
from hrnet_deploy.engines.trt_module import load_tensorrt
from hrnet_deploy.engines.trt_plan import LoadedPlan
from hrnet_deploy.engines.trt_replay import buckets
from hrnet_deploy.errors import DeployError, EnvironmentFault, InputError
from hrnet_deploy.export.plan import PlanRequest, make_plan
from tests.standin.persons import Crops, assert_same, cut_on_host, frames_and_crops
from tests.tiny import write_tiny_onnx

MAX_BATCH = 12
DRIVER = ctypes.CDLL("libcuda.so.1")
DRIVER.standin_allocated.restype = ctypes.c_int64


def build(folder: Path, *, name: str = "tiny.onnx", **changes: object) -> Path:
    onnx = write_tiny_onnx(folder / name, **changes)
    settings = BuildSettings(min_batch=1, opt_batch=4, max_batch=MAX_BATCH)
    request = PlanRequest(onnx, onnx.with_suffix(".plan"), settings, use_timing_cache=False)
    return make_plan(request, say=lambda line: None).path


@pytest.fixture(scope="session")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("plan"))


@pytest.fixture
def engine(plan: Path) -> Iterator[TensorRTEngine]:
    with load_plan_engine(plan) as loaded:
        assert isinstance(loaded, TensorRTEngine)
        yield loaded
    assert DRIVER.standin_allocated() == 0


@pytest.fixture(scope="session")
def reference(plan: Path) -> Iterator[Engine]:
    with load_engine(plan.with_suffix(".onnx")) as loaded:
        yield loaded


def noise(count: int, seed: int = 0) -> Crops:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 64, 48, 3), dtype=np.uint8)


@pytest.mark.parametrize("graphs", [True, False], ids=["graphs", "plain"])
def test_every_batch_size_gives_the_poses_of_onnx_runtime(
    plan: Path, reference: Engine, graphs: bool
) -> None:
    with load_plan_engine(plan, graphs=graphs) as engine:
        for turn in range(3):  # first plain, then from the graph, on both slots
            for count in (0, 1, 2, 5, 7, MAX_BATCH, MAX_BATCH + 1, 3 * MAX_BATCH + 5):
                crops = noise(count, seed=turn)
                assert_same(engine.run(crops), reference.run(crops))


def test_heatmaps_come_back_only_when_asked_for(engine: Engine, reference: Engine) -> None:
    crops = noise(5)
    assert engine.run(crops).heatmaps_nkhw is None
    maps = engine.run(crops, heatmaps=True).heatmaps_nkhw
    expected = reference.run(crops, heatmaps=True).heatmaps_nkhw
    assert maps is not None
    assert expected is not None
    np.testing.assert_array_equal(maps, expected)


def test_batches_may_be_collected_in_any_order(engine: TensorRTEngine, reference: Engine) -> None:
    batches = [noise(1 + seed % MAX_BATCH, seed) for seed in range(7)]
    pending = [engine.submit(batch) for batch in batches]
    for index in (3, 6, 0, 5, 1, 2, 4, 3):
        assert_same(pending[index].result(), reference.run(batches[index]))


def test_a_crop_may_be_changed_as_soon_as_it_was_submitted(
    engine: TensorRTEngine, reference: Engine
) -> None:
    crops = noise(4)
    expected = reference.run(crops)
    pending = engine.submit(crops)
    crops[:] = 0
    assert_same(pending.result(), expected)


def test_the_stand_in_notices_a_missing_wait(
    plan: Path, reference: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Device, "wait", lambda self, stream, event: None)
    with load_plan_engine(plan) as engine:
        output = engine.run(noise(4))
        assert not np.array_equal(output.scores, reference.run(noise(4)).scores)


def test_persons_of_many_frames_are_cut_on_the_gpu(
    engine: TensorRTEngine, reference: Engine
) -> None:
    pending, expected = [], []
    for seed, count in enumerate((1, MAX_BATCH, 3, 8, 8, 2)):
        frames, geometry, of_crop = frames_and_crops(seed, count)
        pending.append(engine.submit_frames(frames, geometry.image_to_input, of_crop))
        expected.append(reference.run(cut_on_host(frames, geometry, of_crop)))
    for batch, output in zip(pending, expected, strict=True):
        assert_same(batch.result(), output)


class OnDevice:
    """An array of another library on the GPU."""

    def __init__(self, device: Device, array: Crops, *, stream: int | None = None) -> None:
        with device:
            address = device.allocate(array.nbytes)
        ctypes.memmove(address, array.ctypes.data, array.nbytes)
        self.shape = array.shape
        self.__cuda_array_interface__ = {
            "shape": array.shape,
            "typestr": "|u1",
            "data": (address, False),
            "strides": None,
            "version": 3,
            "stream": stream,
        }


class ThroughDLPack:
    """The same through DLPack; counts how often it was given back."""

    def __init__(self, device: Device, array: Crops, *, index: int = 0) -> None:
        with device:
            address = device.allocate(array.nbytes)
        ctypes.memmove(address, array.ctypes.data, array.nbytes)
        self.shape, self.index = array.shape, index
        self.given_back = 0
        self.streams: list[int | None] = []
        self._shape = (ctypes.c_int64 * array.ndim)(*array.shape)
        self._deleter = dlpack.Deleter(self._free)
        self._managed = dlpack.ManagedVersioned(1, 0, None, self._deleter, 0)
        tensor = self._managed.tensor
        tensor.data, tensor.ndim, tensor.shape = address, array.ndim, self._shape
        tensor.device.kind, tensor.device.index = dlpack.CUDA, index
        tensor.dtype.code, tensor.dtype.bits, tensor.dtype.lanes = 1, 8, 1

    def _free(self, _: int) -> None:
        self.given_back += 1

    def __dlpack_device__(self) -> tuple[int, int]:
        return dlpack.CUDA, self.index

    def __dlpack__(self, *, stream: int | None, max_version: tuple[int, int]) -> object:
        self.streams.append(stream)
        new = ctypes.pythonapi.PyCapsule_New
        new.restype, new.argtypes = (
            ctypes.py_object,
            [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p],
        )
        return new(ctypes.addressof(self._managed), b"dltensor_versioned", None)


def test_arrays_come_through_dlpack(engine: TensorRTEngine, reference: Engine) -> None:
    device = Device(0)
    try:
        crops = noise(6)
        lent = ThroughDLPack(device, crops)
        pending = engine.submit(lent)
        assert lent.given_back == 0
        assert_same(pending.result(), reference.run(crops))
        assert lent.given_back == 1
        assert lent.streams == [int(engine._upload)]
        frames, geometry, of_crop = frames_and_crops(3, 5)
        mixed = [ThroughDLPack(device, f) if i % 2 else f for i, f in enumerate(frames)]
        output = engine.submit_frames(mixed, geometry.image_to_input, of_crop).result()
        assert_same(output, reference.run(cut_on_host(frames, geometry, of_crop)))
        assert {f.given_back for f in mixed if isinstance(f, ThroughDLPack)} == {1}
        with pytest.raises(InputError, match="is on cuda:1, the engine is on cuda:0"):
            engine.submit(ThroughDLPack(device, crops, index=1))
        wide = ThroughDLPack(device, noise(2).reshape(2, 64, 36, 4))
        with pytest.raises(InputError, match=r"expected \(N, H, W, 3\) uint8 BGR on the GPU"):
            engine.submit(wide)
        assert wide.given_back == 1
    finally:
        device.close()


@pytest.fixture
def device() -> Iterator[Device]:
    opened = Device(0)
    yield opened
    opened.close()


@pytest.mark.parametrize("stream", [None, 1], ids=["complete", "default stream"])
def test_arrays_on_the_gpu_are_taken_as_they_are(
    engine: TensorRTEngine, reference: Engine, stream: int | None
) -> None:
    device = Device(0)
    try:
        crops = noise(6)
        assert_same(engine.submit(OnDevice(device, crops, stream=stream)).result(),
                    reference.run(crops))  # fmt: skip
        frames, geometry, of_crop = frames_and_crops(3, 5)
        mixed = [OnDevice(device, f, stream=stream) if i % 2 else f for i, f in enumerate(frames)]
        output = engine.submit_frames(mixed, geometry.image_to_input, of_crop).result()
        assert_same(output, reference.run(cut_on_host(frames, geometry, of_crop)))
    finally:
        device.close()


def test_wrong_input_is_named(engine: TensorRTEngine) -> None:
    good = np.zeros((1, 2, 3))
    frame = np.zeros((9, 9, 3), np.uint8)
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: engine.submit(noise(2)[:, :32]), r"expected \(N, 64, 48, 3\) uint8"),
        (lambda: engine.submit(noise(MAX_BATCH + 1)), "has 13 crops, one batch takes 1 to 12"),
        (lambda: engine.submit(noise(0)), "has 0 crops"),
        (lambda: engine.submit_frames([frame], good, np.array([1])), "names frame 1 of 1"),
        (lambda: engine.submit_frames([frame], good, np.array([0, 0])), r"expected \(2, 2, 3\)"),
        (
            lambda: engine.submit_frames([frame.astype(float)], good, np.array([0])),
            r"frame 0: expected \(H, W, 3\) uint8 BGR, got \(9, 9, 3\) float64",
        ),
        (
            lambda: engine.submit_frames([np.zeros((1, 40000, 3), np.uint8)], good, np.array([0])),
            "is 40000 x 1 px",
        ),
    ]
    for call, message in cases:
        with pytest.raises(InputError, match=message):
            call()


def test_the_estimator_takes_a_plan(plan: Path) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (99, 120, 3), dtype=np.uint8)
    boxes = [[5.0, 6, 70, 90], [40, -20, 130, 60]]
    with PoseEstimator(plan) as on_gpu, PoseEstimator(plan.with_suffix(".onnx")) as on_cpu:
        np.testing.assert_array_equal(
            on_gpu(frame, boxes).keypoints_px, on_cpu(frame, boxes).keypoints_px
        )


def test_nothing_is_left_after_closing(plan: Path) -> None:
    for _ in range(20):
        engine = load_plan_engine(plan)
        pending = engine.submit(noise(3))
        engine.close()
        engine.close()
        assert DRIVER.standin_allocated() == 0
        with pytest.raises(InputError, match="engine is closed"):
            engine.run(noise(1))
        with pytest.raises(InputError, match="engine is closed"):
            pending.result()


def test_closing_waits_for_what_still_runs(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = load_plan_engine(plan)
    drain, alive = engine._device.drain, []

    def watched(stream: object) -> None:
        alive.append(engine._replays is not None)
        drain(stream)

    engine.submit(noise(3))
    monkeypatch.setattr(engine._device, "drain", watched)
    engine.close()
    assert alive == [True] * 3


def test_a_failed_load_leaves_nothing(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tensorrt.FAULT", "deserialise")
    with pytest.raises(EnvironmentFault, match=r"cannot load it \(Magic tag does not match\)"):
        load_plan_engine(plan)
    assert DRIVER.standin_allocated() == 0


def test_too_little_gpu_memory_is_said(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDIN_MIB", "1")
    with pytest.raises(GpuFault, match=r"out of GPU memory in cuMemAlloc\. Free some GPU memory"):
        load_plan_engine(plan)
    gc.collect()
    assert DRIVER.standin_allocated() == 0


def test_an_enqueue_that_fails_is_an_error(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with load_plan_engine(plan) as engine:
        monkeypatch.setattr("tensorrt.FAULT", "enqueue")
        with pytest.raises(EnvironmentFault, match=r"could not enqueue a batch \(enqueueV3: not"):
            engine.run(noise(2))


def test_what_was_logged_before_is_no_reason(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with load_plan_engine(plan) as engine:
        log = load_tensorrt(0, subject="test").log
        log.log(type(log).Severity.ERROR, "timing cache of another GPU")
        monkeypatch.setattr("tensorrt.FAULT", "enqueue")
        with pytest.raises(EnvironmentFault) as caught:
            engine.run(noise(2))
        assert "another GPU" not in str(caught.value)


def test_an_enqueue_that_fails_in_a_capture_leaves_the_stream_usable(
    plan: Path, reference: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with load_plan_engine(plan) as engine:
        real = LoadedPlan.enqueue
        calls = []

        def second_fails(self: LoadedPlan, context: object, stream: object) -> None:
            calls.append(context)
            if len(calls) == 2:
                raise self.fault("could not enqueue a batch")
            real(self, context, stream)

        monkeypatch.setattr(LoadedPlan, "enqueue", second_fails)
        with pytest.raises(EnvironmentFault):
            engine.run(noise(2))
        monkeypatch.undo()
        assert_same(engine.run(noise(3)), reference.run(noise(3)))


def test_nan_is_never_returned(tmp_path: Path) -> None:
    onnx = write_tiny_onnx(tmp_path / "poison.onnx", poison=True)
    settings = BuildSettings(max_batch=4, opt_batch=2)
    plan = make_plan(PlanRequest(onnx, tmp_path / "p.plan", settings), say=lambda line: None).path
    crops = noise(11)
    crops[[1, 9]] = 255
    with load_plan_engine(plan) as engine:
        with pytest.raises(NonFiniteOutput, match="1 of 3 crops") as caught:
            engine.run(crops[:3])
        assert caught.value.indices.tolist() == [1]
        with pytest.raises(NonFiniteOutput, match="2 of 11 crops") as caught:
            engine.run(crops)  # in three batches
        assert caught.value.indices.tolist() == [1, 9]
        with pytest.raises(NonFiniteOutput, match="1 of 3 crops"):
            engine.submit(crops[:3]).result()


def test_two_gpus_in_two_threads(plan: Path, reference: Engine) -> None:
    os.environ["STANDIN_GPUS"] = "2"
    engines = [load_plan_engine(plan, device=f"cuda:{index}") for index in range(2)]
    assert [engine.info.device for engine in engines] == ["cuda:0", "cuda:1"]
    outputs: dict[int, EngineOutput] = {}

    def work(index: int) -> None:
        for _ in range(5):
            outputs[index] = engines[index].run(noise(20, seed=index))

    threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for index, engine in enumerate(engines):
        assert_same(outputs[index], reference.run(noise(20, seed=index)))
        engine.close()
    del os.environ["STANDIN_GPUS"]
    with pytest.raises(EnvironmentFault, match=r"there is no GPU 1; there are: 0 NVIDIA Stand-In"):
        load_plan_engine(plan, device="cuda:1")


def test_what_waits_for_the_gpu_waits_for_the_end_of_a_capture(
    plan: Path, engine: TensorRTEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome: list[object] = []

    def load() -> None:
        try:
            load_plan_engine(plan).close()
        except Exception as error:  # noqa: BLE001 - shown by the test
            outcome.append(error)
        else:
            outcome.append("loaded")

    thread, capture = threading.Thread(target=load), Device.capture

    @contextlib.contextmanager
    def interrupted(self: Device, stream: object) -> Iterator[list[object]]:
        with capture(self, stream) as captured:
            thread.start()
            thread.join(0.5)
            assert outcome == []
            yield captured

    monkeypatch.setattr(Device, "capture", interrupted)
    engine.run(noise(1))
    thread.join(30)
    assert outcome == ["loaded"]


def test_two_gpus_share_the_work(
    plan: Path, reference: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_GPUS", "2")
    with load_engine(plan, device="0,1") as both:
        assert both.info.device == "cuda:0,cuda:1"
        assert_same(both.run(noise(31)), reference.run(noise(31)))


def test_a_static_graph_gives_a_plan_of_one_batch(tmp_path: Path) -> None:
    onnx = write_tiny_onnx(tmp_path / "static.onnx", static_batch=1)
    request = PlanRequest(onnx, tmp_path / "static.plan", BuildSettings())
    manifest = make_plan(request, say=lambda line: None).manifest
    assert (manifest.profile.min, manifest.profile.max) == (1, 1)
    with pytest.raises(InputError, match="the file has the static batch 1"):
        make_plan(
            dataclasses.replace(request, settings=BuildSettings(max_batch=9), force=True),
            say=lambda line: None,
        )


@pytest.fixture
def copied(plan: Path, tmp_path: Path) -> Path:
    """A plan of one's own, with its manifest."""
    copy = tmp_path / "mine.plan"
    copy.write_bytes(plan.read_bytes())
    manifest_path(copy).write_bytes(manifest_path(plan).read_bytes())
    return copy


def refused(path: Path) -> str:
    with pytest.raises(DeployError) as caught:
        load_engine(path)
    return f"{caught.value.exit_code} {caught.value}"


def test_another_gpu_is_refused_before_the_plan_is_read(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied.write_bytes(b"not even a plan")
    monkeypatch.setenv("STANDIN_SM", "86")
    monkeypatch.setenv("STANDIN_NAME", "NVIDIA RTX 3090")
    version = os.environ["STANDIN_TENSORRT"]
    assert refused(copied) == (
        f"3 {copied}: built for NVIDIA Stand-In 9000 (sm 9.0), TensorRT {version}; this is NVIDIA "
        f"RTX 3090 (8.6), TensorRT {version}. "
        "Run: hrnet-deploy build tiny.onnx -o mine.plan --force"
    )


def change(path: Path, **fields: object) -> None:
    write_manifest(path, dataclasses.replace(read_manifest(path), **fields))


def test_another_tensorrt_is_refused(copied: Path) -> None:
    change(copied, tensorrt="9.3.0")
    assert refused(copied).startswith(f"3 {copied}: built for NVIDIA Stand-In 9000 (sm 9.0), Ten")


def test_a_changed_byte_is_refused_before_tensorrt_sees_it(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytearray(copied.read_bytes())
    content[100] ^= 1
    copied.write_bytes(content)
    monkeypatch.setattr("tensorrt.Runtime", None)
    assert refused(copied).startswith(f"2 {copied}: does not match its manifest")


def test_a_missing_or_broken_manifest_is_refused(copied: Path) -> None:
    manifest_path(copied).write_text("{")
    assert "is not valid JSON" in refused(copied)
    manifest_path(copied).unlink()
    assert refused(copied).startswith(f"2 {copied}: has no manifest")


def test_swapped_plans_are_refused(copied: Path, tmp_path: Path) -> None:
    other = build(tmp_path, name="other.onnx", keypoint_names=("a", "b", "c"))
    copied.write_bytes(other.read_bytes())
    assert "does not match its manifest" in refused(copied)


def test_a_plan_unlike_its_spec_is_refused(copied: Path) -> None:
    manifest: Manifest = read_manifest(copied)
    change(copied, spec=dataclasses.replace(manifest.spec, keypoint_names=("a",), flip_pairs=()))
    assert "its tensors are" in refused(copied)


@pytest.mark.parametrize("device", ["cpu", "cuda:x", "gpu"])
def test_a_plan_runs_on_a_gpu_only(plan: Path, device: str) -> None:
    with pytest.raises(InputError, match=rf"device: is '{device}', a \.plan runs on an NVIDIA"):
        load_engine(plan, device=device)


def test_buckets_waste_at_most_a_third() -> None:
    assert buckets(1, 12) == (1, 2, 3, 4, 6, 8, 12)
    assert buckets(4, 20) == (4, 6, 8, 12, 16, 20)
    assert buckets(8, 8) == (8,)
    sizes = buckets(1, 256)
    for count in range(1, 257):
        assert next(size for size in sizes if size >= count) <= count * 1.5
