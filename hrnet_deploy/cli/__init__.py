"""The ``hrnet-deploy`` command: one module a command, loaded only when it is called."""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import os
import sys
import traceback
from collections.abc import Iterator
from typing import IO, Any

import click

from hrnet_deploy import __version__
from hrnet_deploy.cli.signals import StopRequest, interrupted, stop_on_signal
from hrnet_deploy.cli.usage import CommandGroup, as_input_error
from hrnet_deploy.errors import (
    EXIT_BUG,
    EXIT_INPUT,
    EXIT_SIGINT,
    EXIT_SIGPIPE,
    DeployError,
    EnvironmentFault,
    InterruptedRun,
    printable,
)
from hrnet_deploy.files import disk_full, is_disk_full

PROGRAM = "hrnet-deploy"

COMMANDS = {
    "demo": "Export, prove, evaluate and draw with the small HRNet that comes along.",
    "inspect": "Say what a checkpoint, an ONNX file or a plan is.",
    "export": "Turn a checkpoint into ONNX engines, with parity proven.",
    "build": "Turn an ONNX engine into a TensorRT plan, with parity proven.",
    "quantize": "Turn a checkpoint into an 8-bit ONNX engine that keeps its AP.",
    "calibrate-flip": "Find the threshold of an adaptive flip-test.",
    "adopt": "Make an engine of a heatmap network that somebody else exported.",
    "verify": "Compare the poses of two artefacts.",
    "eval": "Evaluate an engine on COCO keypoint annotations.",
    "benchmark": "Measure engines and PyTorch side by side on this machine.",
    "dataset": "Check, clean, convert, describe and divide keypoint data sets.",
    "predict": "Find poses in pictures, videos and cameras.",
    "view": "Try engines on pictures in a local page.",
    "zoo": "List published checkpoints and detectors, and download one.",
    "doctor": "Say what this machine has and what is missing.",
}
"""Command names with their one-line help, so that ``--help`` loads no command."""

MAX_PIXELS_BEFORE_CV2 = str(1 << 30)
"""OpenCV's own limit on decoded pictures; ours (``--max-pixels``) is checked from the header."""


class _ReaderLeft(Exception):
    """Whoever read our output has gone away: nothing to report, but the work is not done."""


@contextlib.contextmanager
def _noticing_the_reader() -> Iterator[None]:
    """Within, a broken pipe becomes ``_ReaderLeft``: click and rich make exit code 1 of it."""
    try:
        yield
    except (OSError, SystemExit) as error:
        cause = error.__context__ if isinstance(error, SystemExit) else error
        if not isinstance(cause, OSError) or cause.errno != errno.EPIPE:
            raise
        raise _ReaderLeft from error


def load_command(name: str) -> click.Command:
    """Import the module of one of ``COMMANDS``."""
    module = importlib.import_module(f"hrnet_deploy.cli.{name.replace('-', '_')}")
    command: click.Command = module.command
    return command


class _LazyGroup(CommandGroup):
    """A group that imports the module of a command when it is used."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with _noticing_the_reader():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        with _noticing_the_reader():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return load_command(cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name=PROGRAM, message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def _group(debug: bool) -> None:
    """Take any HRNet pose checkpoint to a fast engine that is proven to give the same poses.

    Exit codes: 0 done; 1 a gate failed or inputs were skipped; 2 bad input or
    usage; 3 the environment lacks something; 70 a bug of ours; 130 and 143 interrupted.
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with the documented code."""
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", MAX_PIXELS_BEFORE_CV2)
    _open_standard_streams()
    words = sys.argv[1:] if arguments is None else arguments
    sys.exit(_run(words))


def _open_standard_streams() -> None:
    """Put nothing where the command was started with a closed stream, as by ``2>&-``.

    Otherwise the next file that is opened takes its number, and what native code says to stderr
    lands in it.
    """
    for descriptor, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(descriptor, mode, encoding="utf-8", closefd=False))


def _run(words: list[str]) -> int:
    """The exit code of one command; every error ends as one line on stderr."""
    debug, as_json = "--debug" in words, "--json" in words
    words = [word for word in words if word != "--debug"]
    StopRequest.last = None
    try:
        with stop_on_signal(), _noticing_the_reader():
            result = _group.main(args=words, prog_name=PROGRAM, standalone_mode=False)
            sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except _ReaderLeft:
        _silence(sys.stdout)
        return EXIT_SIGPIPE
    except Exception as error:  # noqa: BLE001 - whatever is left ends as one line or as our bug
        if debug and not isinstance(error, click.exceptions.Exit):
            traceback.print_exc()
        ours = (DeployError, click.ClickException, click.exceptions.Exit)
        if StopRequest.last is not None and not isinstance(error, ours):
            error = interrupted(StopRequest.last)
        if isinstance(error, DeployError):
            _name_as_typed(error, words)
        return _report(error, as_json=as_json)
    except KeyboardInterrupt:
        return EXIT_SIGINT


def _name_as_typed(error: DeployError, words: list[str]) -> None:
    """An argument of a function that came from an option is called by the option's name."""
    option = "--" + error.subject.replace("_", "-").replace(" ", "-")
    if option in {word.split("=", 1)[0] for word in words}:
        error.rename(option)


def _report(error: Exception, *, as_json: bool) -> int:
    """Turn any exception into one line and an exit code."""
    if isinstance(error, click.exceptions.Exit):
        return int(error.exit_code)
    if isinstance(error, click.exceptions.Abort):
        return EXIT_SIGINT
    if isinstance(error, click.ClickException):
        return _usage(error, as_json=as_json)
    if isinstance(error, DeployError):
        return _say(error, as_json=as_json)
    if isinstance(error, MemoryError):
        fault = EnvironmentFault("memory", "ran out of memory", "Lower --batch or free some memory")
        return _say(fault, as_json=as_json)
    if isinstance(error, OSError) and error.filename is None and is_disk_full(error):
        # Our files say their names; what is left is where stdout was redirected to.
        _silence(sys.stdout)
        return _say(EnvironmentFault("stdout", "disk full", "Free some space"), as_json=False)
    if isinstance(error, OSError) and error.filename is not None:
        return _say(_from_os(error), as_json=as_json)
    traceback.print_exception(error)
    _tell(f"{PROGRAM}: this is a bug of ours; please report it with the lines above")
    return EXIT_BUG


def _from_os(error: OSError) -> DeployError:
    if is_disk_full(error):
        return disk_full(os.fspath(error.filename2 or error.filename))  # the copy, not its source
    reason = (error.strerror or type(error).__name__).lower()
    return EnvironmentFault(os.fspath(error.filename), reason, "Check the path and its permissions")


def _usage(error: click.ClickException, *, as_json: bool) -> int:
    """Click's own complaints, in our form and on one line."""
    if (ours := as_input_error(error)) is not None:
        return _say(ours, as_json=as_json)
    message = printable(error.format_message())
    if as_json:
        facts = {"file": "", "problem": message, "fix": "See --help", "code": EXIT_INPUT}
        _tell(json.dumps({"error": facts}, allow_nan=False), err=False)
    _tell(f"{PROGRAM}: error: {message}{'' if message.endswith('?') else '.'}")
    return EXIT_INPUT


def _say(error: DeployError, *, as_json: bool) -> int:
    code = error.exit_code
    if isinstance(error, InterruptedRun):
        code = 128 + error.signal_number
    if as_json:
        value: dict[str, Any] = error.as_json()
        value["error"]["code"] = code
        _tell(json.dumps(value, allow_nan=False), err=False)
    _tell(f"{PROGRAM}: error: {error}")
    return code


def _tell(line: str, *, err: bool = True) -> None:
    """Print a last word; where nobody reads it or no space is left, the exit code still says it."""
    try:
        click.echo(line, err=err)
    except OSError:
        _silence(sys.stderr if err else sys.stdout)


def _silence(stream: IO[str]) -> None:
    """The reader went away: keep the interpreter's last flush quiet."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


__all__ = ["COMMANDS", "load_command", "main"]
