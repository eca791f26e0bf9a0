"""What can go wrong, said in one line, with the exit code that the command line gives it."""

from __future__ import annotations

import importlib
import os
import re
import shlex
from types import ModuleType
from typing import ClassVar

from hrnet_deploy import telemetry

EXIT_DONE = 0
EXIT_GATE = 1
"""A gate failed, and an engine that failed it is not written; or inputs were skipped."""
EXIT_INPUT = 2
EXIT_ENVIRONMENT = 3
EXIT_BUG = 70
EXIT_SIGINT = 130
EXIT_SIGPIPE = 141
EXIT_SIGTERM = 143

Subject = str | os.PathLike[str]


_ENDS_IN_COMMAND = re.compile(r"(?:^|: )(?:hrnet-deploy|pip|git) \S")


class DeployError(Exception):
    """One line for the user: ``<subject>: <problem>. <fix>.``

    ``subject`` is the file or argument, ``problem`` what is wrong with it, with the value,
    ``fix`` what to do about it. A command to be pasted ends ``fix``, after a colon where words
    come first, and has no full stop behind it. Raise one of the subclasses.
    """

    exit_code: ClassVar[int] = EXIT_INPUT

    def __init__(self, subject: Subject, problem: str, fix: str) -> None:
        self.problem = printable(problem)
        pasted = _ENDS_IN_COMMAND.search(fix) is not None
        self.fix = one_line(fix) if pasted else printable(fix)
        self._end = "" if pasted or self.fix.endswith("?") else "."
        self.rename(subject)

    def rename(self, subject: Subject) -> None:
        """Call the subject by another name, such as that of the option that the user gave."""
        self.subject = one_line(subject) or "''"
        self.args = (f"{self.subject}: {self.problem}. {self.fix}{self._end}",)

    def as_json(self) -> dict[str, object]:
        """The same facts for ``--json``."""
        return {
            "error": {
                "file": self.subject,
                "problem": self.problem,
                "fix": self.fix,
                "code": self.exit_code,
            }
        }


class InputError(DeployError, ValueError):
    """A file, an argument or an array is not usable (exit code 2)."""

    exit_code: ClassVar[int] = EXIT_INPUT


class EnvironmentFault(DeployError, RuntimeError):
    """This machine lacks something: an extra, a device, disk, memory (exit code 3)."""

    exit_code: ClassVar[int] = EXIT_ENVIRONMENT


class GateError(DeployError):
    """The work was done but its result fails a gate, such as parity (exit code 1)."""

    exit_code: ClassVar[int] = EXIT_GATE


class InterruptedRun(DeployError):
    """SIGINT or SIGTERM stopped a run whose finished part is kept (exit code 130 or 143)."""

    exit_code: ClassVar[int] = EXIT_SIGINT

    def __init__(self, subject: Subject, problem: str, fix: str, *, signal_number: int = 2) -> None:
        super().__init__(subject, problem, fix)
        self.signal_number = signal_number


def command_line(*words: Subject) -> str:
    """``hrnet-deploy`` with these words, quoted for a shell."""
    return shlex.join(["hrnet-deploy", *(os.fspath(word) for word in words)])


def printable(text: Subject) -> str:
    """``text`` on one line: control and undecodable characters escaped, the end unpunctuated."""
    return one_line(text).rstrip(" .")


def one_line(text: Subject) -> str:
    """``text`` with control and undecodable characters escaped; "." stays (the current folder)."""
    line = os.fspath(text)
    if isinstance(line, bytes):
        line = os.fsdecode(line)
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)


def check_count(name: str, value: object) -> int:
    """``value`` if it is a whole number from 1 on; InputError naming the argument otherwise."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(name, f"is {value!r}", "Give a whole number from 1 on")
    return value


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import an optional module, or say in one line which extra brings it.

    What it would report to its makers is switched off. Raises EnvironmentFault naming ``purpose``
    (the command or feature) and the pip command.
    """
    try:
        with telemetry.switched_off():
            return importlib.import_module(module)
    except ImportError as error:
        missing = getattr(error, "name", None) or module
        if missing.split(".")[0] != module.split(".")[0]:
            problem = f"needs {module}, which cannot be imported ({error})"
        else:
            problem = f"needs {_display_name(module)}"
        raise EnvironmentFault(purpose, problem, f"pip install 'hrnet-deploy[{extra}]'") from error


def _display_name(module: str) -> str:
    package = module.split(".")[0]
    return _DISPLAY_NAMES.get(package, package)


_DISPLAY_NAMES = {
    "cuda": "cuda-bindings",
    "torch": "PyTorch",
    "onnx": "the onnx package",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "tensorrt": "TensorRT",
    "tensorrt_rtx_bindings": "TensorRT for RTX",
}
