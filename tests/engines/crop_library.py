"""``crop.cu`` compiled by the host compiler, callable from the tests."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.engines.cuda.compile import CROP_SOURCE
from hrnet_deploy.engines.cuda.crops import BLOCK, crop_records, frame_record, grid

SHIM = Path(__file__).with_name("cuda_shim.h")

ENTRY = """
extern "C" void crop_on_host(
    const unsigned* grid, const unsigned* block,
    const Frame* frames, const Crop* crops, unsigned char* out, int width, int height)
{
    for_each_thread({grid[0], grid[1], grid[2]}, {block[0], block[1], block[2]},
                    [=] { crop_bgr(frames, crops, out, width, height); });
}
"""


def compiler() -> str | None:
    return shutil.which("g++") or shutil.which("clang++")


class CropLibrary:
    """The kernel on the CPU: the same records, the same grid."""

    def __init__(self, folder: Path) -> None:
        source = folder / "crop_on_host.cpp"
        source.write_text(f'#include "{SHIM}"\n#include "{CROP_SOURCE}"\n{ENTRY}')
        library = folder / "crop_on_host.so"
        flags = ["-O2", "-std=c++17", "-Wall", "-Werror", "-ffp-contract=off", "-shared", "-fPIC"]
        command = [str(compiler()), *flags, "-o", str(library), str(source)]
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
        self._function = ctypes.CDLL(str(library)).crop_on_host

    def cut(
        self,
        frames: list[NDArray[np.uint8]],
        image_to_input: NDArray[np.float64],
        frame_of_crop: NDArray[np.integer],
        size_wh: tuple[int, int],
    ) -> NDArray[np.uint8]:
        width, height = size_wh
        records = np.concatenate(
            [
                frame_record(frame.ctypes.data, frame.strides[0], (frame.shape[1], frame.shape[0]))
                for frame in frames
            ]
        )
        crops = crop_records(image_to_input, frame_of_crop)
        out = np.full((len(crops), height, width, 3), 77, np.uint8)
        self._function(
            (ctypes.c_uint * 3)(*grid(len(crops), size_wh)),
            (ctypes.c_uint * 3)(*BLOCK),
            ctypes.c_void_p(records.ctypes.data),
            ctypes.c_void_p(crops.ctypes.data),
            ctypes.c_void_p(out.ctypes.data),
            width,
            height,
        )
        return out
