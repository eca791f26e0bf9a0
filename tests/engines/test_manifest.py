"""The manifest beside a plan: round trip, every way to be wrong, and the machine that it fits."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("hypothesis", reason="needs hypothesis")
from hypothesis import given
from hypothesis import strategies as st

from hrnet_deploy.engines.manifest import (
    BatchProfile,
    Machine,
    Manifest,
    check_machine,
    manifest_path,
    read_checked_plan,
    read_manifest,
    write_manifest,
)
from hrnet_deploy.errors import DeployError, EnvironmentFault, InputError
from hrnet_deploy.files import json_text, sha256_bytes

PLAN = b"a plan, as far as this file knows"


@pytest.fixture
def manifest() -> Manifest:
    pytest.importorskip("onnx", reason="the tiny spec lives beside an ONNX writer")
    from tests.tiny import tiny_spec

    return Manifest(
        spec=tiny_spec(precision="fp16"),
        plan_sha256=sha256_bytes(PLAN),
        onnx_sha256="1" * 64,
        onnx_name="w32.fp16.onnx",
        tensorrt="10.9.0.34",
        cuda="12.8",
        gpu_name="NVIDIA GeForce RTX 3090",
        compute_capability=(8, 6),
        precision="fp16",
        strongly_typed=True,
        profile=BatchProfile(1, 32, 128),
        settings={"level": 3},
        parity={"1": {"crops": 1}},
        hrnet_deploy="0.1.0",
    )


HERE = Machine("NVIDIA GeForce RTX 3090", (8, 6), "10.9.0.34")


def test_it_survives_the_disk(tmp_path: Path, manifest: Manifest) -> None:
    plan = tmp_path / "w32.plan"
    write_manifest(plan, manifest)
    assert manifest_path(plan) == tmp_path / "w32.plan.json"
    assert read_manifest(plan) == manifest


def test_a_plan_without_manifest_is_refused(tmp_path: Path) -> None:
    plan = tmp_path / "w32.plan"
    plan.write_bytes(PLAN)
    with pytest.raises(InputError, match=r"w32\.plan: has no manifest .*hrnet-deploy build"):
        read_manifest(plan)


CHANGES: list[tuple[str, Callable[[dict[str, Any]], object], str]] = [
    ("schema", lambda v: v.update(schema=2), "schema 2"),
    ("no schema", lambda v: v.pop("schema"), "schema None"),
    ("unknown", lambda v: v.update(extra=1), "unknown field 'extra'"),
    ("missing", lambda v: v.pop("tensorrt"), "lacks the field 'tensorrt'"),
    ("hash", lambda v: v.update(plan_sha256="12"), "plan_sha256 '12'"),
    ("upper hash", lambda v: v.update(onnx_sha256="A" * 64), "onnx_sha256"),
    ("path", lambda v: v.update(onnx_name="../../w32.onnx"), "onnx_name"),
    ("version", lambda v: v.update(tensorrt="ten"), "tensorrt 'ten'"),
    ("version type", lambda v: v.update(tensorrt=10), "tensorrt 10"),
    ("capability", lambda v: v.update(compute_capability=[8.6]), "compute_capability"),
    ("capability bool", lambda v: v.update(compute_capability=[True, 0]), "compute_capability"),
    ("capability text", lambda v: v.update(compute_capability="8.6"), "compute_capability"),
    ("precision", lambda v: v.update(precision="int8"), "precision 'int8'"),
    ("other precision", lambda v: v.update(precision="fp32"), "precision 'fp32' unlike its spec"),
    ("typed", lambda v: v.update(strongly_typed=1), "strongly_typed 1"),
    ("profile", lambda v: v.update(profile={"min": 1, "opt": 2}), "profile"),
    ("profile type", lambda v: v["profile"].update(min="1"), "profile"),
    ("profile order", lambda v: v["profile"].update(opt=500), "opt 500, max 128"),
    ("profile zero", lambda v: v["profile"].update(min=0), "min 0"),
    ("hardware", lambda v: v.update(hardware_compatibility="all"), "hardware_compatibility"),
    ("gpu", lambda v: v.update(gpu_name=""), "gpu_name"),
    ("spec", lambda v: v.update(spec=None), "not a JSON object"),
    ("spec field", lambda v: v["spec"].update(input_size_hw=[0, 5]), "input_size_hw"),
    ("settings", lambda v: v.update(settings=[]), "settings"),
]


@pytest.mark.parametrize(
    ("change", "message"), [c[1:] for c in CHANGES], ids=[c[0] for c in CHANGES]
)
def test_every_fault_names_its_field(
    tmp_path: Path,
    manifest: Manifest,
    change: Callable[[dict[str, Any]], object],
    message: str,
) -> None:
    value = json.loads(json_text(manifest.to_dict()))
    change(value)
    plan = tmp_path / "w32.plan"
    manifest_path(plan).write_text(json.dumps(value))
    with pytest.raises(InputError, match=message) as caught:
        read_manifest(plan)
    assert "w32.plan.json" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "null", "[]", '{"schema": NaN}', "\ufeff{}", "[" * 9999])
def test_what_is_no_manifest_is_refused(tmp_path: Path, text: str) -> None:
    plan = tmp_path / "w32.plan"
    manifest_path(plan).write_text(text, encoding="utf-8")
    with pytest.raises(InputError):
        read_manifest(plan)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@given(data=st.data())
def test_no_damaged_field_escapes_our_errors(data: st.DataObject) -> None:
    pytest.importorskip("onnx", reason="the tiny spec lives beside an ONNX writer")
    from tests.tiny import tiny_spec

    whole = Manifest(
        spec=tiny_spec(),
        plan_sha256="0" * 64,
        onnx_sha256="1" * 64,
        onnx_name="a.onnx",
        tensorrt="8.6.1",
        cuda="12.0",
        gpu_name="T4",
        compute_capability=(7, 5),
        precision="fp32",
        strongly_typed=False,
        profile=BatchProfile(1, 2, 4),
    )
    value = copy.deepcopy(json.loads(json_text(whole.to_dict())))
    value[data.draw(st.sampled_from(sorted(value)))] = data.draw(JSON)
    with contextlib.suppress(DeployError):
        Manifest.from_dict(value, source="a.plan.json")


def test_the_machine_that_it_was_built_on_fits(manifest: Manifest) -> None:
    check_machine("w32.plan", manifest, HERE)
    check_machine("w32.plan", manifest, dataclasses.replace(HERE, gpu_name="NVIDIA A10"))


@pytest.mark.parametrize(
    ("machine", "message"),
    [
        (
            Machine("NVIDIA H200", (9, 0), "10.9.0.34"),
            "built for NVIDIA GeForce RTX 3090 (sm 8.6), TensorRT 10.9.0.34; this is NVIDIA H200 "
            "(9.0), TensorRT 10.9.0.34. Run: hrnet-deploy build w32.fp16.onnx -o w32.plan --force",
        ),
        (
            Machine("NVIDIA GeForce RTX 3090", (8, 6), "11.4.0.106"),
            "this is NVIDIA GeForce RTX 3090 (8.6), TensorRT 11.4.0.106. Run: hrnet-deploy build",
        ),
        (Machine("NVIDIA GeForce RTX 3090", (8, 6), "10.9.0.35"), "TensorRT 10.9.0.35"),
    ],
    ids=["gpu", "tensorrt major", "tensorrt patch"],
)
def test_another_machine_is_named_with_the_command(
    manifest: Manifest, machine: Machine, message: str
) -> None:
    with pytest.raises(EnvironmentFault) as caught:
        check_machine("models/w32.plan", manifest, machine)
    assert message in str(caught.value)
    assert str(caught.value).startswith("models/w32.plan: ")


@pytest.mark.parametrize(
    ("level", "capability", "fits"),
    [
        ("ampere_plus", (8, 0), True),
        ("ampere_plus", (9, 0), True),
        ("ampere_plus", (12, 0), True),
        ("ampere_plus", (7, 5), False),
        ("same_compute_capability", (8, 6), True),
        ("same_compute_capability", (8, 9), False),
        ("none", (8, 9), False),
    ],
)
def test_hardware_compatibility_widens_the_gpus(
    manifest: Manifest, level: str, capability: tuple[int, int], fits: bool
) -> None:
    wide = dataclasses.replace(manifest, hardware_compatibility=level)
    machine = dataclasses.replace(HERE, compute_capability=capability)
    if fits:
        check_machine("w32.plan", wide, machine)
    else:
        with pytest.raises(EnvironmentFault):
            check_machine("w32.plan", wide, machine)


@pytest.mark.parametrize(("version", "fits"), [("10.16.1.11", True), ("11.0.0.114", False)])
def test_a_version_compatible_plan_stays_within_its_major_version(
    manifest: Manifest, version: str, fits: bool
) -> None:
    wide = dataclasses.replace(manifest, version_compatible=True)
    machine = dataclasses.replace(HERE, tensorrt=version)
    if fits:
        check_machine("w32.plan", wide, machine)
    else:
        with pytest.raises(EnvironmentFault):
            check_machine("w32.plan", wide, machine)


def test_the_whole_plan_is_returned(tmp_path: Path, manifest: Manifest) -> None:
    plan = tmp_path / "w32.plan"
    plan.write_bytes(PLAN)
    assert read_checked_plan(plan, manifest) == PLAN


@pytest.mark.parametrize(
    "content", [PLAN[:-1], PLAN + b"\0", b"X" + PLAN[1:], b"another model's plan"]
)
def test_a_damaged_or_swapped_plan_is_never_returned(
    tmp_path: Path, manifest: Manifest, content: bytes
) -> None:
    plan = tmp_path / "w32.plan"
    plan.write_bytes(content)
    with pytest.raises(InputError, match=r"does not match its manifest .*another model.*--force"):
        read_checked_plan(plan, manifest)


def test_an_empty_plan_is_refused(tmp_path: Path, manifest: Manifest) -> None:
    plan = tmp_path / "w32.plan"
    plan.touch()
    with pytest.raises(InputError, match="is empty"):
        read_checked_plan(plan, manifest)
