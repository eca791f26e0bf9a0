"""Build a TensorRT plan from an ONNX file's bytes: 8.6, 10 and 11 in one code path."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from hrnet_deploy.engines.build_settings import BuildSettings
from hrnet_deploy.engines.build_thread import interruptible
from hrnet_deploy.engines.cuda.probe import Gpu
from hrnet_deploy.engines.trt_module import TensorRT
from hrnet_deploy.errors import DeployError, InputError, Subject

OPSETS = {8: (9, 17), 10: (9, 24), 11: (9, 25)}
"""Opsets that the parsers read, by major version (onnx-tensorrt, ``docs/operators.md``)."""

FP8_CAPABILITY = (8, 9)
"""The first compute capability with FP8 (TensorRT support matrix: Ada, Hopper and later)."""

MEBIBYTE = 1 << 20

_UNTYPED_LAYERS = ("ASSERTION", "CAST", "CONSTANT", "CONDITION", "SHAPE")
"""Layers that compute nothing in floating point, or whose type is their purpose."""

Progress = Callable[[str], None]


class Buildable(Protocol):
    """What the builder must know of a network that it does not read from the file.

    ``precision`` is what the file is typed in; of ``input_shapes`` only the batch may be free
    (None).
    """

    @property
    def precision(self) -> str: ...

    @property
    def input_shapes(self) -> Mapping[str, tuple[int | None, ...]]: ...


@dataclass(frozen=True)
class BuiltPlan:
    """A serialised plan; ``timing_cache`` is what the builder learnt."""

    content: bytes
    strongly_typed: bool
    timing_cache: bytes


def check_opset(opset: int, version: str, *, subject: Subject) -> None:
    """Refuse an opset that this TensorRT does not read."""
    low, high = OPSETS.get(int(version.split(".")[0]), (9, 17))
    if not low <= opset <= high:
        problem = f"has opset {opset}, TensorRT {version} reads {low} to {high}"
        fix = (
            "Export it again; of 8-bit files, quantize --precision int8 --float fp32 is the oldest"
        )
        raise InputError(subject, problem, fix)


def check_fp8(model: Buildable, gpu: Gpu, *, subject: Subject) -> None:
    """Refuse an fp8 file for a GPU that does not compute in FP8."""
    if model.precision == "fp8" and gpu.compute_capability < FP8_CAPABILITY:
        major, minor = gpu.compute_capability
        problem = f"is fp8, the {gpu.name} has compute capability {major}.{minor}, 8.9 is needed"
        raise InputError(subject, problem, "Give an int8 or fp16 file")


def build_plan(
    tensorrt: TensorRT,
    onnx: bytes,
    network: Buildable,
    settings: BuildSettings,
    *,
    subject: str,
    timing_cache: bytes = b"",
    progress: Progress | None = None,
) -> BuiltPlan:
    """Build a plan for ``onnx``, which is ``network``; ``subject`` is named in errors.

    The types are those of the file. ``progress`` gets a line at the start of each phase (from 10
    on). Ctrl-C raises InterruptedRun. Raises InputError where the parser refuses the file and
    EnvironmentFault with TensorRT's last lines where the build fails.
    """
    cancelled = threading.Event()

    def work() -> BuiltPlan:
        with tensorrt.current():
            build = _Build(tensorrt, network, settings, subject)
            return build.run(onnx, timing_cache, cancelled, progress)

    stoppable = hasattr(tensorrt.module, "IProgressMonitor")
    return interruptible(work, cancelled, subject, stoppable=stoppable)


class _Build:
    """The objects of one build, in the order in which TensorRT wants them."""

    def __init__(
        self, tensorrt: TensorRT, network: Buildable, settings: BuildSettings, subject: str
    ) -> None:
        self._tensorrt = tensorrt
        self._trt = tensorrt.module
        self._network = network
        self._settings = settings
        self._subject = subject
        self._strongly_typed = hasattr(self._trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")

    def run(
        self,
        onnx: bytes,
        timing_cache: bytes,
        cancelled: threading.Event,
        progress: Progress | None,
    ) -> BuiltPlan:
        trt = self._trt
        self._tensorrt.forget_log()
        builder = self._tensorrt.created(trt.Builder, self._subject)
        network = builder.create_network(self._network_flags())
        parser = trt.OnnxParser(network, self._tensorrt.log)
        if not parser.parse(onnx):
            raise self._refused(parser)
        config = builder.create_builder_config()
        self._tensorrt.aim(config)
        self._configure(config)
        if not self._strongly_typed:
            self._keep_types(network, config)
        self._add_profile(builder, config)
        cache = config.create_timing_cache(timing_cache)
        if cache is None or not config.set_timing_cache(cache, False):
            cache = config.create_timing_cache(b"")  # has to live until the plan is built
            config.set_timing_cache(cache, False)
        monitor = _monitor(trt, cancelled, progress)
        if monitor is not None:
            config.progress_monitor = monitor
        self._tensorrt.forget_log()  # such as those about a timing cache of another GPU
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise self._failed()
        learnt = bytes(config.get_timing_cache().serialize())
        return BuiltPlan(bytes(plan), self._strongly_typed, learnt)

    def _network_flags(self) -> int:
        """Explicit batch where it still has a name, strong types where they exist."""
        kinds = self._trt.NetworkDefinitionCreationFlag
        names = ("EXPLICIT_BATCH", "STRONGLY_TYPED")
        return sum(1 << int(getattr(kinds, name)) for name in names if hasattr(kinds, name))

    def _configure(self, config: Any) -> None:
        trt, settings = self._trt, self._settings
        config.builder_optimization_level = settings.level
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        # Without cuBLAS and cuDNN, which 8.6 would otherwise load: a network of convolutions
        # gains nothing from them, and every version then chooses among the same kernels.
        sources = (trt.TacticSource.EDGE_MASK_CONVOLUTIONS, trt.TacticSource.JIT_CONVOLUTIONS)
        config.set_tactic_sources(sum(1 << int(source) for source in sources))
        if settings.workspace_mb is not None:
            limit = settings.workspace_mb * MEBIBYTE
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, limit)
        if not settings.tf32:
            config.clear_flag(trt.BuilderFlag.TF32)
        if settings.version_compatible:
            # The embedded lean runtime would be host code, which we never allow to run.
            config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
            config.set_flag(trt.BuilderFlag.EXCLUDE_LEAN_RUNTIME)
        if self._tensorrt.major == 8:
            # 8.6 gives a profile to one context alone unless it is told otherwise, and the runner
            # has one for each batch size and slot; from 10 on contexts share it.
            config.set_preview_feature(trt.PreviewFeature.PROFILE_SHARING_0806, True)
        if settings.hardware_compatibility != "none":
            config.hardware_compatibility_level = self._compatibility_level()

    def _compatibility_level(self) -> Any:
        name = self._settings.hardware_compatibility.upper()
        levels = self._trt.HardwareCompatibilityLevel
        if not hasattr(levels, name):
            problem = f"is {name.lower()}, which TensorRT {self._tensorrt.version} does not have"
            raise InputError("--hardware-compatibility", problem, "Give ampere_plus or none")
        return getattr(levels, name)

    def _keep_types(self, network: Any, config: Any) -> None:
        """TensorRT 8.6: every layer keeps the type that it has in the file."""
        trt = self._trt
        if self._network.precision == "int8":  # what is 8 bit, the Q/DQ pairs say
            config.set_flag(trt.BuilderFlag.INT8)
        if self._network.precision != "fp16":
            return
        config.set_flag(trt.BuilderFlag.FP16)
        config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
        untyped = {getattr(trt.LayerType, n) for n in _UNTYPED_LAYERS if hasattr(trt.LayerType, n)}
        for index in range(network.num_layers):
            layer = network.get_layer(index)
            if layer.type not in untyped:
                self._pin_type(layer)

    def _pin_type(self, layer: Any) -> None:
        floating = (self._trt.DataType.FLOAT, self._trt.DataType.HALF)
        kinds = [layer.get_output(index).dtype for index in range(layer.num_outputs)]
        # A comparison gives no floats, and yet it shall compare them as they are.
        inputs = [layer.get_input(index) for index in range(layer.num_inputs)]
        compared = [tensor.dtype for tensor in inputs if tensor is not None]
        computed = [kind for kind in (*kinds, *compared) if kind in floating]
        if computed:
            layer.precision = computed[0]
        for index, kind in enumerate(kinds):
            if kind in floating:
                layer.set_output_type(index, kind)

    def _add_profile(self, builder: Any, config: Any) -> None:
        free = {n: shape for n, shape in self._network.input_shapes.items() if None in shape}
        if not free:
            return
        profile = self._settings.profile
        dimensions = builder.create_optimization_profile()
        for name, shape in free.items():
            shapes = (
                tuple(batch if side is None else side for side in shape)
                for batch in (profile.min, profile.opt, profile.max)
            )
            dimensions.set_shape(name, *shapes)
        if config.add_optimization_profile(dimensions) < 0:
            raise self._failed("TensorRT refused the batch profile")

    def _refused(self, parser: Any) -> DeployError:
        errors = [str(parser.get_error(index)) for index in range(parser.num_errors)]
        reason = " ".join((errors or ["no reason given"])[0].split())[:300]
        problem = f"TensorRT {self._tensorrt.version} cannot read it ({reason})"
        return InputError(self._subject, problem, "Export the model again")

    def _failed(self, problem: str = "TensorRT built no plan") -> DeployError:
        text = " ".join(self._tensorrt.log.errors).lower()
        if "workspace limit" in text and self._settings.workspace_mb is not None:
            problem = f"{problem} within --workspace-mb {self._settings.workspace_mb}"
            return self._tensorrt.fault(self._subject, problem, "Give more, or leave it away")
        if "memory" in text and ("out of" in text or "insufficient" in text or "alloc" in text):
            memory = self._tensorrt.gpu.memory_bytes / MEBIBYTE
            problem = f"{problem} for want of GPU memory (this GPU has {memory:.0f} MiB)"
            fix = "Free some GPU memory, or lower --max-batch or --workspace-mb"
            return self._tensorrt.fault(self._subject, problem, fix)
        return self._tensorrt.fault(self._subject, problem, "Try another --level, or report it")


def _monitor(trt: Any, cancelled: threading.Event, progress: Progress | None) -> Any:
    """A progress monitor that also stops the build, None on 8.6, which has none."""
    if not hasattr(trt, "IProgressMonitor"):
        return None

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if progress is not None and parent_phase is None:
                progress(f"{phase_name}: {num_steps} steps")

        def step_complete(self, phase_name: str, step: int) -> bool:
            return not cancelled.is_set()

        def phase_finish(self, phase_name: str) -> None:
            pass

    return Monitor()
