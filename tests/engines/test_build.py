"""What is refused before TensorRT is asked to build it."""

from __future__ import annotations

import dataclasses
from types import ModuleType

import pytest

pytest.importorskip("torch")  # the fixture ``small`` is written with it
pytest.importorskip("onnx")

from hrnet_deploy.engines.build import check_fp8, check_opset
from hrnet_deploy.engines.cuda.probe import Gpu
from hrnet_deploy.errors import InputError


@pytest.mark.parametrize(("opset", "version", "taken"), [
    (17, "8.6.1", True), (19, "8.6.1", False), (19, "10.0.1", True), (19, "11.4.0", True),
])  # fmt: skip
def test_opsets(opset: int, version: str, taken: bool) -> None:
    if taken:
        check_opset(opset, version, subject="x.onnx")
        return
    with pytest.raises(InputError, match=r"has opset 19, TensorRT 8\.6\.1 reads 9 to 17.*--float"):
        check_opset(opset, version, subject="x.onnx")


@pytest.mark.parametrize(("capability", "taken"), [((8, 6), False), ((8, 9), True), ((9, 0), True)])
def test_fp8_needs_its_gpu(small: ModuleType, capability: tuple[int, int], taken: bool) -> None:
    gpu = Gpu(0, "NVIDIA A10", capability, 1 << 34)
    spec = small.small_spec(precision="fp8", float_precision="fp16")
    check_fp8(dataclasses.replace(spec, precision="int8"), gpu, subject="x.onnx")
    if taken:
        check_fp8(spec, gpu, subject="x.onnx")
        return
    with pytest.raises(InputError, match=r"the NVIDIA A10 has compute capability 8\.6, 8\.9 is"):
        check_fp8(spec, gpu, subject="x.onnx")
