"""ONNX Runtime and OpenVINO report their use to their makers, unless they are kept from it."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

_OPENVINO_SENDER = "openvino_telemetry"
_ONE_AT_A_TIME = threading.RLock()
"""One that leaves would switch it on again for another that still imports."""


@contextlib.contextmanager
def switched_off() -> Iterator[None]:
    """Within, optional packages are imported without what opens connections and marks the machine.

    ONNX Runtime (from 1.32) reads a variable when it starts and keeps a number for the machine in
    ``~/.cache/Microsoft``; one who sets the variable to another value is obeyed. OpenVINO does
    without its sender where that cannot be imported, and otherwise keeps a number in ``~/intel``.
    """
    with _ONE_AT_A_TIME:
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        if _OPENVINO_SENDER in sys.modules:
            yield
            return
        sys.modules[_OPENVINO_SENDER] = None  # type: ignore[assignment]
        try:
            yield
        finally:
            del sys.modules[_OPENVINO_SENDER]
