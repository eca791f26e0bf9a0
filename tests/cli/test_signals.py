from __future__ import annotations

import signal
import sys
import threading

import pytest

from hrnet_deploy.cli.signals import advising_to_go_on, again, stop_on_signal
from hrnet_deploy.errors import InterruptedRun


@pytest.fixture(autouse=True)
def handlers_as_from_a_shell() -> object:
    """pytest may have been started in the background, with SIGINT ignored."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    former = [signal.signal(number, signal.SIG_DFL) for number in numbers]
    yield
    for number, handler in zip(numbers, former, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_interrupts(number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["hrnet-deploy", "eval", "--engine", "my engine.onnx"])
    with (
        pytest.raises(
            InterruptedRun, match=r"hrnet-deploy eval --engine 'my engine\.onnx'"
        ) as caught,
        stop_on_signal(),
    ):
        signal.raise_signal(number)
    assert caught.value.signal_number == number
    assert signal.getsignal(number) is signal.SIG_DFL, "the former handler is back"


def test_deferred_work_ends_first() -> None:
    done = []

    def work() -> None:
        with stop_on_signal() as stop, stop.deferred():
            signal.raise_signal(signal.SIGTERM)
            done.append(stop())

    with pytest.raises(InterruptedRun):
        work()
    assert done == [signal.SIGTERM]


def test_nothing_happens_without_a_signal() -> None:
    with stop_on_signal() as stop, stop.deferred():
        assert stop() is None


def test_an_error_of_the_deferred_work_is_not_hidden() -> None:
    def work() -> None:
        with stop_on_signal() as stop, stop.deferred():
            signal.raise_signal(signal.SIGTERM)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()


def test_ignored_signals_stay_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with stop_on_signal() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop() is None


def test_other_threads_leave_the_handlers_alone() -> None:
    seen = []

    def work() -> None:
        with stop_on_signal() as stop:
            seen.append((stop(), signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(None, signal.SIG_DFL)]


def test_options_that_start_over_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["x", "eval", "--fresh", "--engine", "a.onnx"])
    assert again() == "To go on: hrnet-deploy eval --engine a.onnx"


def test_a_kept_run_goes_on_with_the_same_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["hrnet-deploy", "predict", "a.mp4", "--fresh"])
    stopped = InterruptedRun("a.mp4", "stopped", "Go on", signal_number=signal.SIGTERM)
    with pytest.raises(InterruptedRun) as caught, advising_to_go_on():
        raise stopped
    assert str(caught.value) == "a.mp4: stopped. To go on: hrnet-deploy predict a.mp4"
    assert caught.value.signal_number == signal.SIGTERM
