from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from hrnet_deploy.benchmark.cost import graph_convolutions, graph_cost

pytest.importorskip("onnx", reason="needs the onnx package")


def hooked_gflop(small: ModuleType, checkpoint: Path, passes: int) -> float:
    """Operations of every convolution of the PyTorch network, by hooks on a real run."""
    import torch

    from hrnet_deploy.export.checkpoint import read_checkpoint
    from hrnet_deploy.export.hrnet import HRNet

    network = HRNet(read_checkpoint(checkpoint).architecture).eval()
    total = 0

    def count(module: torch.nn.Module, inputs: object, output: torch.Tensor) -> None:
        nonlocal total
        assert isinstance(module, torch.nn.Conv2d)
        total += 2 * output.numel() * module.weight[0].numel()

    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(count)
    with torch.inference_mode():
        network(torch.zeros(1, 3, *small.SIZE_HW))
    return passes * total / 1e9


@pytest.mark.parametrize("flip", [True, False])
def test_operations_are_those_of_the_network(
    small: ModuleType, small_checkpoint: Path, tmp_path: Path, flip: bool
) -> None:
    changes = {} if flip else {"flip_test": False, "shift_heatmap": False}
    file = small.write_small_onnx(tmp_path / "small.onnx", **changes)
    cost = graph_cost(file.read_bytes())
    passes = 2 if flip else 1
    assert cost.passes == passes
    assert cost.gflop == pytest.approx(hooked_gflop(small, small_checkpoint, passes), rel=1e-9)
    layers = graph_convolutions(file.read_bytes())
    assert sum(one.flop for one in layers) == pytest.approx(1e9 * cost.gflop)
    assert (layers[0].side, layers[0].channels[0], layers[0].stride) == (3, 3, 2)
    assert layers[0].size_hw == tuple(side // 2 for side in small.SIZE_HW)


def test_bytes_follow_the_types(small: ModuleType, small_onnx: Path, tmp_path: Path) -> None:
    whole = graph_cost(small_onnx.read_bytes())
    half = graph_cost(small.write_small_onnx(tmp_path / "half.onnx", precision="fp16").read_bytes())
    assert half.gflop == whole.gflop
    assert 0.45 < half.weight_mb / whole.weight_mb < 0.75
    assert 0.45 < half.activation_mb / whole.activation_mb < 0.75
    file_mb = len(small_onnx.read_bytes()) / 1e6
    assert 0.5 * file_mb < whole.weight_mb < file_mb


def test_a_static_batch_is_counted_by_the_person(small: ModuleType, tmp_path: Path) -> None:
    free = graph_cost(small.write_small_onnx(tmp_path / "free.onnx").read_bytes())
    fixed = small.write_small_onnx(tmp_path / "fixed.onnx", static_batch=4)
    assert graph_cost(fixed.read_bytes()).gflop == pytest.approx(free.gflop)


def test_a_graph_that_does_not_tell_its_shapes_has_an_unknown_cost(tmp_path: Path) -> None:
    """A shape that is computed with floats is known to a run alone."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("Shape", ["crops"], ["sides"]),
        helper.make_node("Cast", ["sides"], ["float sides"], to=TensorProto.FLOAT),
        helper.make_node("Floor", ["float sides"], ["whole sides"]),
        helper.make_node("Cast", ["whole sides"], ["sides again"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["crops", "sides again"], ["reshaped"]),
        helper.make_node("Conv", ["reshaped", "weight"], ["maps"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "adopted",
        [value("crops", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [value("maps", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.zeros((2, 3, 1, 1), np.float32), "weight")],
    )
    assert graph_cost(helper.make_model(graph).SerializeToString()) is None
