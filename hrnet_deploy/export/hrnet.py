"""The top-down HRNet pose network, built from an architecture that is read off the weights.

Module names follow the official repository (leoxiaobin/deep-high-resolution-net.pytorch,
``lib/models/pose_hrnet.py``), so its state dicts load with ``strict=True``. The network is
described in Sun et al., "Deep High-Resolution Representation Learning for Human Pose
Estimation", CVPR 2019.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hrnet_deploy.export.architecture import HRNetArchitecture, StageArchitecture

BOTTLENECK_EXPANSION = 4
"""Output channels per inner channel of a bottleneck block (He et al., CVPR 2016)."""


def _conv_bn(
    in_channels: int, out_channels: int, kernel: int, stride: int, *, relu: bool
) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
    ]
    return nn.Sequential(*layers, *([nn.ReLU()] if relu else []))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + x)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions; the first of a layer projects its identity."""

    def __init__(self, in_channels: int, planes: int) -> None:
        super().__init__()
        out_channels = planes * BOTTLENECK_EXPANSION
        self.conv1 = nn.Conv2d(in_channels, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample = (
            None
            if in_channels == out_channels
            else _conv_bn(in_channels, out_channels, 1, 1, relu=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        identity = x if self.downsample is None else self.downsample(x)
        return torch.relu(self.bn3(self.conv3(y)) + identity)


class ExchangeModule(nn.Module):
    """Parallel branches, then every output is the sum of all branches at its resolution."""

    def __init__(
        self, widths: tuple[int, ...], blocks: tuple[int, ...], *, only_highest: bool
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(width) for _ in range(count)))
            for width, count in zip(widths, blocks, strict=True)
        )
        outputs = 1 if only_highest else len(widths)
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_fuse_layer(widths, source, target) for source in range(len(widths)))
            for target in range(outputs)
        )

    def forward(self, inputs: list[Tensor]) -> list[Tensor]:
        features = [branch(x) for branch, x in zip(self.branches, inputs, strict=True)]
        outputs = []
        for row in self.fuse_layers:
            assert isinstance(row, nn.ModuleList)
            terms = [layer(x) for layer, x in zip(row, features, strict=True)]
            total = terms[0]
            for term in terms[1:]:
                total = total + term
            outputs.append(torch.relu(total))
        return outputs


def _fuse_layer(widths: tuple[int, ...], source: int, target: int) -> nn.Module:
    """Bring branch ``source`` to the resolution and width of branch ``target``."""
    if source == target:
        return nn.Identity()
    if source > target:
        up = nn.Upsample(scale_factor=float(1 << (source - target)), mode="nearest")
        return nn.Sequential(*_conv_bn(widths[source], widths[target], 1, 1, relu=False), up)
    steps = target - source
    return nn.Sequential(
        *(_conv_bn(widths[source], widths[source], 3, 2, relu=True) for _ in range(steps - 1)),
        _conv_bn(widths[source], widths[target], 3, 2, relu=False),
    )


def _transition(before: tuple[int, ...], after: tuple[int, ...]) -> nn.ModuleList:
    """Adapt widths between stages and open the new, halved branch from the lowest one."""
    layers: list[nn.Module] = []
    for index, width in enumerate(after):
        if index >= len(before):
            layers.append(nn.Sequential(_conv_bn(before[-1], width, 3, 2, relu=True)))
        elif before[index] == width:
            layers.append(nn.Identity())
        else:
            layers.append(_conv_bn(before[index], width, 3, 1, relu=True))
    return nn.ModuleList(layers)


class HRNet(nn.Module):
    """Normalised RGB images (N, 3, h, w) float to heatmaps (N, joints, h/4, w/4) float."""

    def __init__(self, architecture: HRNetArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        first, second = architecture.stem
        self.conv1 = nn.Conv2d(3, first, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(first)
        self.conv2 = nn.Conv2d(first, second, 3, 2, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(second)
        planes = architecture.layer1_planes
        widths: tuple[int, ...] = (planes * BOTTLENECK_EXPANSION,)
        self.layer1 = nn.Sequential(
            *(
                Bottleneck(second if index == 0 else widths[0], planes)
                for index in range(architecture.layer1_blocks)
            )
        )
        for number, stage in enumerate(architecture.stages, start=1):
            last = number == len(architecture.stages)
            self.add_module(f"transition{number}", _transition(widths, stage.widths))
            self.add_module(f"stage{number + 1}", _stage(stage, only_highest=last))
            widths = stage.widths
        kernel = architecture.final_kernel
        self.final_layer = nn.Conv2d(widths[0], architecture.joints, kernel, 1, kernel // 2)

    def forward(self, images: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(images)))
        x = torch.relu(self.bn2(self.conv2(x)))
        branches: list[Tensor] = [self.layer1(x)]
        for number in range(1, len(self.architecture.stages) + 1):
            transition = self.get_submodule(f"transition{number}")
            assert isinstance(transition, nn.ModuleList)
            lowest = branches[-1]
            inputs = branches + [lowest] * (len(transition) - len(branches))
            branches = [layer(x) for layer, x in zip(transition, inputs, strict=True)]
            branches = self.get_submodule(f"stage{number + 1}")(branches)
        heatmaps: Tensor = self.final_layer(branches[0])
        return heatmaps


def _stage(stage: StageArchitecture, *, only_highest: bool) -> nn.Sequential:
    last = stage.modules - 1
    return nn.Sequential(
        *(
            ExchangeModule(stage.widths, stage.blocks, only_highest=only_highest and index == last)
            for index in range(stage.modules)
        )
    )
