from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("torch")

from hrnet_deploy.errors import EnvironmentFault, InputError
from hrnet_deploy.export.reference import TorchEngine


@pytest.mark.parametrize(
    ("device", "error", "message"),
    [
        ("cpu,cpu", InputError, "--device: names several, PyTorch runs on one"),
        ("99", EnvironmentFault, "cuda:99: PyTorch sees no CUDA device"),
    ],
)
def test_devices_are_named_as_everywhere(
    tiny: ModuleType, device: str, error: Any, message: str
) -> None:
    """Refused before the network is looked at."""
    import torch

    if torch.cuda.is_available():
        pytest.skip("about machines without a GPU")
    with pytest.raises(error, match=message):
        TorchEngine(tiny.tiny_spec(), None, {}, path="w.pth", device=device)  # type: ignore[arg-type]
