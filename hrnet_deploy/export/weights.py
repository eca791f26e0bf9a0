"""From the tensors of a checkpoint to a clean official state dict and its architecture."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hrnet_deploy.errors import InputError, Subject
from hrnet_deploy.export.architecture import (
    HRNetArchitecture,
    StageArchitecture,
    published_architecture,
)
from hrnet_deploy.values import first_few

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from hrnet_deploy.export.stored_config import StoredConfig

WRAPPER_PREFIXES = ("module.", "_orig_mod.", "model.")
"""What DataParallel, ``torch.compile`` and training wrappers put before every name."""

_COUNTER = "num_batches_tracked"
_VARIANCE = "running_var"
_OUTER_KERNELS = ("conv1.weight", "conv2.weight", "layer1.0.conv1.weight", "final_layer.weight")
"""The convolutions around the stages, without which there is nothing to recognise."""

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read and recognised.

    ``state_dict`` holds float32 tensors under the official names and fits ``architecture``
    exactly (integer counters of the normalisations excepted, which stay int64). ``flavour`` is
    the layout it came in ("official", "official-training", "mmpose-0.x", "mmpose-1.x", with
    "safetensors" for that container). ``stored`` is what the file says of its training, None
    where it says nothing; ``notes`` what was stripped, converted or chosen, for stderr.
    """

    path: Path
    sha256: str
    state_dict: dict[str, torch.Tensor]
    architecture: HRNetArchitecture
    flavour: str
    stored: StoredConfig | None
    notes: tuple[str, ...]

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """The state dict as numpy arrays, which share its memory."""
        return {name: tensor.numpy() for name, tensor in self.state_dict.items()}

    @property
    def joints(self) -> int:
        """The number of output channels K."""
        return self.architecture.joints

    @property
    def parameters(self) -> int:
        """Learned numbers, running statistics left out."""
        learned = (k for k in self.state_dict if not re.search(r"running_|num_batches", k))
        return sum(self.state_dict[name].numel() for name in learned)

    @property
    def stored_input_size_hw(self) -> tuple[int, int] | None:
        """The input size that the file's own configuration names."""
        return self.stored.input_size_hw if self.stored else None


def without_wrappers(names: Iterable[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Map every name to itself without common wrapper prefixes, and list those taken off."""
    translated = {name: name for name in names}
    taken: list[str] = []
    while translated:
        prefix = next(
            (p for p in WRAPPER_PREFIXES if all(v.startswith(p) for v in translated.values())), None
        )
        if prefix is None:
            break
        translated = {name: value.removeprefix(prefix) for name, value in translated.items()}
        taken.append(prefix)
    return translated, tuple(taken)


def official_names(names: Iterable[str]) -> tuple[dict[str, str], str]:
    """Map mmpose's names to the official ones; the flavour says which layout it was.

    A name that has no official counterpart is kept, for the strict comparison to name it.
    """
    translated = {name: name for name in names}
    if not any(name.startswith("backbone.") for name in translated):
        return translated, "official"
    flavour = "mmpose-0.x"
    for name in translated:
        head = re.fullmatch(r"(keypoint_)?head\.(final_layer\.\w+)", name)
        if name.startswith("backbone."):
            translated[name] = name.removeprefix("backbone.")
        elif head:
            translated[name] = head[2]
            flavour = "mmpose-0.x" if head[1] else "mmpose-1.x"
    return translated, flavour


def architecture_of(path: Subject, shapes: Shapes) -> HRNetArchitecture:
    """Read the architecture off names and shapes, which must fit it exactly.

    Raises InputError: another network, missing or extra tensors, or tensors of another shape.
    """
    stages = _stages(shapes)
    if not stages:
        reference = expected_shapes(published_architecture(32, 17))
        raise _another_network(path, shapes, [key for key in reference if key not in shapes])
    absent = [name for name in _OUTER_KERNELS if not _is_kernel(shapes.get(name))]
    if absent:
        raise _another_network(path, shapes, absent)
    joints, _, kernel, _ = shapes["final_layer.weight"]
    architecture = HRNetArchitecture(
        joints=joints,
        stages=stages,
        stem=(shapes["conv1.weight"][0], shapes["conv2.weight"][0]),
        layer1_planes=shapes["layer1.0.conv1.weight"][0],
        layer1_blocks=_count(shapes, r"layer1\.(\d+)\.conv1\.weight"),
        final_kernel=kernel,
    )
    _compare(path, shapes, expected_shapes(architecture))
    return architecture


def _stages(shapes: Shapes) -> tuple[StageArchitecture, ...]:
    stages: list[StageArchitecture] = []
    number = 2
    while modules := _count(shapes, rf"stage{number}\.(\d+)\.branches\.0\.0\.conv1\.weight"):
        first = rf"stage{number}\.0\.branches"
        branches = _count(shapes, rf"{first}\.(\d+)\.0\.conv1\.weight")
        names = [f"stage{number}.0.branches.{b}.0.conv1.weight" for b in range(branches)]
        if any(not _is_kernel(shapes.get(name)) for name in names):
            return ()
        if stages and branches < len(stages[-1].widths):  # a network never closes a branch
            return ()
        blocks = (_count(shapes, rf"{first}\.{b}\.(\d+)\.conv1\.weight") for b in range(branches))
        widths = tuple(shapes[name][0] for name in names)
        stages.append(StageArchitecture(modules, widths, tuple(blocks)))
        number += 1
    return tuple(stages)


def _is_kernel(shape: tuple[int, ...] | None) -> bool:
    return shape is not None and len(shape) == 4 and min(shape) > 0


def _count(shapes: Shapes, pattern: str) -> int:
    """How many different numbers stand at the group of ``pattern``."""
    matches = (re.fullmatch(pattern, name) for name in shapes)
    return len({match[1] for match in matches if match})


def expected_shapes(architecture: HRNetArchitecture) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the network's state dict, without allocating its weights."""
    import torch

    from hrnet_deploy.export.hrnet import HRNet

    with torch.device("meta"):
        network = HRNet(architecture)
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def _compare(path: Subject, shapes: Shapes, expected: Shapes) -> None:
    """Exact equality; the counters of the normalisations alone may be absent (PyTorch < 0.4.1)."""
    missing = [k for k in expected if k not in shapes and not k.endswith(_COUNTER)]
    extra = [k for k in shapes if k not in expected]
    if len(missing) > len(expected) // 10:
        raise _another_network(path, shapes, missing)
    if missing or extra:
        parts = [_listed("missing", missing), _listed("unexpected", extra)]
        problem = "does not fit its own architecture: " + "; ".join(p for p in parts if p)
        raise InputError(path, problem, "Use a complete checkpoint of an HRNet pose model")
    for name, shape in expected.items():
        if name in shapes and shapes[name] != shape:
            problem = f"{name} has shape {shapes[name]}, its architecture needs {shape}"
            raise InputError(path, problem, "Use a complete checkpoint of an HRNet pose model")


def _listed(what: str, names: list[str]) -> str:
    """The first three names and the count."""
    if not names:
        return ""
    more = f" (and {len(names) - 3} more)" if len(names) > 3 else ""
    return f"{len(names)} {what}, e.g. {', '.join(names[:3])}{more}"


def _another_network(path: Subject, shapes: Shapes, missing: list[str]) -> InputError:
    resembles = _resembles(shapes)
    problem = f"is not a top-down HRNet pose model{f' ({resembles})' if resembles else ''}: "
    # The far end tells networks apart, so name what is missing from there.
    late = [k for k in missing if k.startswith(("stage4", "final_layer"))] or missing
    problem += f"missing {len(missing)} tensors, e.g. {', '.join(late[:3])}; it has {len(shapes)}"
    if shapes:
        problem += f", e.g. {', '.join(list(shapes)[:3])}"
    return InputError(path, problem, "Pass the checkpoint of a top-down HRNet pose model")


_FAMILIES = (
    (r"(incre_modules|downsamp_modules|classifier)\.", "looks like an HRNet classifier"),
    (r"(.*\.)?(deconv_layers|final_layers)\.", "looks like HigherHRNet or a bottom-up head"),
    (r"(last_layer|ocr_)", "looks like HRNet segmentation"),
    (r"(.*\.)?stage\d\.\d+\.layers\.", "looks like Lite-HRNet"),
    (r"(.*\.)?layer4\.\d+\.conv1\.weight", "looks like a ResNet"),
    (r"(.*\.)?(blocks|layers)\.\d+\.attn\.", "looks like a vision transformer"),
)


def _resembles(shapes: Shapes) -> str:
    for pattern, name in _FAMILIES:
        if any(re.match(pattern, key) for key in shapes):
            return name
    return ""


def clean_tensors(
    path: Subject, tensors: Mapping[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """Float32 copies of finite weights, with a note on what was converted.

    Raises InputError for integer or complex weights, for NaN and infinity (also those that a
    64-bit value becomes), naming the tensor and the count.
    """
    import torch

    converted: dict[str, int] = {}
    clean = {}
    broken: list[tuple[str, int]] = []
    negative: list[str] = []
    for name, tensor in tensors.items():
        if name.endswith(_COUNTER):
            clean[name] = tensor.to(torch.int64)
            continue
        if not tensor.is_floating_point():
            problem = f"{name} holds {_plain_dtype(tensor)} values, weights are floating point"
            raise InputError(path, problem, "Use the checkpoint from before quantisation")
        if tensor.dtype != torch.float32:
            converted[_plain_dtype(tensor)] = converted.get(_plain_dtype(tensor), 0) + 1
        clean[name] = tensor.to(torch.float32).contiguous()
        if bad := int((~torch.isfinite(clean[name])).sum()):
            broken.append((name, bad))
        elif name.endswith(_VARIANCE) and bool((clean[name] < 0).any()):
            negative.append(name)
    if negative:
        problem = f"{first_few(negative)} holds negative values, variances have none"
        raise InputError(path, problem, "Download it again, or use an earlier checkpoint")
    if broken:
        more = f" ({len(broken)} tensors are affected)" if len(broken) > 1 else ""
        problem = f"{broken[0][0]} holds {broken[0][1]} NaN or infinite values{more}"
        raise InputError(path, problem, "Use a checkpoint from before the training diverged")
    return clean, tuple(
        f"converted {n} {dtype} tensors to float32" for dtype, n in converted.items()
    )


def _plain_dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def with_counters(
    tensors: dict[str, torch.Tensor], expected: Shapes
) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """Add absent normalisation counters as zero, which inference never reads, in model order."""
    import torch

    absent = [name for name in expected if name not in tensors]
    complete = {name: tensors.get(name, torch.zeros((), dtype=torch.int64)) for name in expected}
    note = f"added {len(absent)} {_COUNTER} counters, which inference does not use"
    return complete, (note,) if absent else ()
