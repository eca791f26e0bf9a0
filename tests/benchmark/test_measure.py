from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from hrnet_deploy.benchmark.measure import PAUSE_S, Task, interleaved
from hrnet_deploy.errors import EnvironmentFault, InputError


def recorded(names: str) -> tuple[list[str], list[Task]]:
    """Tasks that write their names into a list when they are run."""
    order: list[str] = []
    return order, [Task(name, lambda name=name: order.append(name)) for name in names]  # type: ignore[misc]


def test_every_round_runs_every_task_once_in_changing_order() -> None:
    order, tasks = recorded("abc")
    timings = interleaved(tasks, rounds=20, warmup=2)
    warmup, counted = order[: 2 * 2 * 3], order[2 * 2 * 3 :]
    assert warmup[::2] == warmup[1::2]  # each twice in a row
    rounds = ["".join(counted[i : i + 3]) for i in range(0, len(counted), 3)]
    assert len(rounds) == 20
    assert all(sorted(one) == ["a", "b", "c"] for one in rounds)
    assert len(set(rounds)) > 3
    assert {name: len(values) for name, values in timings.seconds.items()} == dict.fromkeys(
        "abc", 20
    )


def test_the_times_are_those_of_the_work_without_the_pauses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [0.0]

    def spend(seconds: float) -> None:
        clock[0] += seconds

    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(time, "sleep", spend)
    tasks = [Task("short", lambda: spend(0.25)), Task("long", lambda: spend(4.0))]
    timings = interleaved(tasks, rounds=3, warmup=1)
    assert timings.seconds == {
        "short": pytest.approx([0.25] * 3),
        "long": pytest.approx([4.0] * 3),
    }
    assert clock[0] == pytest.approx(5 * 4.25 + 10 * PAUSE_S)


def test_a_signal_keeps_the_complete_rounds() -> None:
    order, tasks = recorded("abc")

    def stop() -> int | None:
        return 2 if len(order) == 10 else None  # in the middle of the fourth round

    timings = interleaved(tasks, rounds=20, warmup=0, stop=stop)
    assert timings.stopped == 2
    assert timings.rounds == 3
    assert {len(values) for values in timings.seconds.values()} == {3}


@pytest.mark.parametrize(
    "fault",
    [EnvironmentFault("w.onnx", "ran out of memory in ONNX Runtime", "x"), MemoryError()],
)
def test_what_runs_out_of_memory_is_given_up_and_the_others_go_on(fault: Exception) -> None:
    _, tasks = recorded("ab")

    def hungry() -> None:
        raise fault

    timings = interleaved([*tasks, Task("hungry", hungry)], rounds=3, warmup=1)
    assert set(timings.seconds) == {"a", "b"}
    assert timings.rounds == 3
    assert "memory" in timings.failed["hungry"]


@pytest.mark.parametrize(
    "fault", [EnvironmentFault("gpu", "CUDA error 700", "x"), InputError("x", "y", "z")]
)
def test_any_other_error_is_raised(fault: Exception) -> None:
    def broken() -> None:
        raise fault

    with pytest.raises(type(fault)):
        interleaved([Task("broken", broken)], rounds=3, warmup=1)


def test_progress_ends_at_the_total() -> None:
    seen: list[tuple[int, int]] = []
    progress: Callable[[int, int], None] = lambda done, total: seen.append((done, total))  # noqa: E731
    interleaved(recorded("ab")[1], rounds=3, warmup=1, progress=progress)
    assert seen[-1] == (8, 8)
    assert [done for done, _ in seen] == list(range(1, 9))
