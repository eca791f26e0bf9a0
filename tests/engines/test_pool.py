"""Several workers as one engine: the same poses, and no hang when one of them is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")

from hrnet_deploy.engines import NonFiniteOutput, load_engine, pool_worker
from hrnet_deploy.engines.pool import PoolEngine, parse_devices
from hrnet_deploy.errors import EnvironmentFault, InputError


def noise(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 64, 48, 3), dtype=np.uint8)


def processes(engine: PoolEngine) -> list[int]:
    return [worker._process.pid or 0 for worker in engine._workers]


@pytest.fixture
def two(tiny_onnx: Path) -> PoolEngine:
    engine = load_engine(tiny_onnx, device="cpu,cpu", threads=1)
    assert isinstance(engine, PoolEngine)
    return engine


def test_two_workers_give_what_one_gives(tiny_onnx: Path, two: PoolEngine) -> None:
    with load_engine(tiny_onnx, threads=1) as one, two:
        assert two.info.device == "cpu,cpu"
        assert two.info.sha256 == one.info.sha256
        assert two.spec == one.spec
        for count in (0, 1, 2, 3, 8, 41, 5):
            output = two.run(noise(count), heatmaps=True)
            expected = one.run(noise(count), heatmaps=True)
            np.testing.assert_array_equal(output.keypoints_heatmap, expected.keypoints_heatmap)
            np.testing.assert_array_equal(output.scores, expected.scores)
            assert output.heatmaps_nkhw is not None
            np.testing.assert_array_equal(output.heatmaps_nkhw, expected.heatmaps_nkhw)
        assert two.run(noise(3)).heatmaps_nkhw is None


def test_a_program_without_a_guard_is_told_so(tiny_onnx: Path, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    load = f"load_engine({str(tiny_onnx)!r}, device='cpu,cpu', threads=1).close()"
    program.write_text(f"from hrnet_deploy.engines import load_engine\n{load}\n")
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "A program asks for several devices under if __name__ == '__main__'" in done.stderr
    program.write_text(
        f"from hrnet_deploy.engines import load_engine\nif __name__ == '__main__':\n    {load}\n"
    )
    assert subprocess.run([sys.executable, program], timeout=120).returncode == 0


def test_workers_without_a_gpu_take_crops_alone(two: PoolEngine) -> None:
    with two:
        assert not hasattr(two, "submit_frames")


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_closing_ends_the_processes(two: PoolEngine) -> None:
    pids = processes(two)
    two.run(noise(4))
    two.close()
    two.close()
    assert all(gone(pid) for pid in pids)
    with pytest.raises(InputError, match="engine is closed"):
        two.run(noise(1))


@pytest.mark.parametrize("moment", ["idle", "working"])
def test_a_lost_worker_is_an_error_and_not_a_hang(two: PoolEngine, moment: str) -> None:
    pid = processes(two)[1]
    if moment == "idle":
        os.kill(pid, signal.SIGKILL)
        time.sleep(0.2)
    else:
        os.kill(pid, signal.SIGSTOP)
        two._workers[1].start(noise(2), heatmaps=False)
        os.kill(pid, signal.SIGKILL)
    started = time.monotonic()
    with two, pytest.raises(EnvironmentFault, match=r"cpu: its worker process died \(signal 9\)"):
        two.run(noise(6))
    assert time.monotonic() - started < 30
    assert all(gone(pid) for pid in processes(two))
    with pytest.raises(InputError, match="engine is closed"):
        two.run(noise(1))


def test_a_silent_worker_is_given_up(two: PoolEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_worker, "ANSWER_SECONDS", 0.5)
    os.kill(processes(two)[0], signal.SIGSTOP)
    with two, pytest.raises(EnvironmentFault, match="gave no answer for 0 s"):
        two.run(noise(6))
    assert all(gone(pid) for pid in processes(two))


def test_nan_is_found_in_every_part(make_tiny_onnx: Callable[..., Path]) -> None:
    path = make_tiny_onnx("poison.onnx", poison=True)
    crops = noise(9)
    crops[[1, 7]] = 255
    with load_engine(path, device="cpu,cpu", threads=1) as engine:
        with pytest.raises(NonFiniteOutput) as caught:
            engine.run(crops)
        assert caught.value.indices.tolist() == [1, 7]
        assert len(engine.run(crops[2:7]).scores) == 5


def test_a_worker_that_cannot_load_says_why(tiny_onnx: Path, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match=r"device: is cuda:1, but this ONNX Runtime|no NVID"):
        load_engine(tiny_onnx, device="cpu,1", threads=1)
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"rubbish" * 9)
    with pytest.raises(InputError, match=r"broken\.onnx: is not a valid ONNX file"):
        load_engine(broken, device="cpu,cpu")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0,1", ("cuda:0", "cuda:1")),
        ("cpu,cpu", ("cpu", "cpu")),
        ("cuda:0, cuda:3", ("cuda:0", "cuda:3")),
        ("2", ("cuda:2",)),
        ("cuda,cuda:01", ("cuda:0", "cuda:1")),
    ],
)
def test_lists_of_devices(text: str, expected: tuple[str, ...]) -> None:
    assert parse_devices(text) == expected


@pytest.mark.parametrize("text", ["0,", ",", "", "0,0", "cuda:1,1", "cuda,cuda:0", "01,1"])
def test_other_lists_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="devices: "):
        parse_devices(text)
