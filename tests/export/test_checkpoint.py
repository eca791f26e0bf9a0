"""Checkpoints of every layout are recognised from their contents."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch")

from hrnet_deploy.errors import EnvironmentFault  # noqa: E402
from hrnet_deploy.export.architecture import (  # noqa: E402
    HRNetArchitecture,
    StageArchitecture,
    published_architecture,
)
from hrnet_deploy.export.checkpoint import read_checkpoint  # noqa: E402
from hrnet_deploy.export.hrnet import HRNet  # noqa: E402

State = dict[str, Any]
Save = Callable[..., Path]


@pytest.fixture
def state(small: ModuleType) -> State:
    """A small state dict under the official names."""
    return {name: torch.from_numpy(np.array(v)) for name, v in small.weights().items()}


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def save(content: object, name: str = "small.pth", **options: Any) -> Path:
        path = tmp_path / name
        torch.save(content, path, **options)
        return path

    return save


def mmpose_names(state: State, head: str) -> State:
    return {
        (f"{head}.{name}" if name.startswith("final_layer") else f"backbone.{name}"): value
        for name, value in state.items()
    }


def assert_same_weights(loaded: State, expected: State) -> None:
    assert loaded.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(loaded[name], value), name


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}])
def test_official_state_dict(state: State, save: Save, small: ModuleType, options: Any) -> None:
    checkpoint = read_checkpoint(save(state, **options))
    assert checkpoint.flavour == "official"
    assert checkpoint.architecture == small.architecture()
    assert checkpoint.notes == ()
    assert checkpoint.stored is None
    assert len(checkpoint.sha256) == 64
    assert_same_weights(checkpoint.state_dict, state)


def test_official_training_checkpoint(state: State, save: Save) -> None:
    """What lib/utils/utils.py of the official code writes, with its numpy scalar."""
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(3))], lr=1e-3)
    path = save(
        {
            "epoch": 7,
            "model": "pose_hrnet",
            "state_dict": {f"module.{name}": value for name, value in state.items()},
            "best_state_dict": state,
            "perf": np.float64(0.744),
            "optimizer": optimizer.state_dict(),
        },
        "checkpoint.pth",
    )
    checkpoint = read_checkpoint(path)
    assert checkpoint.flavour == "official-training"
    assert_same_weights(checkpoint.state_dict, state)
    notes = " | ".join(checkpoint.notes)
    assert "used 'state_dict' of a training checkpoint (epoch 7)" in notes
    assert "'best_state_dict' is the same epoch" in notes
    assert "stripped the prefix 'module.'" in notes


def test_training_checkpoint_whose_best_weights_differ_says_so(state: State, save: Save) -> None:
    best = {name: value + 1 for name, value in state.items()}
    checkpoint = read_checkpoint(save({"state_dict": state, "best_state_dict": best}))
    assert "'best_state_dict' differs and was left aside" in checkpoint.notes[0]
    assert_same_weights(checkpoint.state_dict, state)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod."])
def test_wrapper_prefixes_are_stripped_and_said(state: State, save: Save, prefix: str) -> None:
    path = save({prefix + name: value for name, value in state.items()}, "final_state.pth")
    checkpoint = read_checkpoint(path)
    assert_same_weights(checkpoint.state_dict, state)
    assert all("stripped the prefix" in note for note in checkpoint.notes)
    assert len(checkpoint.notes) == prefix.count(".")


@pytest.mark.parametrize(
    ("head", "flavour"), [("keypoint_head", "mmpose-0.x"), ("head", "mmpose-1.x")]
)
def test_mmpose(state: State, save: Save, head: str, flavour: str) -> None:
    content = {"meta": {"epoch": 210}, "state_dict": mmpose_names(state, head)}
    checkpoint = read_checkpoint(save(content))
    assert checkpoint.flavour == flavour
    assert_same_weights(checkpoint.state_dict, state)


def test_mmpose_without_an_optimizer_is_no_training_checkpoint(state: State, save: Save) -> None:
    """What mmengine saves with ``save_optimizer=False``."""
    content = {"meta": {}, "state_dict": mmpose_names(state, "head"), "message_hub": {}}
    checkpoint = read_checkpoint(save(content))
    assert checkpoint.flavour == "mmpose-1.x"
    assert checkpoint.notes == ("used 'state_dict', left aside: message_hub",)


@pytest.mark.parametrize("holder", ["model", "state_dict"])
def test_weights_alone_need_no_words(state: State, save: Save, holder: str) -> None:
    checkpoint = read_checkpoint(save({holder: state}))
    assert (checkpoint.flavour, checkpoint.notes) == ("official", ())


class HistoryBuffer:
    """Stands for mmengine's class of that name: arrays and bound statistics."""

    __module__ = "mmengine.logging.history_buffer"

    def __init__(self) -> None:
        self._log_history = np.arange(3.0)

    def mean(self) -> None: ...

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "statistics_methods": {"mean": HistoryBuffer.mean}}


def test_mmengine_training_checkpoint(
    state: State, save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its message hub holds objects of mmengine, which are not needed and not made."""
    module = ModuleType(HistoryBuffer.__module__)
    module.HistoryBuffer = HistoryBuffer  # type: ignore[attr-defined]
    HistoryBuffer.mean.__module__ = module.__name__
    names = ("mmengine", "mmengine.logging", module.__name__)
    for name in names:
        monkeypatch.setitem(sys.modules, name, module)
    content = {
        "meta": {"cfg": "codec = dict(input_size=(192, 256), type='MSRAHeatmap')"},
        "state_dict": mmpose_names(state, "head"),
        "message_hub": {"log_scalars": {"train/loss": HistoryBuffer()}},
    }
    path = save(content, "epoch_210.pth")
    for name in names:
        monkeypatch.delitem(sys.modules, name)
    checkpoint = read_checkpoint(path)
    assert checkpoint.flavour == "mmpose-1.x"
    assert checkpoint.stored_input_size_hw == (256, 192)
    assert_same_weights(checkpoint.state_dict, state)


@pytest.mark.parametrize("name", ["small.safetensors", "renamed.pth"])
def test_safetensors_by_its_contents(state: State, tmp_path: Path, name: str) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    path = tmp_path / name
    safetensors.save_file(state, path)
    checkpoint = read_checkpoint(path)
    assert checkpoint.flavour == "safetensors"
    assert_same_weights(checkpoint.state_dict, state)


def test_mmpose_names_in_safetensors(state: State, tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file(mmpose_names(state, "head"), tmp_path / "m.safetensors")
    checkpoint = read_checkpoint(tmp_path / "m.safetensors")
    assert checkpoint.flavour == "mmpose-1.x safetensors"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_precisions_become_float32_and_it_is_said(
    state: State, save: Save, dtype: str
) -> None:
    typed = {
        name: value.to(getattr(torch, dtype)) if value.is_floating_point() else value
        for name, value in state.items()
    }
    checkpoint = read_checkpoint(save(typed))
    floats = sum(value.is_floating_point() for value in state.values())
    assert checkpoint.notes == (f"converted {floats} {dtype} tensors to float32",)
    for name, value in checkpoint.state_dict.items():
        assert value.dtype == (torch.int64 if "num_batches" in name else torch.float32)
        assert torch.equal(value, typed[name].to(value.dtype))


def test_absent_counters_are_added(state: State, save: Save) -> None:
    old = {name: value for name, value in state.items() if "num_batches" not in name}
    checkpoint = read_checkpoint(save(old))
    assert "num_batches_tracked counters" in checkpoint.notes[0]
    assert list(checkpoint.state_dict) == list(state)


def test_parameters_and_averaged_models(state: State, save: Save) -> None:
    wrapped: State = {
        f"module.{name}": torch.nn.Parameter(value) if value.is_floating_point() else value
        for name, value in state.items()
    }
    wrapped["n_averaged"] = torch.tensor(5)
    assert_same_weights(read_checkpoint(save(wrapped)).state_dict, state)


def network(**changes: Any) -> HRNetArchitecture:
    stages = (
        StageArchitecture(2, (8, 12), (1, 2)),
        StageArchitecture(1, (6, 12, 20), (2, 1, 1)),
        StageArchitecture(3, (10, 12, 20, 24), (1, 1, 2, 1)),
    )
    small = HRNetArchitecture(5, stages, stem=(8, 12), layer1_planes=4, layer1_blocks=2)
    return dataclasses.replace(small, **changes)


@pytest.mark.parametrize(
    "architecture",
    [
        network(),
        network(joints=133, final_kernel=3),
        network(stages=network().stages[:2]),
        network(stages=(*network().stages, StageArchitecture(1, (4, 4, 4, 4, 4), (1,) * 5))),
        network(stem=(3, 5), layer1_blocks=1),
    ],
    ids=["uneven", "wide head", "two stages", "five branches", "small stem"],
)
def test_any_architecture_is_read_off_the_tensors(
    architecture: HRNetArchitecture, save: Save
) -> None:
    checkpoint = read_checkpoint(save(HRNet(architecture).state_dict()))
    assert checkpoint.architecture == architecture
    HRNet(checkpoint.architecture).load_state_dict(checkpoint.state_dict, strict=True)


def test_parameters_leave_running_statistics_out(state: State, save: Save) -> None:
    architecture = network()
    checkpoint = read_checkpoint(save(HRNet(architecture).state_dict()))
    learned = sum(p.numel() for p in HRNet(architecture).parameters())
    assert checkpoint.parameters == learned


def test_weights_with_checksums_off_are_read(state: State, save: Save) -> None:
    """PyTorch can leave the checksums of its zip out; they are then zero."""
    torch.serialization.set_crc32_options(False)
    try:
        path = save(state)
    finally:
        torch.serialization.set_crc32_options(True)
    assert_same_weights(read_checkpoint(path).state_dict, state)


@pytest.mark.parametrize("version", ["2.9.1+cu128", "1.13.1", "nightly"])
def test_an_unsafe_torch_is_refused(
    state: State, save: Save, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    path = save(state)
    monkeypatch.setattr(torch, "__version__", version)
    with pytest.raises(EnvironmentFault, match=r"version .* CVE-2026-24747.*torch>=2\.10"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("keys", "width", "joints"), [("w32_17", 32, 17), ("w32_16", 32, 16), ("w48_17", 48, 17)]
)
def test_official_key_lists_at_full_size(shared: Path, keys: str, width: int, joints: int) -> None:
    """The names and shapes of the official implementation's own state dicts."""
    from hrnet_deploy.export.weights import architecture_of

    listed = json.loads((shared / "golden" / f"{keys}.keys.json").read_text())
    shapes = {name: tuple(shape) for name, shape in listed}
    assert architecture_of("w.pth", shapes) == published_architecture(width, joints)


def test_full_size_checkpoint(shared: Path, tmp_path: Path) -> None:
    script = shared / "golden" / "make_checkpoint.py"
    specification = importlib.util.spec_from_file_location("make_checkpoint", script)
    assert specification is not None
    assert specification.loader is not None
    maker = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(maker)
    keys = json.loads((shared / "golden" / "w32_17.keys.json").read_text())
    state = {k: torch.from_numpy(np.asarray(v)) for k, v in maker.state_dict(keys, 0).items()}
    path = tmp_path / "w32.pth"
    torch.save(state, path)
    checkpoint = read_checkpoint(path)
    assert checkpoint.architecture.name == "hrnet_w32"
    assert round(checkpoint.parameters / 1e6, 1) == 28.5  # the paper's figure
    assert_same_weights(checkpoint.state_dict, state)
