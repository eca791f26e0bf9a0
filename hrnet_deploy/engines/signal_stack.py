"""The stack on which a thread handles signals, kept from libraries that replace it."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator


class _Stack(ctypes.Structure):
    """``stack_t`` of Linux's sigaltstack(2)."""

    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextlib.contextmanager
def kept_signal_stack() -> Iterator[None]:
    """Afterwards this thread handles signals on the stack that it had before.

    OpenVINO gives the thread that compiles a model a stack of its own and puts the former one back
    when the model goes. With two models that go in the order in which they came, the last one puts
    back a stack that is already freed, and the next signal, such as Ctrl-C, ends the process with a
    segmentation fault.
    """
    if sys.platform != "linux":
        yield
        return
    libc, former = ctypes.CDLL(None), _Stack()
    libc.sigaltstack(None, ctypes.byref(former))
    try:
        yield
    finally:
        libc.sigaltstack(ctypes.byref(former), None)
