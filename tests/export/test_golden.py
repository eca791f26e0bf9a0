"""Full-size networks against the heatmaps and keypoints of the official implementation."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("onnx")
torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from hrnet_deploy.engines import load_engine  # noqa: E402
from hrnet_deploy.export.checkpoint import read_checkpoint  # noqa: E402
from hrnet_deploy.export.model import build_hrnet  # noqa: E402
from hrnet_deploy.export.run import checkpoint_spec, reference_engine  # noqa: E402
from hrnet_deploy.export.settings import ExportSettings  # noqa: E402
from hrnet_deploy.runtime.geometry import CropGeometry  # noqa: E402

MODELS = {
    "w32_256x192": ("w32_17", (256, 192)),
    "w32_384x288": ("w32_17", (384, 288)),
    "w48_384x288": ("w48_17", (384, 288)),
    "w32_mpii_256x256": ("w32_16", (256, 256)),
}
HEATMAP_ERROR = 1e-4


def generator(shared: Path) -> ModuleType:
    path = shared / "golden" / "make_checkpoint.py"
    found = importlib.util.spec_from_file_location("make_checkpoint", path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.mark.parametrize("model", MODELS)
def test_engine_and_reference_equal_the_official_network(
    shared: Path, tmp_path: Path, model: str
) -> None:
    keys, size = MODELS[model]
    names = json.loads((shared / "golden" / f"{keys}.keys.json").read_text())
    arrays = generator(shared).state_dict(names, 0)
    path = tmp_path / f"{model}.pth"
    torch.save({name: torch.from_numpy(np.asarray(v)) for name, v in arrays.items()}, path)
    golden = np.load(shared / "golden" / f"network_{model}.npz")
    crops = np.ascontiguousarray(golden["crops_rgb"][..., ::-1])

    checkpoint = read_checkpoint(path)
    settings = ExportSettings(input_size_hw=size)
    spec = checkpoint_spec(checkpoint, settings, say=lambda line: None)
    onnx_path = tmp_path / f"{model}.onnx"
    built = build_hrnet(spec, checkpoint.architecture, arrays, source=path)
    onnx_path.write_bytes(built.SerializeToString())

    single = dataclasses.replace(spec, flip_test=False, shift_heatmap=False)
    with reference_engine(checkpoint, single) as torch_engine:
        heatmaps = torch_engine.run(crops, heatmaps=True).heatmaps_nkhw
        assert np.abs(heatmaps - golden["heatmaps"]).max() <= HEATMAP_ERROR
    with load_engine(onnx_path) as engine:
        output = engine.run(crops, heatmaps=True)
        assert np.abs(output.heatmaps_nkhw - golden["heatmaps_flip"]).max() <= HEATMAP_ERROR
        geometry = CropGeometry(golden["center"], golden["scale"], spec.input_size_wh)
        keypoints_px = geometry.to_image(output.keypoints_heatmap, spec.heatmap_size_wh)
    flat = golden["heatmaps_flip"].reshape(*keypoints_px.shape[:2], -1)
    best = np.sort(flat, axis=2)[..., -2:]
    decisive = best[..., 1] - best[..., 0] > 2 * HEATMAP_ERROR
    assert decisive.mean() > 0.9
    official = golden["keypoints_flip"]
    np.testing.assert_allclose(keypoints_px[decisive], official[decisive], atol=1e-3)
