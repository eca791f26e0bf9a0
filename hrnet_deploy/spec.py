"""ModelSpec: everything that a runtime must know about a model, carried inside the artefact."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, Literal

from hrnet_deploy.errors import InputError, Subject
from hrnet_deploy.values import is_number, is_whole

METADATA_KEY = "hrnet_deploy"
"""Key of the ONNX ``metadata_props`` entry that holds the spec as JSON."""

SCHEMA_VERSION = 1
INPUT_NAME = "crops"
KEYPOINTS_NAME = "keypoints"
SCORES_NAME = "scores"
HEATMAPS_NAME = "heatmaps"

IMAGENET_MEAN_RGB = (0.485, 0.456, 0.406)
IMAGENET_STD_RGB = (0.229, 0.224, 0.225)
"""ImageNet statistics in units of 1/255 grey levels, as in the official HRNet's test script."""

BOX_PADDING = 1.25
"""Factor on the box's sides (official HRNet, ``lib/dataset/coco.py``)."""

DECODES = ("quarter", "dark", "none")
FLOAT_PRECISIONS = ("fp32", "fp16")
EIGHT_BIT = ("int8", "fp8")
PRECISIONS = (*FLOAT_PRECISIONS, *EIGHT_BIT)
GEOMETRIES = ("official",)
COLOR_ORDERS = ("rgb", "bgr")
MAX_SIDE = 4096


@dataclass(frozen=True)
class ModelSpec:
    """What goes in, what comes out and what the graph does in between.

    ``input_size_hw`` and ``heatmap_size_hw`` are in pixels. ``color_order`` is the order of the
    ``crops`` input, always "bgr"; ``network_color_order`` what the network itself was trained on.
    ``mean_rgb`` and ``std_rgb`` are in units of 1/255 grey levels, red first whatever the network's
    order. ``flip_pairs`` is None where unknown (no flip-test then), ``sigmas`` None where none are
    published. ``shift_heatmap`` says whether a flip-test, in the graph or around it, moves the
    mirrored heatmap right by one pixel. ``decode`` is "quarter" (official quarter offset), "dark"
    (Zhang et al., CVPR 2020) or "none" (plain arg-max). ``static_batch`` is the fixed batch of the
    graph, None where dynamic. ``precision`` is the type of the convolutions, of those that are
    quantised in an "int8" or "fp8" (E4M3) file; the others are of ``float_precision`` there, which
    is "fp32" in any other file. ``tolerances`` are the parity gates that the artefact passed
    ("ap_drop", in points, for what is quantised); measured figures stand in the card beside it,
    never here, so that the same checkpoint and versions give the same bytes.
    """

    architecture: str
    input_size_hw: tuple[int, int]
    heatmap_size_hw: tuple[int, int]
    keypoint_set: str
    keypoint_names: tuple[str, ...]
    flip_pairs: tuple[tuple[int, int], ...] | None
    sigmas: tuple[float, ...] | None
    skeleton: tuple[tuple[int, int], ...]
    flip_test: bool
    shift_heatmap: bool
    source_sha256: str
    decode: Literal["quarter", "dark", "none"] = "quarter"
    precision: Literal["fp32", "fp16", "int8", "fp8"] = "fp32"
    float_precision: Literal["fp32", "fp16"] = "fp32"
    geometry: Literal["official"] = "official"
    box_padding: float = BOX_PADDING
    color_order: Literal["bgr"] = "bgr"
    network_color_order: Literal["rgb", "bgr"] = "rgb"
    mean_rgb: tuple[float, float, float] = IMAGENET_MEAN_RGB
    std_rgb: tuple[float, float, float] = IMAGENET_STD_RGB
    has_heatmaps: bool = True
    static_batch: int | None = None
    recipe: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    tolerances: dict[str, float] = field(default_factory=dict)
    schema: int = SCHEMA_VERSION

    @property
    def is_quantized(self) -> bool:
        """Whether convolutions compute in 8 bit."""
        return self.precision in EIGHT_BIT

    @property
    def has_typed_pairs(self) -> bool:
        """Whether its Q/DQ pairs hold FP8 or stand between halves: what opset 17 does not have."""
        return self.precision == "fp8" or (self.is_quantized and self.float_precision == "fp16")

    @property
    def input_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """The graph's inputs by name; a free batch is None."""
        return {INPUT_NAME: (self.static_batch, *self.input_size_hw, 3)}

    @property
    def joints(self) -> int:
        """The number of keypoints K."""
        return len(self.keypoint_names)

    @property
    def input_size_wh(self) -> tuple[int, int]:
        """Width and height of a crop in pixels."""
        return self.input_size_hw[1], self.input_size_hw[0]

    @property
    def heatmap_size_wh(self) -> tuple[int, int]:
        """Width and height of a heatmap in pixels."""
        return self.heatmap_size_hw[1], self.heatmap_size_hw[0]

    def to_json(self) -> str:
        """Compact JSON with sorted keys: equal specs give equal text."""
        return json.dumps(
            dataclasses.asdict(self), sort_keys=True, separators=(",", ":"), allow_nan=False
        )

    @classmethod
    def from_json(cls, text: str, *, source: Subject) -> ModelSpec:
        """Parse and check a spec that came with ``source``; every fault names its field."""
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise _invalid(source, "is not JSON") from error
        return cls.from_dict(value, source=source)

    @classmethod
    def from_dict(cls, value: object, *, source: Subject) -> ModelSpec:
        """Build a spec from parsed JSON, refusing unknown, missing and ill-typed fields."""
        if not isinstance(value, dict):
            raise _invalid(source, "is not a JSON object")
        if value.get("schema") != SCHEMA_VERSION:
            raise _invalid(
                source, f"has schema {value.get('schema')!r}, this version reads {SCHEMA_VERSION}"
            )
        names = {f.name for f in dataclasses.fields(cls)}
        if unknown := sorted(set(value) - names):
            raise _invalid(source, f"has an unknown field '{unknown[0]}'")
        required = {
            f.name
            for f in dataclasses.fields(cls)
            if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        }
        if missing := sorted(required - set(value)):
            raise _invalid(source, f"lacks the field '{missing[0]}'")
        spec = cls(**{name: _frozen(item) for name, item in value.items()})
        spec.check(source)
        return spec

    def check(self, source: Subject) -> None:
        """Raise InputError naming the first field of an inconsistent spec."""
        for name, valid in _rules(self):
            try:
                good = valid()
            except (TypeError, ValueError):
                good = False
            if not good:
                raise _invalid(source, f"has {name} {getattr(self, name)!r}")


def _rules(spec: ModelSpec) -> list[tuple[str, Any]]:
    """Each field with the condition that it has to meet."""
    joints = len(spec.keypoint_names)
    return [
        ("architecture", lambda: isinstance(spec.architecture, str)),
        ("input_size_hw", lambda: _is_size(spec.input_size_hw)),
        ("heatmap_size_hw", lambda: _is_size(spec.heatmap_size_hw)),
        ("keypoint_set", lambda: isinstance(spec.keypoint_set, str)),
        (
            "keypoint_names",
            lambda: joints > 0 and all(isinstance(n, str) for n in spec.keypoint_names),
        ),
        ("flip_pairs", lambda: spec.flip_pairs is None or _are_flip_pairs(spec.flip_pairs, joints)),
        (
            "sigmas",
            lambda: (
                spec.sigmas is None
                or (len(spec.sigmas) == joints and all(_is_positive(s) for s in spec.sigmas))
            ),
        ),
        ("skeleton", lambda: _are_index_pairs(spec.skeleton, joints)),
        (
            "flip_test",
            lambda: (
                spec.flip_test is False or (spec.flip_test is True and spec.flip_pairs is not None)
            ),
        ),
        ("shift_heatmap", lambda: isinstance(spec.shift_heatmap, bool)),
        (
            "source_sha256",
            lambda: len(spec.source_sha256) == 64 and int(spec.source_sha256, 16) >= 0,
        ),
        ("decode", lambda: spec.decode in DECODES),
        ("precision", lambda: spec.precision in PRECISIONS),
        (
            "float_precision",
            lambda: spec.float_precision in FLOAT_PRECISIONS[: 2 if spec.is_quantized else 1],
        ),
        ("geometry", lambda: spec.geometry in GEOMETRIES),
        ("box_padding", lambda: _is_positive(spec.box_padding)),
        ("color_order", lambda: spec.color_order == "bgr"),
        ("network_color_order", lambda: spec.network_color_order in COLOR_ORDERS),
        ("mean_rgb", lambda: len(spec.mean_rgb) == 3 and all(is_number(m) for m in spec.mean_rgb)),
        ("std_rgb", lambda: len(spec.std_rgb) == 3 and all(_is_positive(s) for s in spec.std_rgb)),
        ("has_heatmaps", lambda: isinstance(spec.has_heatmaps, bool)),
        ("static_batch", lambda: spec.static_batch is None or _is_count(spec.static_batch)),
        ("recipe", lambda: spec.recipe is None or isinstance(spec.recipe, str)),
        ("versions", lambda: all(isinstance(v, str) for v in spec.versions.values())),
        ("tolerances", lambda: all(is_number(v) for v in spec.tolerances.values())),
    ]


def _frozen(value: Any) -> Any:
    """JSON lists as tuples, all the way down."""
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


def _is_positive(value: object) -> bool:
    return is_number(value) and value > 0


def _is_count(value: object) -> bool:
    return is_whole(value) and value >= 1


def _is_size(size: tuple[int, int]) -> bool:
    return len(size) == 2 and all(_is_count(side) and side <= MAX_SIDE for side in size)


def _are_index_pairs(pairs: tuple[tuple[int, int], ...], joints: int) -> bool:
    return all(
        len(pair) == 2 and all(isinstance(k, int) and 0 <= k < joints for k in pair)
        for pair in pairs
    )


def _are_flip_pairs(pairs: tuple[tuple[int, int], ...], joints: int) -> bool:
    """Every keypoint stands in one pair at most."""
    flat = [k for pair in pairs for k in pair]
    return _are_index_pairs(pairs, joints) and len(flat) == len(set(flat))


def _invalid(source: Subject, problem: str) -> InputError:
    return InputError(source, f"its hrnet_deploy metadata {problem}", "Export the model again")
