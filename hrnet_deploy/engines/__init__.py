"""Engines: one file per backend, each with a loader and an object that runs batches of crops."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.closing import Closing
from hrnet_deploy.errors import InputError, Subject, check_count, command_line
from hrnet_deploy.files import check_input_file
from hrnet_deploy.spec import ModelSpec
from hrnet_deploy.talk import Say

CROP_NDIM = 4


@dataclass(frozen=True)
class EngineInfo:
    """What runs, and where: recorded in every result.

    ``device`` is what really executes ("cpu", "cuda:0"), ``versions`` the backend's own
    (for example ``{"onnxruntime": "1.32.0"}``), ``sha256`` that of the artefact's file.
    """

    backend: str
    device: str
    path: str
    sha256: str
    precision: str
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class EngineOutput:
    """Decoded poses of N crops.

    ``keypoints_heatmap`` is (N, K, 2) float32, x and y in heatmap pixels; ``scores`` (N, K)
    float32, the heatmap's maximum; ``heatmaps_nkhw`` (N, K, h, w) float32 or None.
    ``second_pass`` (N,) says whose mirror image was looked at too, where that is decided person by
    person; None where it is not.
    """

    keypoints_heatmap: NDArray[np.float32]
    scores: NDArray[np.float32]
    heatmaps_nkhw: NDArray[np.float32] | None = None
    second_pass: NDArray[np.bool_] | None = None


class Engine(Closing):
    """A loaded model. ``run`` takes any number of crops; a backend implements ``_infer``.

    Not safe for concurrent calls unless the backend says so; several engines in several threads
    are. A context manager: leaving it closes the engine.
    """

    def __init__(self, spec: ModelSpec, info: EngineInfo, max_batch: int | None) -> None:
        self.spec = spec
        self.info = info
        self.max_batch = max_batch
        self._closed = False

    @abstractmethod
    def _infer(self, crops_nhwc: NDArray[np.uint8], *, heatmaps: bool) -> EngineOutput:
        """Run one batch of 1 to ``max_batch`` crops."""

    def _infer_all(
        self, batches: Iterable[NDArray[np.uint8]], *, heatmaps: bool
    ) -> list[EngineOutput]:
        """Run batches in order; a backend that overlaps one with the next does it here."""
        return [self._infer(batch, heatmaps=heatmaps) for batch in batches]

    def _release(self) -> None:
        """Free what the backend holds; called once."""

    def run(self, crops_nhwc: NDArray[np.uint8], *, heatmaps: bool = False) -> EngineOutput:
        """Poses of ``crops_nhwc`` (N, h, w, 3) uint8 BGR; N may be 0 or above ``max_batch``.

        ``heatmaps=True`` also returns the (flip-averaged) heatmaps. Raises InputError for crops
        of another shape or type and for NaN or infinite results (an overflow at half precision).
        """
        self._check(crops_nhwc, heatmaps)
        count = len(crops_nhwc)
        if count == 0:
            return _empty(self.spec, heatmaps)
        step = self.max_batch or count
        batches = (crops_nhwc[start : start + step] for start in range(0, count, step))
        parts = self._infer_all(batches, heatmaps=heatmaps)
        output = joined(parts)
        self._check_output(output, count)
        return output

    def close(self) -> None:
        """Free the backend's resources; closing twice is harmless."""
        if not self._closed:
            self._closed = True
            self._release()

    def _check(self, crops_nhwc: NDArray[np.uint8], heatmaps: bool) -> None:
        if self._closed:
            raise InputError(self.info.path, "engine is closed", "Load it again")
        expected = (*self.spec.input_size_hw, 3)
        if (
            not isinstance(crops_nhwc, np.ndarray)
            or crops_nhwc.dtype != np.uint8
            or crops_nhwc.ndim != CROP_NDIM
            or crops_nhwc.shape[1:] != expected
        ):
            got = f"{getattr(crops_nhwc, 'shape', type(crops_nhwc).__name__)}"
            got += f" {getattr(crops_nhwc, 'dtype', '')}".rstrip()
            wanted = f"expected (N, {expected[0]}, {expected[1]}, 3) uint8, got {got}"
            raise InputError("crops_nhwc", wanted, "Cut crops of the model's input size")
        if heatmaps and not self.spec.has_heatmaps:
            raise InputError(
                self.info.path,
                "was exported with --no-heatmaps",
                "Export it again without that flag",
            )

    def _check_open(self, heatmaps: bool) -> None:
        """The checks of ``_check`` for input that is no array of crops."""
        self._check(np.empty((0, *self.spec.input_size_hw, 3), np.uint8), heatmaps)

    def _check_output(self, output: EngineOutput, count: int) -> None:
        joints = self.spec.joints
        shapes = (output.keypoints_heatmap.shape, output.scores.shape)
        if shapes != ((count, joints, 2), (count, joints)):
            problem = f"gave keypoints {shapes[0]} and scores {shapes[1]}, expected K = {joints}"
            raise InputError(self.info.path, problem, "Export the model again")
        finite = np.isfinite(output.scores).all(axis=1)
        finite &= np.isfinite(output.keypoints_heatmap).all(axis=(1, 2))
        if not finite.all():
            raise NonFiniteOutput(self.info.path, np.flatnonzero(~finite), count)


class NonFiniteOutput(InputError):
    """The engine produced NaN or infinity; ``indices`` are the crops of the call it hit."""

    exit_code = 1

    def __init__(self, path: Subject, indices: NDArray[np.intp], count: int) -> None:
        self.indices = indices
        super().__init__(
            path,
            f"engine produced NaN or infinity for {len(indices)} of {count} crops",
            "Use an fp32 engine or other weights",
        )


def _empty(spec: ModelSpec, heatmaps: bool) -> EngineOutput:
    shape = (0, spec.joints)
    maps = np.zeros((*shape, *spec.heatmap_size_hw), np.float32) if heatmaps else None
    return EngineOutput(np.zeros((*shape, 2), np.float32), np.zeros(shape, np.float32), maps)


def joined(parts: list[EngineOutput]) -> EngineOutput:
    """The outputs of the parts of one call, in their order, as one; at least one part."""
    if len(parts) == 1:
        return parts[0]
    maps = [part.heatmaps_nkhw for part in parts if part.heatmaps_nkhw is not None]
    return EngineOutput(
        np.concatenate([part.keypoints_heatmap for part in parts]),
        np.concatenate([part.scores for part in parts]),
        np.concatenate(maps) if maps else None,
    )


def load_engine(
    path: Subject,
    *,
    device: str | None = None,
    threads: int | None = None,
    backend: str | None = None,
    precision: str = "exact",
    say: Say | None = None,
) -> Engine:
    """Load a ``.onnx`` or ``.plan`` (TensorRT) file as an engine on ``device``.

    ``device`` is "cpu" or "cuda[:N]", None for the CPU with ONNX and the first GPU with a plan:
    an engine that would run anywhere else than asked is an error. Several, such as "cuda:0,cuda:1"
    or "0,1", share the work, each in a process of its own. ``threads`` are the CPU threads,
    None for one per physical core. ``backend`` is "onnxruntime", "openvino" or "tensorrt", "auto"
    for the fastest that is there, None for the one that exports are proven on. ``precision`` is
    "exact" (the file's own), "bf16", or "fastest" (bf16 where the processor computes it). Where
    one of the two is given, ``say`` is told what was chosen and why.
    """
    if threads is not None:
        check_count("threads", threads)
    if not isinstance(device, (str, type(None))):
        raise InputError("device", f"is {device!r}", "Give cpu, cuda or cuda:N")
    suffix = Path(path).suffix.lower()
    if suffix in (".pth", ".pt", ".safetensors"):
        fix = f"To make an engine of it: {command_line('export', path)}"
        raise InputError(path, "is a checkpoint, not an engine", fix)
    if suffix not in (".onnx", ".plan"):
        check_input_file(path, what="engine (.onnx or .plan)")
        raise InputError(
            path, f"has the unknown extension '{suffix}'", "Pass a .onnx or .plan file"
        )
    from hrnet_deploy.engines.choice import choose
    from hrnet_deploy.engines.signature import read_engine_file

    file = check_input_file(path, what="plan" if suffix == ".plan" else "file")
    asked = backend is not None or precision != "exact"
    devices: tuple[str, ...] = ()
    if device is not None and ("," in device or device.isdecimal()):
        from hrnet_deploy.engines.pool import load_pool, parse_devices

        devices = parse_devices(device)
        device = devices[0]
    typed = "fp32"
    if suffix == ".onnx" and asked:
        typed = read_engine_file(file)[1].precision
    choice = choose(file, device=device, backend=backend, precision=precision, file_precision=typed)
    if say is not None and asked:
        say(f"{path}: {choice.reason}")
    if len(devices) > 1:
        return load_pool(file, devices, threads=threads, backend=backend, precision=precision)
    if choice.backend == "tensorrt":
        from hrnet_deploy.engines.tensorrt import load_plan_engine

        return load_plan_engine(file, device=device)
    if choice.backend == "openvino":
        from hrnet_deploy.engines.openvino import load_openvino_engine

        return load_openvino_engine(file, threads=threads, precision=choice.precision)
    from hrnet_deploy.engines.onnxruntime import load_onnx_engine

    return load_onnx_engine(file, device="cpu" if device is None else device, threads=threads)
