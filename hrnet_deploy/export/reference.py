"""The reference: a bare network, flip-test and decoding as the official code does them.

Written apart from the graph on purpose (numpy for what the graph does in ONNX), so that parity
between the two means something.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.engines import Engine, EngineInfo, EngineOutput
from hrnet_deploy.engines.pool import parse_devices
from hrnet_deploy.errors import EnvironmentFault, InputError
from hrnet_deploy.export.architecture import HRNetArchitecture
from hrnet_deploy.runtime.decode import Heatmaps, decode_heatmaps, merge_flipped
from hrnet_deploy.spec import ModelSpec

if TYPE_CHECKING:
    import torch

REFERENCE_BATCH = 16
"""Crops at a time; it bounds memory, the result does not depend on it."""

__all__ = ["Heatmaps", "ReferenceEngine", "TorchEngine", "decode_heatmaps"]


class ReferenceEngine(Engine):
    """Runs a bare network on normalised images and does all the rest in numpy."""

    @abstractmethod
    def _forward(self, images_nchw: NDArray[np.float32]) -> Heatmaps:
        """Heatmaps (N, K, h, w) of normalised images in the network's channel order."""

    def _infer(self, crops_nhwc: NDArray[np.uint8], *, heatmaps: bool) -> EngineOutput:
        merged = self._heatmaps(crops_nhwc)
        keypoints, scores = decode_heatmaps(merged, self.spec.decode)
        return EngineOutput(keypoints, scores, merged if heatmaps else None)

    def _heatmaps(self, crops_nhwc: NDArray[np.uint8]) -> Heatmaps:
        images = self._normalised(crops_nhwc)
        straight = self._forward(images)
        if not self.spec.flip_test:
            return straight
        mirrored = self._forward(np.ascontiguousarray(images[..., ::-1]))
        pairs, shift = self.spec.flip_pairs or (), self.spec.shift_heatmap
        return merge_flipped(straight, mirrored, pairs, shift=shift)

    def _normalised(self, crops_nhwc: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Images (N, 3, h, w) in the network's channel order."""
        step = -1 if self.spec.network_color_order == "rgb" else 1
        pixels = crops_nhwc[..., ::step].astype(np.float32) / np.float32(255)
        mean, std = (
            np.array(values[::-step], np.float32)
            for values in (self.spec.mean_rgb, self.spec.std_rgb)
        )
        return np.ascontiguousarray(((pixels - mean) / std).transpose(0, 3, 1, 2))


class TorchEngine(ReferenceEngine):
    """A checkpoint run by PyTorch in float32, eager, on ``device``: "cpu", "cuda:0" or "0"."""

    def __init__(
        self,
        spec: ModelSpec,
        architecture: HRNetArchitecture,
        state_dict: Mapping[str, torch.Tensor],
        *,
        path: str,
        device: str = "cpu",
    ) -> None:
        import torch

        from hrnet_deploy.export.hrnet import HRNet

        device, *others = parse_devices(device)
        if others:
            raise InputError("--device", "names several, PyTorch runs on one", "Give one of them")
        if device != "cpu" and not torch.cuda.is_available():
            raise EnvironmentFault(
                device, "PyTorch sees no CUDA device", "Use --device cpu or install a CUDA build"
            )
        info = EngineInfo(
            backend="torch",
            device=device,
            path=path,
            sha256=spec.source_sha256,
            precision="fp32",
            versions={"torch": torch.__version__},
        )
        super().__init__(spec, info, REFERENCE_BATCH)
        self._network = HRNet(architecture)
        self._network.load_state_dict(dict(state_dict), strict=True)
        self._network.eval().to(device)

    def _forward(self, images_nchw: NDArray[np.float32]) -> Heatmaps:
        import torch

        images = torch.from_numpy(images_nchw).to(self.info.device)
        with torch.inference_mode():
            heatmaps: Heatmaps = self._network(images).cpu().numpy()
        return heatmaps
