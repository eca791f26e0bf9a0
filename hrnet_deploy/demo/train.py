"""Train the small demo network on synthetic people: ``python -m hrnet_deploy.demo.train``.

The samples are drawn while the training runs. ``checkpoint.pth`` in the output folder has the
layout of the official training script and resumes an interrupted run; ``final_state.pth`` holds
nothing but the averaged weights.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from hrnet_deploy.demo.people import write_dataset
from hrnet_deploy.demo.samples import SampleStream
from hrnet_deploy.demo.score import average_precision
from hrnet_deploy.errors import EXIT_SIGINT, InputError
from hrnet_deploy.export.architecture import HRNetArchitecture, StageArchitecture
from hrnet_deploy.export.hrnet import HRNet
from hrnet_deploy.files import atomic_write

ARCHITECTURE = HRNetArchitecture(
    joints=17,
    stages=(
        StageArchitecture(1, (16, 32), (4, 4)),
        StageArchitecture(1, (16, 32, 64), (4, 4, 1)),
        StageArchitecture(1, (16, 32, 64, 128), (4, 4, 1, 1)),
    ),
    stem=(32, 32),
    layer1_planes=16,
    layer1_blocks=2,
)
"""Half the published width, a thin stem, and few blocks where the weights are many."""

BATCH = 32
PEAK_RATE = 2e-3
WARM_UP = 0.02
"""Part of the run over which the learning rate rises."""

AVERAGING = 0.999
"""Decay of the moving average of the weights, per step."""

HELD_OUT_OFFSET = 1_000_003
"""Added to the seed for the pictures on which progress is measured."""


@dataclass(frozen=True)
class Plan:
    """When a run ends: after ``minutes`` of training or ``samples`` seen, what comes first."""

    minutes: float
    samples: float

    def progress(self, minutes: float, samples: int) -> float:
        """Part of the run that is done, 0 to 1."""
        return min(1.0, max(minutes / self.minutes, samples / self.samples))


def learning_rate(progress: float) -> float:
    """Linear warm-up, then half a cosine down to a hundredth of the peak."""
    if progress < WARM_UP:
        return PEAK_RATE * (0.05 + 0.95 * progress / WARM_UP)
    turn = (progress - WARM_UP) / (1 - WARM_UP)
    return PEAK_RATE * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * turn)))


def heatmap_loss(heatmaps: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Mean square error over the joints whose weight is not 0."""
    return (((heatmaps - targets) ** 2).mean(dim=(2, 3)) * weights).mean()


def _initialise(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:  # the last layer: start with flat maps
                nn.init.normal_(module.weight, std=0.001)
                nn.init.zeros_(module.bias)


class Training:
    """A run that can be interrupted: network, averaged weights, optimiser and counters."""

    def __init__(self, folder: Path, seed: int, plan: Plan, *, compiled: bool = False) -> None:
        torch.manual_seed(seed)
        self.folder, self.seed, self.plan = folder, seed, plan
        self.network = HRNet(ARCHITECTURE)
        _initialise(self.network)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = HRNet(ARCHITECTURE)
        self.averaged.load_state_dict(self.network.state_dict())
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=PEAK_RATE, foreach=True)
        self.step = self.samples = self.resumed = 0
        self.minutes = self.best = 0.0
        self.path = folder / "checkpoint.pth"
        self.forward: nn.Module | Any = torch.compile(self.network) if compiled else self.network
        if self.path.exists():
            self._resume(self._saved())

    def _saved(self) -> dict[str, Any]:
        try:
            saved: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
        except (RuntimeError, UnpicklingError, EOFError) as error:
            fix = "Give another folder, or delete it to start again"
            raise InputError(self.path, "is no checkpoint of a training run", fix) from error
        return saved

    def _resume(self, saved: dict[str, Any]) -> None:
        self.network.load_state_dict(saved["latest_state_dict"])
        self.averaged.load_state_dict(saved["state_dict"])
        self.optimiser.load_state_dict(saved["optimizer"])
        self.step, self.samples = saved["epoch"], saved["samples"]
        self.minutes, self.best = saved["minutes"], saved["perf"]
        self.resumed = saved["resumed"] + 1

    def save(self) -> None:
        """Write the checkpoint whole or not at all."""
        state = self.averaged.state_dict()
        content = {
            "epoch": self.step,
            "model": "pose_hrnet",
            "state_dict": state,
            "best_state_dict": state,
            "perf": self.best,
            "optimizer": self.optimiser.state_dict(),
            "latest_state_dict": self.network.state_dict(),
            "samples": self.samples,
            "minutes": self.minutes,
            "resumed": self.resumed,
        }
        with atomic_write(self.path) as stream:
            torch.save(content, stream)

    def advance(self, crops: Tensor, targets: Tensor, weights: Tensor) -> float:
        """One step on a batch; returns its loss."""
        started = time.monotonic()
        self.network.train()
        rate = learning_rate(self.plan.progress(self.minutes, self.samples))
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        heatmaps = self.forward(crops.contiguous(memory_format=torch.channels_last))
        loss = heatmap_loss(heatmaps, targets, weights)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.step += 1
        self.samples += len(crops)
        self._average()
        self.minutes += (time.monotonic() - started) / 60
        return loss.item()

    def _average(self) -> None:
        decay = min(AVERAGING, (1 + self.step) / (10 + self.step))
        latest = self.network.state_dict()
        floats: tuple[list[Tensor], list[Tensor]] = ([], [])
        for name, tensor in self.averaged.state_dict().items():
            if tensor.is_floating_point():
                floats[0].append(tensor)
                floats[1].append(latest[name])
            else:
                tensor.copy_(latest[name])
        torch._foreach_lerp_(floats[0], floats[1], 1 - decay)

    @property
    def done(self) -> bool:
        """Whether the plan is fulfilled."""
        return self.plan.progress(self.minutes, self.samples) >= 1.0


def _report(training: Training, held_out: Path, loss: float) -> None:
    stats = average_precision(ARCHITECTURE, training.averaged.state_dict(), held_out)
    figures = {name: stats[name] or 0.0 for name in ("AP", "AP50", "AP75", "APm", "APl", "AR")}
    training.best = max(training.best, figures["AP"])
    progress = training.plan.progress(training.minutes, training.samples)
    _say(
        f"{progress:6.1%}  {training.minutes:6.1f} min  {training.samples} samples  "
        f"loss {loss:.6f}  " + "  ".join(f"{name} {value:.3f}" for name, value in figures.items())
    )


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def train(
    folder: Path,
    seed: int,
    plan: Plan,
    *,
    every: float = 3.0,
    images: int = 100,
    compiled: bool = False,
    workers: Literal[0, 1] = 1,
) -> Path:
    """Train until the plan is fulfilled and return the path of the averaged weights.

    Progress is measured on ``images`` held-out pictures, and the checkpoint written, every
    ``every`` minutes and at the end; an interrupt writes the checkpoint, too. Samples are drawn
    in another process, or in this one with ``workers`` 0.
    """
    folder.mkdir(parents=True, exist_ok=True)
    training = Training(folder, seed, plan, compiled=compiled)
    held_out = folder / "held_out"
    write_dataset(held_out, images, seed + HELD_OUT_OFFSET)
    reported, loss = training.minutes, float("nan")
    try:
        for crops, targets, weights in _batches(training, workers):
            if training.done:
                break
            latest = training.advance(crops, targets, weights)
            loss = latest if math.isnan(loss) else 0.98 * loss + 0.02 * latest
            if training.minutes - reported >= every:
                _report(training, held_out, loss)
                training.save()
                reported = training.minutes
    except KeyboardInterrupt:
        training.save()
        _say(f"{training.path}: interrupted. Run the same command again to go on.")
        raise
    _report(training, held_out, loss)
    training.save()
    return _write_weights(training, folder / "final_state.pth")


def _batches(training: Training, workers: Literal[0, 1]) -> DataLoader[tuple[Tensor, ...]]:
    """Endless batches of new samples: other ones after every interruption."""
    # A forked worker would inherit the locks of OpenCV's and torch's threads, and hang.
    return DataLoader(
        SampleStream(training.seed, training.resumed),
        BATCH,
        num_workers=workers,
        prefetch_factor=8 if workers else None,
        multiprocessing_context="spawn" if workers else None,
    )


def _write_weights(training: Training, path: Path) -> Path:
    """The averaged weights alone."""
    state = {k: v.detach().clone().contiguous() for k, v in training.averaged.state_dict().items()}
    with atomic_write(path) as file:
        torch.save(state, file)
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of the training script."""
    parser = argparse.ArgumentParser(prog="python -m hrnet_deploy.demo.train", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoints")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and pictures")
    parser.add_argument("--minutes", type=float, default=60.0, help="time spent in training steps")
    parser.add_argument("--samples", type=float, default=math.inf, help="end after so many")
    parser.add_argument("--every", type=float, default=3.0, help="minutes between reports")
    parser.add_argument("--images", type=int, default=100, help="held-out pictures")
    parser.add_argument("--threads", type=int, default=1, help="threads of the training steps")
    parser.add_argument("--compile", action="store_true", help="use torch.compile (faster)")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    plan = Plan(given.minutes, given.samples)
    try:
        path = train(
            given.out,
            given.seed,
            plan,
            every=given.every,
            images=given.images,
            compiled=given.compile,
        )
    except KeyboardInterrupt:
        return EXIT_SIGINT
    sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
