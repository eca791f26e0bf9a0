"""One build of a plan: the opset and doubts before it, the timing cache, the log if it fails."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from hrnet_deploy.engines.build import Buildable, BuiltPlan, build_plan, check_opset
from hrnet_deploy.engines.build_settings import BuildSettings
from hrnet_deploy.engines.timing_cache import read_timing_cache, write_timing_cache
from hrnet_deploy.engines.trt_module import TensorRT
from hrnet_deploy.errors import EnvironmentFault
from hrnet_deploy.export.trt_support import trt_problems
from hrnet_deploy.files import write_bytes
from hrnet_deploy.talk import Say


def build_logged(
    tensorrt: TensorRT,
    onnx: tuple[Path, bytes, int],
    output: Path,
    network: Buildable,
    settings: BuildSettings,
    *,
    cache: Path | None,
    say: Say,
) -> BuiltPlan:
    """Build the plan ``output`` of ``onnx`` (path, bytes, opset), with the timing cache ``cache``.

    Where it fails, the whole log is kept beside ``output``.
    """
    path, content, opset = onnx
    check_opset(opset, tensorrt.version, subject=path)
    _say_doubts(content, tensorrt.major, say)
    known = _known(cache, say)
    log = _Log(output)
    say(f"building {output} for {tensorrt.gpu.name} with TensorRT {tensorrt.version}")
    try:
        with tensorrt.heard_by(log.add):
            built = build_plan(
                tensorrt,
                content,
                network,
                settings,
                subject=str(path),
                timing_cache=known,
                progress=say,
            )
    except EnvironmentFault as fault:
        raise log.kept(fault) from fault
    if cache is not None:
        write_timing_cache(cache, built.timing_cache)
    return built


def _known(cache: Path | None, say: Say) -> bytes:
    """What earlier builds learnt."""
    if cache is None:
        return b""
    content, warning = read_timing_cache(cache)
    if warning is not None:
        say(f"warning: {warning}")
    return content


def _say_doubts(content: bytes, major: int, say: Say) -> None:
    """Where onnx is installed, name what is not known to be parsed; the parser has the last word.

    Our own graphs are beyond doubt (tests); a network that was taken over may hold anything.
    """
    if importlib.util.find_spec("onnx") is None:
        return
    import onnx

    problem = next(trt_problems(onnx.load_from_string(content), major), None)
    if problem is not None:
        say(f"warning: TensorRT {major} is not known to take {problem}")


class _Log:
    """Every line of TensorRT, written to a file only where the build fails."""

    def __init__(self, output: Path) -> None:
        self._lines: list[str] = []
        self._path = output.with_name(f"{output.name}.log")

    def add(self, severity: str, message: str) -> None:
        """Take in a message."""
        if severity != "VERBOSE":
            self._lines.append(f"[{severity}] {' '.join(message.split())}")

    def kept(self, fault: EnvironmentFault) -> EnvironmentFault:
        """``fault`` with the path of the log."""
        if not self._lines:
            return fault
        write_bytes(self._path, "".join(f"{line}\n" for line in self._lines).encode())
        return EnvironmentFault(
            fault.subject, fault.problem, f"{fault.fix}; the whole log is in {self._path}"
        )
