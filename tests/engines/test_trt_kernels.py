"""The list of kernels, as TensorRT logs it."""

from __future__ import annotations

import pytest

from hrnet_deploy.engines.trt_kernels import LISTING, Tensor, read_kernels
from hrnet_deploy.errors import EnvironmentFault

HALF = "Strides: [6,2,1], StrideOrder: [2,1,0], Datatype: Half, Format: (NHWC) Channel major format"
FLOAT = "Strides: [1], StrideOrder: [0], Datatype: Float, Format: (Linear) Row major linear format"
TEXT = f"""{LISTING}Name: start_0, LayerType: shape_call, Inputs: [], Constants: [], Outputs: [], \
TacticName: , StreamId: 0, Metadata:\x20
Name: conv1_U20_myl0_2, LayerType: correlation, Inputs: [ {{ Name: a, Dimensions: [-1,4,3,2], \
{HALF} }}, {{ Name: a, Dimensions: [-1,4,3,2], {HALF} }}], Constants: [ {{ Name: w, \
Dimensions: [10], {FLOAT} }}], Outputs: [ {{ Name: b, Dimensions: [2,5], {FLOAT} }}], \
TacticName: some[tactic], StreamId: 0, Metadata: [ONNX Layer: conv1]\x1f[ONNX Layer: conv1.relu]
Name: exit^wait^1, LayerType: wait, Inputs: [], Constants: [], Outputs: [], TacticName: , \
StreamId: 0, EventId: 14, Metadata:\x20

I/O Tensors:
 Name: crops, IOMode: Input, DataType: UInt8, Dimensions: [-1,128,96,3]
"""


def test_one_kernel_among_events_and_host_code() -> None:
    (kernel,) = read_kernels(TEXT)
    assert (kernel.name, kernel.kind) == ("conv1_U20_myl0_2", "correlation")
    assert kernel.inputs == (Tensor("a", (-1, 4, 3, 2), "Half"),) * 2
    assert kernel.constants == (Tensor("w", (10,), "Float"),)
    assert kernel.outputs == (Tensor("b", (2, 5), "Float"),)
    assert kernel.sources == ("conv1", "conv1.relu")
    assert kernel.dtype == "Float"


def test_what_it_moves_is_counted_once() -> None:
    (kernel,) = read_kernels(TEXT)
    assert kernel.bytes == 4 * 3 * 2 * 2 + 2 * 5 * 4
    assert kernel.weight_bytes == 40


def test_a_type_of_unknown_size_is_named() -> None:
    with pytest.raises(EnvironmentFault, match="TensorRT: lists b with the type FP4, whose size"):
        read_kernels(TEXT.replace("[2,5], " + FLOAT, "[2,5], " + FLOAT.replace("Float", "FP4")))


def test_a_plan_without_kernels() -> None:
    assert read_kernels(LISTING) == []
