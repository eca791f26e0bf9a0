"""What an mmpose checkpoint says about itself: input size, keypoints, geometry, decoding.

mmpose stores the training configuration as Python source text. It is parsed, never run: only
assignments of literals and ``dict(...)`` calls are read, everything else is left out.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hrnet_deploy.export.stored_keypoints import known_set, set_from_info
from hrnet_deploy.keypoints import KeypointSet
from hrnet_deploy.values import is_number

MAX_CONFIG_CHARACTERS = 2_000_000
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class StoredConfig:
    """Facts found in a checkpoint's ``meta``; None where it does not say.

    ``dataset`` is mmpose's name of the data set, ``keypoints`` its keypoint set where that is
    known or fully described. ``mean_rgb`` and ``std_rgb`` are in units of 1/255 grey levels.
    ``udp`` tells that the model was trained with UDP's own geometry.
    """

    input_size_hw: tuple[int, int] | None = None
    dataset: str | None = None
    keypoints: KeypointSet | None = None
    shift_heatmap: bool | None = None
    decode: Literal["quarter", "dark"] | None = None
    mean_rgb: Triple | None = None
    std_rgb: Triple | None = None
    network_color_order: Literal["rgb", "bgr"] | None = None
    udp: bool = False


def read_stored_config(meta: object) -> StoredConfig | None:
    """The facts in ``meta`` of an mmpose checkpoint; None where it holds none of them."""
    if not isinstance(meta, Mapping):
        return None
    text = next((meta[k] for k in ("cfg", "config") if isinstance(meta.get(k), str)), "")
    config = parse_config(text)
    dataset_meta = meta.get("dataset_meta")
    if not config and not isinstance(dataset_meta, Mapping):
        return None
    dataset, keypoints = _keypoints(config, dataset_meta)
    mean, std, order = _normalisation(config)
    return StoredConfig(
        input_size_hw=_input_size_hw(config),
        dataset=dataset,
        keypoints=keypoints,
        shift_heatmap=_first_bool(config, "shift_heatmap"),
        decode=_decode(config),
        mean_rgb=mean,
        std_rgb=std,
        network_color_order=order,
        udp=_is_udp(config),
    )


def parse_config(text: str) -> dict[str, Any]:
    """Top-level ``name = literal`` assignments of Python source; {} where it cannot be parsed."""
    if not text or len(text) > MAX_CONFIG_CHARACTERS:
        return {}
    try:
        module = ast.parse(text)
        return {
            target.id: _literal(node.value)
            for node in module.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}


def _literal(node: ast.expr) -> Any:
    """Literals, containers and ``dict(...)``; None for every other expression."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _literal(node.operand)
        return -value if isinstance(value, (int, float)) else None
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_literal(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        keys = [None if key is None else _literal(key) for key in node.keys]
        pairs = zip(keys, node.values, strict=True)
        return {key: _literal(v) for key, v in pairs if isinstance(key, (str, int))}
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
        first = _literal(node.args[0]) if node.args else {}
        named = {k.arg: _literal(k.value) for k in node.keywords if k.arg}
        return {**first, **named} if isinstance(first, dict) else named
    return None


def _dicts(value: Any) -> Iterator[dict[Any, Any]]:
    """Every dictionary inside ``value``, outermost first."""
    if isinstance(value, dict):
        yield value
    if isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _dicts(item)


def _values(config: dict[str, Any], key: str) -> Iterator[Any]:
    return (found[key] for found in _dicts(config) if key in found)


def _first_bool(config: dict[str, Any], key: str) -> bool | None:
    return next((value for value in _values(config, key) if isinstance(value, bool)), None)


def _input_size_hw(config: dict[str, Any]) -> tuple[int, int] | None:
    """Turn (width, height) round: ``data_cfg.image_size`` in 0.x, ``codec.input_size`` in 1.x."""
    for key in ("image_size", "input_size"):
        for value in _values(config, key):
            if (
                isinstance(value, list)
                and len(value) == 2
                and all(isinstance(side, int) and side > 0 for side in value)
            ):
                return value[1], value[0]
    return None


def _is_udp(config: dict[str, Any]) -> bool:
    """``use_udp=True`` in 0.x, the codec ``UDPHeatmap`` or ``TopdownAffine(use_udp)`` in 1.x."""
    types = (value for value in _values(config, "type") if isinstance(value, str))
    return any(value is True for value in _values(config, "use_udp")) or "UDPHeatmap" in types


def _decode(config: dict[str, Any]) -> Literal["quarter", "dark"] | None:
    """DARK is ``post_process='unbiased'`` in 0.x and ``unbiased=True`` of the codec in 1.x."""
    if "unbiased" in _values(config, "post_process"):
        return "dark"
    if any(v is True for key in ("unbiased", "unbiased_decoding") for v in _values(config, key)):
        return "dark"
    return "quarter" if config else None


def _normalisation(
    config: dict[str, Any],
) -> tuple[Triple | None, Triple | None, Literal["rgb", "bgr"] | None]:
    """Mean, standard deviation (red first, units of 1/255) and the order the network wants."""
    for found in _dicts(config):
        mean, std = _triple(found.get("mean")), _triple(found.get("std"))
        if mean is None or std is None or min(mean) < 0 or min(std) <= 0:
            continue
        if max(mean) > 1:  # 1.x counts grey levels, 0.x units of 255 of them
            mean, std = _over_255(mean), _over_255(std)
        swapped = found.get("bgr_to_rgb", True) is not False
        # Without the swap the values stand in the network's own order, blue first.
        if not swapped:
            mean, std = (mean[2], mean[1], mean[0]), (std[2], std[1], std[0])
        return mean, std, "rgb" if swapped else "bgr"
    return None, None, None


def _triple(value: Any) -> Triple | None:
    if isinstance(value, list) and len(value) == 3 and all(is_number(item) for item in value):
        return float(value[0]), float(value[1]), float(value[2])
    return None


def _over_255(values: Triple) -> Triple:
    return round(values[0] / 255, 6), round(values[1] / 255, 6), round(values[2] / 255, 6)


def _keypoints(
    config: dict[str, Any], dataset_meta: object
) -> tuple[str | None, KeypointSet | None]:
    """The data set's name and, where known or described, its keypoints."""
    infos = [dataset_meta] if isinstance(dataset_meta, Mapping) else []
    infos += [info for info in _values(config, "dataset_info") if isinstance(info, dict)]
    for info in infos:
        if isinstance(info.get("dataset_name"), str) and (found := set_from_info(info)):
            return info["dataset_name"], found
    for name in _dataset_names(config, infos):
        return name, known_set(name)
    return None, None


def _dataset_names(config: dict[str, Any], infos: list[Any]) -> Iterator[str]:
    yield from (n for info in infos if isinstance(n := info.get("dataset_name"), str))
    types = [config.get("dataset_type"), *_values(config, "type")]
    for value in types:
        if isinstance(value, str) and value.endswith("Dataset"):
            name = re.sub(r"^(TopDown|Animal|Hand2D|Hand)|Dataset$", "", value)
            if name and name not in ("Combined", "Repeat", "Concat"):
                yield name
