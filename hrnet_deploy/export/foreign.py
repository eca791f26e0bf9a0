"""Heatmap networks that somebody else exported: checked, modernised and run as a reference."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.engines import EngineInfo
from hrnet_deploy.engines.onnxruntime import RunFault
from hrnet_deploy.errors import DeployError, InputError, command_line, require
from hrnet_deploy.export.cpu_session import CpuSession
from hrnet_deploy.export.graph import IR_VERSIONS, OPSET, GraphWriter
from hrnet_deploy.export.reference import Heatmaps, ReferenceEngine
from hrnet_deploy.files import check_input_file, sha256_file
from hrnet_deploy.spec import METADATA_KEY, ModelSpec

if TYPE_CHECKING:
    import onnx

FLOAT32 = 1
"""``TensorProto.FLOAT``."""

BATCH = "B"
"""Name of the dynamic batch dimension of the network's input."""

PREFIX = "network/"
"""Put before every name of the foreign graph, so that none meets one of ours."""

MIN_OPSET = 7
"""The oldest opset that the converter of the onnx package takes without losses."""

AGREEMENT = 1e-4
"""Largest difference between a batch of two and two single runs that still is rounding."""


@dataclass(frozen=True)
class ForeignNetwork:
    """A network from images (B, 3, h, w) float32 to heatmaps (B, K, h', w') float32.

    ``model`` stands at our opset, with every name prefixed. ``batch`` is None where dynamic.
    """

    path: Path
    sha256: str
    model: onnx.ModelProto
    input_name: str
    output_name: str
    input_size_hw: tuple[int, int]
    heatmap_size_hw: tuple[int, int]
    joints: int
    batch: int | None

    def write(self, graph: GraphWriter, images: str) -> str:
        """Append the network's nodes to ``graph``, reading ``images``."""
        nodes = list(self.model.graph.node)
        for node in nodes:
            node.input[:] = [images if name == self.input_name else name for name in node.input]
        graph.extend(nodes, list(self.model.graph.initializer))
        return self.output_name


def read_foreign(
    path: Path, input_name: str | None = None, output_name: str | None = None
) -> ForeignNetwork:
    """Read an ONNX heatmap network; its batch is made dynamic where that gives equal results.

    ``input_name`` and ``output_name`` are needed only where there are several.
    Raises InputError where the file is damaged, keeps weights outside itself, or is not a network
    of one NCHW image input and one heatmap output.
    """
    onnx = require("onnx", extra="export", purpose="adopt")
    if path.suffix.lower() in (".pth", ".pt", ".safetensors"):
        fix = f"To make an engine of it: {command_line('export', path)}"
        raise InputError(path, "is a checkpoint, not an ONNX file", fix)
    model = _load(check_input_file(path, what=".onnx file"))
    if any(entry.key == METADATA_KEY for entry in model.metadata_props):
        raise InputError(path, "is an engine already", "Use it as it is")
    _check_self_contained(model, path)
    model = _modernised(model, path)
    model = onnx.compose.add_prefix(model, PREFIX)
    image = _input(model, path, input_name)
    heatmap = _output(model, path, output_name)
    input_shape, output_shape = _shape(image), _shape(heatmap)
    batch = _make_dynamic(model, image, heatmap, path)
    if len(output_shape) != 4 or not all(output_shape[1:]):
        raise InputError(
            path,
            f"its output {_plain(heatmap.name)} has shape {output_shape}, not (B, K, h, w)",
            "Export the network up to its heatmaps, with a fixed image size",
        )
    return ForeignNetwork(
        path=path,
        sha256=sha256_file(path),
        model=model,
        input_name=image.name,
        output_name=heatmap.name,
        input_size_hw=(input_shape[2], input_shape[3]),
        heatmap_size_hw=(output_shape[2], output_shape[3]),
        joints=output_shape[1],
        batch=batch,
    )


def _load(path: Path) -> onnx.ModelProto:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load(str(path), load_external_data=False)
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError, UnicodeDecodeError) as error:
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else "no detail"
        raise InputError(
            path, f"is not a valid ONNX file ({reason})", "Download or export it again"
        ) from error
    return model


def _check_self_contained(model: onnx.ModelProto, path: Path) -> None:
    """Weights in other files are refused by name: their paths cannot be trusted."""
    for tensor in model.graph.initializer:
        if tensor.external_data:
            raise InputError(
                path,
                f"keeps the tensor '{tensor.name}' in another file",
                "Save it as one file (onnx.save with save_as_external_data=False)",
            )


def _modernised(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """The same network at our opset, without initialisers among its inputs."""
    from onnx import version_converter

    domains = {entry.domain: entry.version for entry in model.opset_import}
    if foreign := sorted(set(domains) - {"", "ai.onnx"}):
        used = {node.domain for node in model.graph.node}
        if bad := sorted(used & set(foreign)):
            raise InputError(
                path,
                f"uses operators of the domain '{bad[0]}'",
                "Export it with standard operators",
            )
    opset = domains.get("", domains.get("ai.onnx", 0))
    if not MIN_OPSET <= opset <= OPSET:
        raise InputError(
            path,
            f"has opset {opset}, supported are {MIN_OPSET} to {OPSET}",
            f"Export it with opset {OPSET}",
        )
    _drop_initialiser_inputs(model)
    _drop_spatial_flags(model)
    try:
        return version_converter.convert_version(model, OPSET) if opset < OPSET else model
    except DeployError:
        raise
    except Exception as error:  # the converter raises plain RuntimeError and C++ exceptions
        reason = str(error).splitlines()[0][:160]
        raise InputError(
            path,
            f"cannot be converted from opset {opset} to {OPSET} ({reason})",
            f"Export it with opset {OPSET}",
        ) from error


def _drop_initialiser_inputs(model: onnx.ModelProto) -> None:
    """Old exporters list every weight as an input, which keeps runtimes from folding it."""
    weights = {tensor.name for tensor in model.graph.initializer}
    kept = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    model.ir_version = max(model.ir_version, IR_VERSIONS[OPSET])


def _drop_spatial_flags(model: onnx.ModelProto) -> None:
    """``spatial=0`` with one value a channel (old MXNet exports) can only mean per channel.

    ONNX Runtime reads it so; opset 9 removed the attribute and the converter refuses it.
    """
    for node in model.graph.node:
        if node.op_type == "BatchNormalization":
            kept = [a for a in node.attribute if a.name not in ("spatial", "consumed_inputs")]
            del node.attribute[:]
            node.attribute.extend(kept)


def _input(model: onnx.ModelProto, path: Path, name: str | None) -> onnx.ValueInfoProto:
    """The image input, (B, 3, h, w) float32 with a fixed size."""
    found = ", ".join(f"{_plain(v.name)} {_written(_shape(v))}" for v in model.graph.input)
    chosen = [v for v in model.graph.input if name in (None, _plain(v.name))]
    if len(chosen) != 1 or len(model.graph.input) != 1:
        wanted = f"the recipe's '{name}'" if name else "one image"
        raise InputError(
            path, f"its inputs are {found or 'none'}, not {wanted} alone", "Export the bare network"
        )
    image: onnx.ValueInfoProto = chosen[0]
    shape = _shape(image)
    if len(shape) != 4 or shape[1] != 3 or not all(shape[2:]):
        raise InputError(
            path,
            f"its input {_plain(image.name)} has shape {shape}, not (B, 3, h, w) of fixed size",
            "Export the network with an NCHW image input of fixed size",
        )
    if image.type.tensor_type.elem_type != FLOAT32:
        raise InputError(
            path,
            f"its input {_plain(image.name)} is not float32",
            "Export the bare network in float32, without pre-processing",
        )
    return image


def _output(model: onnx.ModelProto, path: Path, name: str | None) -> onnx.ValueInfoProto:
    """The heatmap output; others are dropped from the model."""
    chosen = [v for v in model.graph.output if name in (None, _plain(v.name))]
    if len(chosen) != 1:
        names = ", ".join(_plain(v.name) for v in model.graph.output)
        raise InputError(
            path, f"its outputs are {names}", "Name the heatmaps as output_name in the recipe"
        )
    del model.graph.output[:]
    model.graph.output.extend(chosen)
    heatmap: onnx.ValueInfoProto = model.graph.output[0]
    return heatmap


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    """Its dimensions, 0 where dynamic."""
    return tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)


def _written(shape: tuple[int, ...]) -> str:
    return f"({', '.join(str(size) if size else 'N' for size in shape)})"


def _plain(name: str) -> str:
    return name.removeprefix(PREFIX)


def _make_dynamic(
    model: onnx.ModelProto, image: onnx.ValueInfoProto, heatmap: onnx.ValueInfoProto, path: Path
) -> int | None:
    """Free the batch dimension; give back the fixed one where the network does not allow it."""
    fixed = _shape(image)[0]
    before = model.SerializeToString()
    for value in (image, heatmap):
        value.type.tensor_type.shape.dim[0].dim_param = BATCH
    del model.graph.value_info[:]
    if _batch_is_free(model, image, path):
        return None
    model.ParseFromString(before)
    return fixed or 1


def _batch_is_free(model: onnx.ModelProto, image: onnx.ValueInfoProto, path: Path) -> bool:
    """Whether a batch of two gives what two single images give."""
    images = np.random.default_rng(0).standard_normal((2, *_shape(image)[1:])).astype(np.float32)
    try:
        session = CpuSession(model.SerializeToString(), path, purpose="adopt")
        both, *single = (
            session.run({image.name: part})[0] for part in (images, images[:1], images[1:])
        )
    except (InputError, RunFault):  # anything else, such as a missing package, is no answer
        return False
    expected = np.concatenate(single)
    return both.shape == expected.shape and bool(np.abs(both - expected).max() <= AGREEMENT)


class ForeignEngine(ReferenceEngine):
    """The foreign file exactly as it came, at its own batch, with the rest done in numpy."""

    def __init__(self, network: ForeignNetwork, spec: ModelSpec) -> None:
        ort = require("onnxruntime", extra="cpu", purpose="adopt")
        info = EngineInfo(
            backend="onnxruntime",
            device="cpu",
            path=str(network.path),
            sha256=network.sha256,
            precision="fp32",
            versions={"onnxruntime": ort.__version__},
        )
        made = (network.input_size_hw, network.heatmap_size_hw, network.joints)
        if made != (spec.input_size_hw, spec.heatmap_size_hw, spec.joints):
            sizes = "{0[0]}x{0[1]} to {1[0]}x{1[1]} with {2} keypoints"
            wanted = sizes.format(spec.input_size_hw, spec.heatmap_size_hw, spec.joints)
            problem = f"goes from {sizes.format(*made)}, the other one from {wanted}"
            raise InputError(network.path, problem, "Compare artefacts of one model")
        super().__init__(spec, info, max_batch=1)
        content = network.path.read_bytes()
        self._session = CpuSession(content, network.path, purpose="adopt")
        self._input, self._output = _plain(network.input_name), _plain(network.output_name)

    def _forward(self, images_nchw: NDArray[np.float32]) -> Heatmaps:
        heatmaps: Heatmaps = self._session.run({self._input: images_nchw}, [self._output])[0]
        return heatmaps
