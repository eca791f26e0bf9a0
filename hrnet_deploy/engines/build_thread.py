"""A build beside the main thread, so that Ctrl-C is heard while C++ code runs."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import TypeVar

from hrnet_deploy.errors import InterruptedRun

_WAIT_SECONDS = 0.2
_CANCEL_SECONDS = 60.0

Result = TypeVar("Result")


def interruptible(
    work: Callable[[], Result], cancelled: threading.Event, subject: str, *, stoppable: bool
) -> Result:
    """Run ``work`` beside the main thread, which alone hears Ctrl-C while C++ code runs.

    What is not ``stoppable`` (8.6) is left behind: the process then ends without taking Python
    down, which a builder that is still at work would not survive.
    """
    outcome: list[Result | BaseException] = []
    done = threading.Event()

    def target() -> None:
        try:
            outcome.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            outcome.append(error)
        finally:
            done.set()

    builder = threading.Thread(target=target, name="tensorrt-build", daemon=True)
    try:
        builder.start()
        # Not Thread.join: interrupted, it takes the thread for ended (Python 3.10 to 3.12).
        while not done.wait(_WAIT_SECONDS):
            pass
    except (KeyboardInterrupt, InterruptedRun) as stop:
        cancelled.set()
        if stoppable and builder.is_alive():  # a start that was interrupted may be none
            with contextlib.suppress(KeyboardInterrupt, InterruptedRun):
                done.wait(_CANCEL_SECONDS)
        number = getattr(stop, "signal_number", signal.SIGINT)
        atexit.register(_leave, done, 128 + number)
        raise InterruptedRun(
            subject,
            "the build was interrupted, nothing was written",
            "Run the same command again",
            signal_number=number,
        ) from stop
    result = outcome[0]
    if isinstance(result, BaseException):
        raise result
    return result


def _leave(done: threading.Event, code: int) -> None:
    """End the process at once with ``code`` if the builder is still at work."""
    if not done.is_set():
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)
