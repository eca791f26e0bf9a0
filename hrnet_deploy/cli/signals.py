"""SIGINT and SIGTERM: the first one stops in an orderly way, the second one at once."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from hrnet_deploy.errors import InterruptedRun, command_line

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Asked between batches (by calling it) for the signal that wants the command to stop.

    ``last`` is the latest signal of this process: a library may turn InterruptedRun into an error
    of its own, which must not be reported as one.
    """

    last: int | None = None

    def __init__(self) -> None:
        self.number: int | None = None
        self._deferring = False

    def __call__(self) -> int | None:
        return self.number

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Within, the first signal only sets ``number``; afterwards it raises InterruptedRun."""
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False
        if self.number is not None:
            raise interrupted(self.number)

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """The handler; it writes without Python's buffers, which the signal may have caught."""
        if self.number is not None:
            os._exit(128 + number)
        self.number = StopRequest.last = number
        if not self._deferring:
            raise interrupted(number)
        with contextlib.suppress(OSError):
            os.write(2, b"\nstopping after this batch; once more stops at once\n")


def interrupted(number: int) -> InterruptedRun:
    """What a command that the signal ``number`` stopped says."""
    problem = "no half-written file is left"
    return InterruptedRun("interrupted", problem, again(), signal_number=number)


@contextlib.contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Handle both signals within; in another thread than the main one nothing is changed."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    # A signal that was ignored from the start (a job in the background) stays ignored.
    handled = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    former = {number: signal.signal(number, request.on_signal) for number in handled}
    try:
        yield request
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def advising_to_go_on() -> Iterator[None]:
    """Within, an interruption of a run that is kept ends with the command that goes on."""
    try:
        yield
    except InterruptedRun as stopped:
        number = stopped.signal_number
        raise InterruptedRun(
            stopped.subject, stopped.problem, again(), signal_number=number
        ) from None


def again() -> str:
    """The advice to give the same command again, without the option that would start over."""
    words = [word for word in sys.argv[1:] if word != "--fresh"]
    return f"To go on: {command_line(*words)}"
