"""Ctrl-C in the moment in which the builder's thread is started."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Iterator

import pytest

from hrnet_deploy.engines import build_thread
from hrnet_deploy.errors import InterruptedRun


@pytest.fixture(autouse=True)
def _no_end_at_once() -> Iterator[None]:
    """What an interruption leaves for the end of the process would end that of the tests."""
    yield
    atexit.unregister(build_thread._leave)


@pytest.mark.parametrize("began", [True, False])
def test_an_interrupted_start_is_an_interrupted_build(
    monkeypatch: pytest.MonkeyPatch, began: bool
) -> None:
    start = threading.Thread.start
    cancelled = threading.Event()

    def interrupted_start(thread: threading.Thread) -> None:
        if began:
            start(thread)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted_start)
    with pytest.raises(InterruptedRun, match=r"w\.onnx: the build was interrupted"):
        build_thread.interruptible(cancelled.wait, cancelled, "w.onnx", stoppable=True)
    assert cancelled.is_set()
