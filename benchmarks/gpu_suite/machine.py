"""What the machine is, and the ceilings that everything else is held against."""

from __future__ import annotations

from typing import Any

from gpu_suite import Context, Missing, needed, needed_gpu, needed_torch
from gpu_suite.prepare import models
from gpu_suite.timing import clocks, timed

MATRIX = 8192
COPY_BYTES = 1 << 30


def run(context: Context) -> dict[str, Any]:
    """Facts, clocks, measured ceilings and the roofline of every model."""
    from hrnet_deploy.engines.machine import facts

    found: dict[str, Any] = {"facts": facts(), "clocks": clocks()}
    try:
        needed_gpu(context)
        found["ceilings"] = ceilings(context)
    except Missing as missing:
        return {**found, "left_out": str(missing)}
    found["roofline"] = {
        model.name: roofline(model.width, model.size_hw, found["ceilings"])
        for model in models(context)
        if model.width is not None
    }
    return found


def ceilings(context: Context) -> dict[str, float]:
    """FLOP/s of a large half-precision matrix product and bytes/s of a copy, both measured."""
    torch = needed_torch(context)
    side = MATRIX if context.on_gpu else 256
    kind = torch.float16 if context.on_gpu else torch.float32
    a, b = (torch.randn(side, side, device=context.device, dtype=kind) for _ in range(2))
    source = torch.empty(COPY_BYTES if context.on_gpu else 1 << 20, dtype=torch.uint8,
                         device=context.device)  # fmt: skip
    target = torch.empty_like(source)

    def products(count: int) -> None:
        for _ in range(count):
            torch.matmul(a, b)
        _wait(torch, context)

    def copies(count: int) -> None:
        for _ in range(count):
            target.copy_(source)
        _wait(torch, context)

    product, copy = timed(products, context.seconds), timed(copies, context.seconds)
    return {
        "flops_per_second": 2 * side**3 / product["ms"] * 1e3,
        "bytes_per_second": 2 * source.numel() / copy["ms"] * 1e3,
    }


def _wait(torch: Any, context: Context) -> None:
    if context.on_gpu:
        torch.cuda.synchronize()


def roofline(
    width: int, size_hw: tuple[int, int], ceiling: dict[str, float]
) -> dict[str, float | int]:
    """The best rate that the ceilings allow, layer by layer, in half precision without fusion.

    Every convolution reads its input, its weights and writes its output once, in 2-byte numbers;
    it takes the longer of its arithmetic and its traffic. Weights count once a batch: not here.
    """
    torch = needed("torch")
    from hrnet_deploy.export.architecture import published_architecture
    from hrnet_deploy.export.hrnet import HRNet

    layers: list[tuple[int, int]] = []

    def count(module: Any, inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(module, torch.nn.Conv2d):
            macs = output.numel() * module.weight[0].numel()
            layers.append((2 * macs, 2 * (inputs[0].numel() + output.numel())))

    with torch.device("meta"), torch.no_grad():
        network = HRNet(published_architecture(width, 17)).eval()
        for module in network.modules():
            module.register_forward_hook(count)
        network(torch.zeros(1, 3, *size_hw))
    seconds = sum(
        max(flops / ceiling["flops_per_second"], size / ceiling["bytes_per_second"])
        for flops, size in layers
    )
    return {
        "convolutions": len(layers),
        "gflop_per_crop": sum(flops for flops, _ in layers) / 1e9,
        "mbyte_per_crop": sum(size for _, size in layers) / 1e6,
        "crops_per_second": 1 / seconds,
    }
