from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch")

from hrnet_deploy.demo import CHECKPOINT, samples, train  # noqa: E402
from hrnet_deploy.demo.people import make_scene, scene_rng, write_dataset  # noqa: E402
from hrnet_deploy.demo.score import average_precision  # noqa: E402
from hrnet_deploy.errors import InputError  # noqa: E402
from hrnet_deploy.export.checkpoint import read_checkpoint  # noqa: E402
from hrnet_deploy.export.hrnet import HRNet  # noqa: E402
from hrnet_deploy.export.reference import decode_heatmaps  # noqa: E402
from hrnet_deploy.runtime.geometry import CropGeometry  # noqa: E402


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small layers on several threads spend their time waiting when the machine is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def command(folder: Path, count: int) -> list[str]:
    options = ["--seed", "3", "--samples", str(count), "--images", "2", "--threads", "1"]
    return [sys.executable, "-m", "hrnet_deploy.demo.train", "--out", str(folder), *options]


def test_the_crop_is_that_of_the_runtime() -> None:
    boxes = np.array([[10.0, 20.0, 80.0, 210.0], [5.5, 30.25, 300.0, 100.0]])
    geometry = CropGeometry.from_boxes_xywh(boxes, samples.INPUT_SIZE_WH)
    for box, expected in zip(boxes, geometry.image_to_input, strict=True):
        affine = samples.crop_affine(*samples.box_to_centre_scale(box))
        assert affine == pytest.approx(expected, abs=1e-3)


def test_decoding_a_target_gives_the_joint_back() -> None:
    rng = np.random.default_rng(0)
    joints = rng.uniform([8, 8], [86, 118], size=(17, 2))
    maps, weights = samples.target_heatmaps(joints, np.ones(17, bool))
    keypoints, scores = decode_heatmaps(maps[None], "quarter")
    assert (weights == 1).all()
    assert scores == pytest.approx(1)
    assert np.abs(keypoints[0] * samples.STRIDE - joints).max() <= samples.STRIDE / 2


def test_joints_outside_do_not_count_and_joints_without_label_have_empty_maps() -> None:
    joints = np.tile([40.0, 60.0], (17, 1))
    joints[3], joints[4] = (-9, 40), (95.9, 40)
    labelled = np.ones(17, bool)
    labelled[5] = False
    maps, weights = samples.target_heatmaps(joints, labelled)
    assert np.flatnonzero(weights == 0).tolist() == [3, 4]
    assert not maps[[3, 4, 5]].any()


@pytest.mark.parametrize("seed", range(4))
def test_the_joints_of_a_sample_stay_on_the_same_pixels(seed: int) -> None:
    """A mark painted at one joint is found where the sample says that this joint is."""
    scene = make_scene(scene_rng(11, 0), people=1)
    joint = int(np.flatnonzero(scene.persons[0].keypoints_px[:, 2] == 2)[-1])
    x, y = scene.persons[0].keypoints_px[joint, :2]
    scene.image_bgr[:] = 0
    scene.image_bgr[round(y) - 2 : round(y) + 3, round(x) - 2 : round(x) + 3] = 255
    crop, joints, labelled = samples.training_sample(scene, 0, np.random.default_rng(seed))
    rows, columns = np.nonzero(crop[:, :, 0] > 60)
    found = np.array([columns.mean(), rows.mean()])
    either = [joint, int(samples.MIRRORED[joint])]
    assert min(np.abs(joints[either] - found).max(axis=1)) < 1.0
    assert labelled[either].any()


def test_a_run_ends_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    plan = train.Plan(minutes=10.0, samples=2 * train.BATCH)
    first = train.train(tmp_path, 3, plan, images=2, workers=0)
    stopped = torch.load(tmp_path / "checkpoint.pth", weights_only=True)
    assert (stopped["epoch"], stopped["samples"]) == (2, 64)
    before = torch.load(first, weights_only=True)
    again = train.Training(tmp_path, 3, plan)
    assert again.done
    assert (again.step, again.resumed) == (2, 1)
    assert all(
        torch.equal(value, before[key]) for key, value in again.averaged.state_dict().items()
    )
    plan = train.Plan(minutes=10.0, samples=3 * train.BATCH)
    final = train.train(tmp_path, 3, plan, images=2, workers=0)
    state = torch.load(final, weights_only=True)
    HRNet(train.ARCHITECTURE).load_state_dict(state, strict=True)
    assert not torch.equal(state["conv1.weight"], before["conv1.weight"])
    assert read_checkpoint(tmp_path / "checkpoint.pth").architecture == train.ARCHITECTURE
    assert read_checkpoint(final).architecture == train.ARCHITECTURE


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_an_interrupt_leaves_a_checkpoint(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*command(tmp_path, 10**6), "--every", "0.005"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "checkpoint.pth").exists() and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does on Ctrl-C: the worker gets it too
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == ""
    assert "interrupted. Run the same command again to go on." in err
    assert "Traceback" not in err
    saved = torch.load(tmp_path / "checkpoint.pth", weights_only=True)
    assert saved["samples"] > 0
    assert saved["minutes"] > 0


def test_a_foreign_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pth").write_bytes(b"no checkpoint")
    with pytest.raises(InputError, match=r"checkpoint\.pth: is no checkpoint of a training run\."):
        train.Training(tmp_path, 0, train.Plan(1.0, 1))


def test_the_learning_rate_rises_and_falls() -> None:
    rates = [train.learning_rate(progress) for progress in (0.0, train.WARM_UP, 0.5, 1.0)]
    assert rates[0] < rates[1] == pytest.approx(train.PEAK_RATE)
    assert rates[1] > rates[2] > rates[3] > 0


def test_the_stored_network_finds_people(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(CHECKPOINT)
    assert checkpoint.architecture == train.ARCHITECTURE
    assert CHECKPOINT.stat().st_size < 4_200_000
    write_dataset(tmp_path, 20, seed=31)
    stats = average_precision(checkpoint.architecture, checkpoint.state_dict, tmp_path)
    ap = stats["AP"]
    assert ap is not None
    assert ap > 0.8
