"""TensorRT: runs a plan on one NVIDIA GPU.

Two slots take turns: while one batch is computed, the next one is uploaded and the one before is
downloaded, each on a stream of its own. Every batch size is replayed from a CUDA graph.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.engines import Engine, EngineInfo, EngineOutput
from hrnet_deploy.engines.cuda.arrays import DeviceArray, Reader, device_array
from hrnet_deploy.engines.cuda.device import EXCLUSIVE, Device, GpuFault
from hrnet_deploy.engines.cuda.frames import CropCutter, Frame
from hrnet_deploy.engines.manifest import (
    Machine,
    Manifest,
    check_machine,
    read_checked_plan,
    read_manifest,
)
from hrnet_deploy.engines.trt_module import TensorRT, load_tensorrt
from hrnet_deploy.engines.trt_plan import Plan
from hrnet_deploy.engines.trt_replay import Replays
from hrnet_deploy.engines.trt_slot import Slot
from hrnet_deploy.errors import InputError
from hrnet_deploy.spec import ModelSpec

SLOTS = 2


class Pending:
    """A batch on its way; ``result`` waits for it."""

    def __init__(self, engine: TensorRTEngine, count: int, heatmaps: bool) -> None:
        self._owner = engine
        self.count = count
        self.heatmaps = heatmaps
        self.output: EngineOutput | None = None
        self.slot: Slot | None = None

    def result(self) -> EngineOutput:
        """The poses, in the order of the crops. Raises where the GPU failed or gave NaN."""
        return self._owner.collect(self)


class TensorRTEngine(Engine):
    """A plan on one GPU. ``run`` as everywhere; ``submit`` and its kin return at once.

    Not safe for concurrent calls; several engines in several threads are, on one GPU or many.
    """

    def __init__(
        self,
        device: Device,
        plan: Plan,
        spec: ModelSpec,
        info: EngineInfo,
        *,
        graphs: bool = True,
    ) -> None:
        super().__init__(spec, info, plan.max_batch)
        self.gpus = 1
        self._device = device
        self._cutter: CropCutter | None = None
        self._turn = 0
        with device:
            self._upload, self._compute, self._download = (device.stream() for _ in range(3))
            self._slots = [Slot(device, spec, plan.max_batch) for _ in range(SLOTS)]
            self._replays: Replays | None = Replays(device, plan, self._compute, graphs=graphs)

    def submit(self, crops_nhwc: NDArray[np.uint8] | Any, *, heatmaps: bool = False) -> Pending:
        """Start a batch of 1 to ``max_batch`` crops (n, h, w, 3) uint8 BGR.

        Crops on the GPU (DLPack or ``__cuda_array_interface__``) stay there.
        """
        self._opened()
        with self._device:  # where DLPack's owner orders its work before ours
            reader = Reader(self._device.gpu.index, int(self._upload))
            on_device = device_array(crops_nhwc, name="crops_nhwc", ndim=4, reader=reader)
        if on_device is None:
            self._check(crops_nhwc, heatmaps)
        else:
            self._check_shape(on_device, heatmaps)
        count = self._check_count((on_device or crops_nhwc).shape[0])
        with self._device:
            slot = self._next_slot()
            if on_device is None:
                slot.staging.array[:count] = crops_nhwc
                size = count * slot.crop_bytes
                self._device.upload(slot.crops, slot.staging.address, size, self._upload)
            else:
                self._copy_in(slot, on_device)
                slot.borrowed = (crops_nhwc, on_device)
            return self._start(slot, count, heatmaps)

    def submit_frames(
        self,
        frames_bgr: Sequence[Frame],
        image_to_input: NDArray[np.float64],
        frame_of_crop: NDArray[np.integer],
        *,
        heatmaps: bool = False,
    ) -> Pending:
        """Start a batch of persons of many frames; the crops are cut on the GPU.

        ``frames_bgr`` are arrays (H, W, 3) uint8 in host memory or on the GPU, of any sizes;
        ``image_to_input`` (n, 2, 3) moves picture pixels to crop pixels, ``frame_of_crop`` (n,)
        names each person's frame, -1 for a black crop. The crops are those of cv2.warpAffine of
        OpenCV 4, bit for bit.
        """
        self._check_open(heatmaps)
        count = self._check_count(len(frame_of_crop))
        with self._device:
            if self._cutter is None:
                self._cutter = CropCutter(self._device)
            slot = self._next_slot()
            records = slot.frames.send(frames_bgr, image_to_input, frame_of_crop, self._upload)
            slot.borrowed = (frames_bgr, slot.frames.taken())
            self._device.record(slot.uploaded, self._upload)
            self._device.wait(self._compute, slot.uploaded)
            size_wh = self.spec.input_size_wh
            self._cutter.cut(*records, count, slot.crops, size_wh, self._compute)
            return self._start(slot, count, heatmaps)

    def collect(self, pending: Pending) -> EngineOutput:
        """Wait for ``pending`` and check its result."""
        output = self._output(pending)
        self._check_output(output, pending.count)
        return output

    def compute_only(self, count: int, repeats: int) -> None:
        """Run the crops that a slot holds ``repeats`` times, without transfers, and wait.

        For measurements: two calls with different ``repeats`` tell the time of one batch.
        """
        replays = self._opened()
        self._check_count(count)
        with self._device:
            slot = self._next_slot()
            for _ in range(repeats):
                replays.run(slot, count)
            self._device.drain(self._compute)

    def free_memory(self) -> tuple[int, int]:
        """Free and total bytes of the GPU."""
        with self._device:
            return self._device.free_memory()

    def layer_report(self) -> str:
        """What every layer became, as the JSON of TensorRT's inspector."""
        return self._opened().plan.layer_report()

    def _infer(self, crops_nhwc: NDArray[np.uint8], *, heatmaps: bool) -> EngineOutput:
        return self._output(self.submit(crops_nhwc, heatmaps=heatmaps))

    def _infer_all(
        self, batches: Iterable[NDArray[np.uint8]], *, heatmaps: bool
    ) -> list[EngineOutput]:
        """All batches, each uploaded while the one before it is computed.

        ``run`` checks them together, so that an error numbers the crops of the whole call.
        """
        started = [self.submit(batch, heatmaps=heatmaps) for batch in batches]
        return [self._output(pending) for pending in started]

    def _output(self, pending: Pending) -> EngineOutput:
        """The result of ``pending``, unchecked; waits for it where it is still on its way."""
        return self._fetch(pending) if pending.output is None else pending.output

    def _next_slot(self) -> Slot:
        """The slot whose turn it is; the batch that still lies in it is fetched first."""
        slot = self._slots[self._turn]
        self._turn = (self._turn + 1) % SLOTS
        if isinstance(slot.owner, Pending):
            self._fetch(slot.owner)
        return slot

    def _start(self, slot: Slot, count: int, heatmaps: bool) -> Pending:
        """Enqueue everything that follows the upload."""
        device = self._device
        device.record(slot.uploaded, self._upload)
        device.wait(self._compute, slot.uploaded)
        self._opened().run(slot, count)
        device.record(slot.computed, self._compute)
        device.wait(self._download, slot.computed)
        slot.download(count, heatmaps=heatmaps, stream=self._download)
        device.record(slot.done, self._download)
        pending = Pending(self, count, heatmaps)
        pending.slot, slot.owner = slot, pending
        return pending

    def _copy_in(self, slot: Slot, crops: DeviceArray) -> None:
        """Copy a batch that lies on the GPU into the slot, after whoever writes it."""
        if crops.stream is not None:
            self._device.record(slot.uploaded, crops.stream)
            self._device.wait(self._upload, slot.uploaded)
        size = crops.shape[0] * slot.crop_bytes
        self._device.copy(slot.crops, crops.address, size, self._upload)

    def _fetch(self, pending: Pending) -> EngineOutput:
        """Wait for a batch and copy its results out of its slot."""
        slot = pending.slot
        if slot is None or self._closed:
            raise InputError(self.info.path, "engine is closed", "Load it again")
        with self._device:
            self._device.synchronize(slot.done)
        pending.output = slot.results(pending.count, heatmaps=pending.heatmaps)
        pending.slot = slot.owner = slot.borrowed = None
        return pending.output

    def _check_shape(self, crops: DeviceArray, heatmaps: bool) -> None:
        self._check_open(heatmaps)
        if crops.shape[1:] != (*self.spec.input_size_hw, 3):
            problem = f"expected (N, {', '.join(map(str, self.spec.input_size_hw))}, 3) uint8"
            raise InputError("crops_nhwc", f"{problem}, got {crops.shape}", "Cut other crops")

    def _check_count(self, count: int) -> int:
        if not 1 <= count <= (self.max_batch or count):
            problem = f"has {count} crops, one batch takes 1 to {self.max_batch}"
            raise InputError("crops", problem, "Split them, or call run")
        return count

    def _opened(self) -> Replays:
        if self._replays is None:
            raise InputError(self.info.path, "engine is closed", "Load it again")
        return self._replays

    def _release(self) -> None:
        """The plan and its contexts before the memory that they work in.

        What still runs is waited for: TensorRT must not lose a context under way.
        """
        with self._device:
            with contextlib.suppress(GpuFault):  # of a lost GPU, which was told before
                for stream in (self._upload, self._compute, self._download):
                    self._device.drain(stream)
            if self._replays is not None:
                self._replays.close()
                with EXCLUSIVE:  # here the plan goes
                    self._replays = None
        self._device.close()


def device_index(device: str | None) -> int:
    """0 for "cuda" and None, N for "cuda:N"; a plan runs nowhere else (InputError)."""
    match = re.fullmatch(r"cuda(?::(\d{1,3}))?", "cuda" if device is None else device)
    if match is None:
        problem = f"is '{device}', a .plan runs on an NVIDIA GPU"
        raise InputError("device", problem, "Give cuda or cuda:N, or the .onnx file for the CPU")
    return int(match[1] or 0)


def load_plan_engine(
    path: Path, *, device: str | None = None, graphs: bool = True
) -> TensorRTEngine:
    """Load a plan that ``hrnet-deploy build`` made, once its manifest says that it fits.

    The order matters: manifest, GPU and TensorRT, hash, and only then the plan itself. With
    ``graphs=False`` every batch is enqueued anew instead of replayed.
    """
    manifest = read_manifest(path)
    index = device_index(device)
    tensorrt = load_tensorrt(index, subject=str(path))
    gpu = tensorrt.gpu
    check_machine(path, manifest, Machine(gpu.name, gpu.compute_capability, tensorrt.version))
    content = read_checked_plan(path, manifest)
    return open_plan(content, path, manifest, tensorrt, graphs=graphs)


def open_plan(
    content: bytes, path: Path, manifest: Manifest, tensorrt: TensorRT, *, graphs: bool = True
) -> TensorRTEngine:
    """An engine of plan bytes that were checked, or built a moment ago."""
    device = Device(tensorrt.gpu.index)
    try:
        with device:
            plan = Plan(tensorrt, content, path, manifest.spec)
        info = EngineInfo(
            backend="tensorrt",
            device=device.name,
            path=str(path),
            sha256=manifest.plan_sha256,
            precision=manifest.precision,
            versions={"tensorrt": tensorrt.version, "cuda": manifest.cuda},
        )
        return TensorRTEngine(device, plan, manifest.spec, info, graphs=graphs)
    except BaseException:
        device.close()
        raise
