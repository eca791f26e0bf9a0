"""An engine file on the CPU: read from disk, and its graph held against what its spec promises."""

from __future__ import annotations

from pathlib import Path

from hrnet_deploy.engines.manifest import read_manifest
from hrnet_deploy.engines.onnx_file import read_onnx_file, spec_of
from hrnet_deploy.errors import InputError
from hrnet_deploy.spec import (
    HEATMAPS_NAME,
    INPUT_NAME,
    KEYPOINTS_NAME,
    METADATA_KEY,
    SCORES_NAME,
    ModelSpec,
)

MAX_MODEL_BYTES = (2 << 30) - 1
"""The limit of the file format itself (protobuf)."""

UINT8, FLOAT = "tensor(uint8)", "tensor(float)"
"""Element types as the ONNX specification spells them."""

TensorType = tuple[str, list[int | None]]
"""Element type and shape of an input or output; None for a free dimension."""

_AGAIN = "Export the model again"


def read_engine_file(path: Path) -> tuple[bytes, ModelSpec]:
    """The bytes of an ONNX file that this project wrote, and the spec in it.

    Raises InputError for what cannot be read, is no whole ONNX file or not ours.
    """
    content = _read_bytes(path)
    return content, spec_of(read_onnx_file(content, path), path)


def carried_spec(path: Path) -> ModelSpec | None:
    """What an engine file says that it does; of a plan the manifest alone is read.

    None for a foreign ONNX file and for what is no engine. Raises InputError for what cannot be
    read or is not whole.
    """
    suffix = path.suffix.lower()
    if suffix == ".plan":
        return read_manifest(path).spec
    if suffix != ".onnx":
        return None
    file = read_onnx_file(_read_bytes(path), path)
    return spec_of(file, path) if METADATA_KEY in file.metadata else None


def _read_bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_MODEL_BYTES:
            raise InputError(path, "is not a valid ONNX file (above 2 GB)", _AGAIN)
        return path.read_bytes()
    except OSError as error:
        problem = f"cannot be read ({error.strerror or error})"
        raise InputError(path, problem, "Check that it is there and readable") from error


def check_signature(
    inputs: dict[str, TensorType], outputs: dict[str, TensorType], spec: ModelSpec, path: Path
) -> None:
    """Raise InputError unless names, types and shapes of a graph are those of its spec."""
    batch, joints = spec.static_batch, spec.joints
    wanted_inputs: dict[str, TensorType] = {INPUT_NAME: (UINT8, [batch, *spec.input_size_hw, 3])}
    wanted_outputs: dict[str, TensorType] = {
        KEYPOINTS_NAME: (FLOAT, [batch, joints, 2]),
        SCORES_NAME: (FLOAT, [batch, joints]),
    }
    if spec.has_heatmaps:
        wanted_outputs[HEATMAPS_NAME] = (FLOAT, [batch, joints, *spec.heatmap_size_hw])
    _check("inputs", inputs, wanted_inputs, path)
    _check("outputs", outputs, wanted_outputs, path)


def _check(
    side: str, got: dict[str, TensorType], wanted: dict[str, TensorType], path: Path
) -> None:
    if set(got) != set(wanted):
        problem = f"its {side} are {', '.join(sorted(got))}, expected {', '.join(sorted(wanted))}"
        raise InputError(path, problem, _AGAIN)
    for name, expected in wanted.items():
        if got[name] != expected:
            problem = f"its {side[:-1]} {name} is {_words(got[name])}, expected {_words(expected)}"
            raise InputError(path, problem, _AGAIN)


def _words(value: TensorType) -> str:
    shape = ", ".join("N" if size is None else str(size) for size in value[1])
    return f"{value[0]} ({shape})"
