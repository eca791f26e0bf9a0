"""The crop kernel on the GPU: identity with OpenCV, and its rate."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import cv2
import numpy as np

from gpu_suite import Context, Missing, needed, needed_gpu
from gpu_suite.timing import rate

SIZE_WH = (192, 256)
FRAME_HW = (1080, 1920)
FRAMES = 8
CROPS = 256


def run(context: Context) -> dict[str, Any]:
    """Cut crops of random persons in random frames, compare them with cv2, then time the kernel."""
    needed("cuda.bindings")
    needed_gpu(context)
    if not context.on_gpu:
        raise Missing("the kernel runs on a GPU alone")
    from hrnet_deploy.engines.cuda.device import Device

    with closing(Device(int(context.device.partition(":")[2] or 0))) as device, device:
        return _measure(context, device)


def _measure(context: Context, device: Any) -> dict[str, Any]:
    from hrnet_deploy.engines.cuda.frames import CropCutter, FrameUpload
    from hrnet_deploy.runtime.geometry import CropGeometry

    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (*FRAME_HW, 3), dtype=np.uint8) for _ in range(FRAMES)]
    sides = 10 ** rng.uniform(0.5, 3.2, (CROPS, 2))
    corners = rng.uniform(-300, 1900, (CROPS, 2))
    geometry = CropGeometry.from_boxes_xywh(np.concatenate([corners, sides], 1), SIZE_WH)
    of_crop = rng.integers(0, FRAMES, CROPS)
    stream, cutter, upload = device.stream(), CropCutter(device), FrameUpload(device)
    size = CROPS * SIZE_WH[0] * SIZE_WH[1] * 3
    target, result = device.allocate(size), device.pinned((CROPS, *SIZE_WH[::-1], 3), np.uint8)
    records = upload.send(frames, geometry.image_to_input, of_crop, stream)

    def cut(count: int) -> None:
        for _ in range(count):
            cutter.cut(*records, CROPS, target, SIZE_WH, stream)
        device.drain(stream)

    cut(1)
    device.download(result.address, target, size, stream)
    device.drain(stream)
    expected = np.stack(
        [
            cv2.warpAffine(frames[frame], affine, SIZE_WH, flags=cv2.INTER_LINEAR)
            for frame, affine in zip(of_crop, geometry.image_to_input, strict=True)
        ]
    )
    difference = np.abs(result.array.astype(np.int16) - expected)
    return {
        "opencv": cv2.__version__,
        "crops": CROPS,
        "different_values": int((difference > 0).sum()),
        "largest_difference": int(difference.max()),
        "kernel": rate(CROPS, cut, context.seconds),
    }
