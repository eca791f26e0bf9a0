"""What a detector expects and gives: told by its graph, or said in a small TOML file."""

from __future__ import annotations

import dataclasses
import math
import sys
from dataclasses import dataclass
from typing import Any, Literal

from hrnet_deploy.errors import InputError, Subject
from hrnet_deploy.files import check_input_file

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Resize = Literal["letterbox", "letterbox-center", "stretch"]
SCORE_THRESHOLD = 0.4
NMS_THRESHOLD = 0.65
"""IoU above which two boxes are one person (YOLOX, ``exp/yolox_base.py``, ``nmsthre``)."""
MAX_SIDE = 4096
FAMILIES = ("yolox", "nanodet", "detr", "hf-detr", "ssd", "end-to-end")


@dataclass(frozen=True)
class DetectorConfig:
    """Input and output of a detector.

    ``size_hw`` is its input size in pixels, None as the graph says. ``resize`` is how a picture
    gets there: "letterbox" keeps the shape and fills right and below with grey level ``pad``,
    "letterbox-center" on all sides, "stretch" does not keep it. ``mean`` and ``std`` are grey
    levels (0 to 255) in the order of ``color``. ``boxes`` and ``units`` ("pixels" of the input or
    "unit", fractions of it) matter for "ssd" and "end-to-end". ``person_class`` is the label of
    persons. Boxes that overlap by more than ``nms_threshold`` are one, where the graph does not
    see to that itself. ``batch`` are the pictures that go in at once, None as the graph says.
    """

    family: str
    size_hw: tuple[int, int] | None = None
    resize: Resize = "letterbox"
    pad: int = 114
    color: Literal["bgr", "rgb"] = "rgb"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    boxes: Literal["xyxy", "yxyx", "cxcywh"] = "xyxy"
    units: Literal["pixels", "unit"] = "pixels"
    person_class: int = 0
    score_threshold: float = SCORE_THRESHOLD
    nms_threshold: float = NMS_THRESHOLD
    batch: int | None = None


def read_config(path: Subject, recognised: DetectorConfig | None) -> DetectorConfig:
    """The recognised configuration with what a TOML file says otherwise; InputError by field."""
    file = check_input_file(path, what="detector description")
    try:
        values = tomllib.loads(file.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(path, f"is not valid TOML ({error})", "See docs/predict.md") from error
    fields = {field.name for field in dataclasses.fields(DetectorConfig)}
    if unknown := sorted(set(values) - fields):
        known = ", ".join(sorted(fields))
        raise InputError(path, f"has the unknown key '{unknown[0]}'", f"Known: {known}")
    values = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
    if recognised is not None and values.get("family", recognised.family) == recognised.family:
        config = dataclasses.replace(recognised, **values)
    elif "family" in values:
        config = DetectorConfig(**values)
    else:
        raise InputError(path, "has no 'family'", f"Give one of {', '.join(FAMILIES)}")
    for name, good in _rules(config).items():
        if not good:
            problem = f"has {name} = {getattr(config, name)!r}"
            raise InputError(path, problem, "See docs/predict.md for its values")
    return config


def _rules(config: DetectorConfig) -> dict[str, bool]:
    size = config.size_hw
    return {
        "family": config.family in FAMILIES,
        "size_hw": size is None or (len(size) == 2 and all(_is_side(side) for side in size)),
        "resize": config.resize in ("letterbox", "letterbox-center", "stretch"),
        "pad": _is_number(config.pad) and 0 <= config.pad <= 255,
        "color": config.color in ("bgr", "rgb"),
        "mean": _are_three(config.mean),
        "std": _are_three(config.std) and all(value > 0 for value in config.std),
        "boxes": config.boxes in ("xyxy", "yxyx", "cxcywh"),
        "units": config.units in ("pixels", "unit"),
        "person_class": _is_number(config.person_class),
        "score_threshold": _is_number(config.score_threshold),
        "batch": config.batch is None or _is_side(config.batch),
        "nms_threshold": _is_number(config.nms_threshold) and 0 < config.nms_threshold <= 1,
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_side(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_SIDE


def _are_three(values: Any) -> bool:
    return isinstance(values, tuple) and len(values) == 3 and all(map(_is_number, values))
