"""What the weights of an HRNet fix about it, without PyTorch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StageArchitecture:
    """One stage: ``modules`` exchange units over ``len(widths)`` parallel branches.

    ``widths`` are the channels of each branch, highest resolution first; ``blocks`` the
    residual blocks of each branch in one module.
    """

    modules: int
    widths: tuple[int, ...]
    blocks: tuple[int, ...]


@dataclass(frozen=True)
class HRNetArchitecture:
    """Everything that the weights of a top-down HRNet fix; the input size is not part of it.

    ``stem`` are the output channels of the two stride-2 convolutions, ``layer1_planes`` the
    inner channels of the ``layer1_blocks`` bottlenecks, ``stages`` stages 2, 3 and 4,
    ``final_kernel`` the side of the last convolution (1 in every published model).
    """

    joints: int
    stages: tuple[StageArchitecture, ...]
    stem: tuple[int, int] = (64, 64)
    layer1_planes: int = 64
    layer1_blocks: int = 4
    final_kernel: int = 1

    @property
    def width(self) -> int:
        """Channels of the highest-resolution branch: 32 for W32, 48 for W48."""
        return self.stages[-1].widths[0]

    @property
    def name(self) -> str:
        """``hrnet_w32`` for the published layout; small relatives carry their module counts."""
        base = f"hrnet_w{self.width}"
        if self == published_architecture(self.width, self.joints):
            return base
        return base + "_m" + "".join(str(stage.modules) for stage in self.stages)


def published_architecture(width: int, joints: int) -> HRNetArchitecture:
    """The layout of the official model zoo: 1, 4 and 3 modules of four blocks, widths doubling."""
    stages = tuple(
        StageArchitecture(modules, tuple(width << i for i in range(branches)), (4,) * branches)
        for modules, branches in ((1, 2), (4, 3), (3, 4))
    )
    return HRNetArchitecture(joints=joints, stages=stages)
