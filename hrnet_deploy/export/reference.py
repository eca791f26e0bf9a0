"""The reference: a bare network, flip-test and decoding as the official code does them.

Written apart from the graph on purpose (numpy for what the graph does in ONNX), so that parity
between the two means something.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.engines import Engine, EngineInfo, EngineOutput
from hrnet_deploy.errors import EnvironmentFault
from hrnet_deploy.spec import ModelSpec

if TYPE_CHECKING:
    import torch

    from hrnet_deploy.export.hrnet import HRNetArchitecture

REFERENCE_BATCH = 16
"""Crops at a time; it bounds memory, the result does not depend on it."""

Heatmaps = NDArray[np.float32]


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
        turned = flip_back(mirrored, self.spec.flip_pairs or ())
        if self.spec.shift_heatmap:
            turned[..., 1:] = turned[..., :-1].copy()
        averaged: Heatmaps = (straight + turned) * np.float32(0.5)
        return averaged

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
    """A checkpoint run by PyTorch in float32, eager, on ``device``."""

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


def flip_back(heatmaps_nkhw: Heatmaps, flip_pairs: tuple[tuple[int, int], ...]) -> Heatmaps:
    """Heatmaps (N, K, h, w) of mirrored images, turned back with left and right swapped."""
    turned = heatmaps_nkhw[..., ::-1].copy()
    for left, right in flip_pairs:
        turned[:, [left, right]] = turned[:, [right, left]]
    return turned


def decode_heatmaps(
    heatmaps_nkhw: Heatmaps, rule: str
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Keypoints (N, K, 2) in heatmap pixels and scores (N, K) by the official code's rules.

    ``rule`` is "quarter" (official HRNet, ``lib/core/inference.py``), "dark" (Zhang et al.,
    CVPR 2020) or "none". A maximum that is not positive gives (0, 0).
    """
    count, joints, _, width = heatmaps_nkhw.shape
    flat = heatmaps_nkhw.reshape(count, joints, -1)
    peak = flat.argmax(axis=2)
    scores = flat.max(axis=2)
    keypoints = np.stack([peak % width, peak // width], axis=2).astype(np.float32)
    keypoints[scores <= 0] = 0
    refine = {"quarter": _quarter, "dark": _dark, "none": None}[rule]
    if refine is not None:
        source = _log_smoothed(heatmaps_nkhw) if rule == "dark" else heatmaps_nkhw
        for n, k in np.ndindex(count, joints):
            x, y = keypoints[n, k].astype(int)
            keypoints[n, k] += refine(source[n, k], x, y)
    return keypoints, scores


def _quarter(heatmap: Heatmaps, x: int, y: int) -> NDArray[np.float64]:
    height, width = heatmap.shape
    if not (1 < x < width - 1 and 1 < y < height - 1):
        return np.zeros(2)
    slope = [heatmap[y, x + 1] - heatmap[y, x - 1], heatmap[y + 1, x] - heatmap[y - 1, x]]
    return np.sign(slope) * 0.25


def _dark(log_heatmap: Heatmaps, x: int, y: int) -> NDArray[np.float64]:
    height, width = log_heatmap.shape
    if not (1 < x < width - 2 and 1 < y < height - 2):
        return np.zeros(2)
    h = log_heatmap
    gradient = 0.5 * np.array([h[y, x + 1] - h[y, x - 1], h[y + 1, x] - h[y - 1, x]])
    dxx = 0.25 * (h[y, x + 2] - 2 * h[y, x] + h[y, x - 2])
    dyy = 0.25 * (h[y + 2, x] - 2 * h[y, x] + h[y - 2, x])
    dxy = 0.25 * (h[y + 1, x + 1] - h[y - 1, x + 1] - h[y + 1, x - 1] + h[y - 1, x - 1])
    if dxx * dyy - dxy**2 == 0:
        return np.zeros(2)
    step: NDArray[np.float64] = -np.linalg.inv(np.array([[dxx, dxy], [dxy, dyy]])) @ gradient
    return step


def _log_smoothed(heatmaps_nkhw: Heatmaps) -> Heatmaps:
    """Smoothed by a Gaussian, scaled back to the old peak, and the logarithm taken (DARK)."""
    height = heatmaps_nkhw.shape[2]
    side = 17 if height >= 96 else 11
    result = np.empty_like(heatmaps_nkhw)
    for n, k in np.ndindex(*heatmaps_nkhw.shape[:2]):
        heatmap = heatmaps_nkhw[n, k]
        padded = np.pad(heatmap, side // 2)
        smooth = cv2.GaussianBlur(padded, (side, side), 0)
        smooth = smooth[side // 2 : -(side // 2), side // 2 : -(side // 2)]
        smooth = smooth * (heatmap.max() / smooth.max())
        result[n, k] = np.log(np.maximum(smooth, 1e-10))
    return result
