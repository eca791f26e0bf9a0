"""What every backend of a detector is: arrays in and out by name."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.closing import Closing
from hrnet_deploy.engines.onnx_file import OnnxFile, read_onnx_file
from hrnet_deploy.files import check_input_file
from hrnet_deploy.predict.detector.candidates import Arrays, Signature

Inputs = dict[str, NDArray[Any]]
TYPES: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
}
"""Element types by the names that ONNX Runtime gives them."""


RUN_FIX = "Check --detector-config, above all size_hw and batch"
"""What is wrong when a graph that could be loaded cannot be run."""


class DetectorSession(Closing):
    """Runs batches by name; ``signature`` says what goes in and comes out.

    A backend implements ``_infer``, and says its ``device`` and ``versions`` ("cpu",
    ``{"onnxruntime": "1.32.0"}``).
    """

    signature: Signature
    device: str
    versions: dict[str, str]

    @property
    def batches(self) -> tuple[int, int | None]:
        """Fewest and most pictures in a batch; None for any number."""
        fixed = self.signature.batch
        return fixed or 1, fixed

    def run(self, inputs: Inputs) -> Arrays:
        """All outputs as float64, by name; inputs are cast to the graph's own types."""
        typed = {
            name: np.ascontiguousarray(array, TYPES.get(self.signature.inputs[name][0]))
            for name, array in inputs.items()
        }
        return {name: np.asarray(array, np.float64) for name, array in self._infer(typed).items()}

    @abstractmethod
    def _infer(self, inputs: Inputs) -> dict[str, NDArray[Any]]:
        """Every output by name."""

    def close(self) -> None:
        """Let go of the graph; most backends do that when they are collected."""


def read_detector(path: Path) -> tuple[bytes, OnnxFile]:
    """The bytes of a detector and what the file says of itself.

    Raises InputError for a file that is not whole or has tensors in other files.
    """
    content = check_input_file(path, what="detector").read_bytes()
    return content, read_onnx_file(content, path)
