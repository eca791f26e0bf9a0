"""What the weights cannot tell: input size, keypoints, normalisation, flip-test and decoding.

Each fact comes from the first of these that knows it: the flag, the recipe, the configuration
stored in the file, the file's name, an assumption, which is said.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from hrnet_deploy.errors import InputError, Subject
from hrnet_deploy.export.architecture import HRNetArchitecture
from hrnet_deploy.export.stored_config import StoredConfig
from hrnet_deploy.keypoints import KeypointSet, keypoint_set, sets_with, unknown_set
from hrnet_deploy.spec import BOX_PADDING, IMAGENET_MEAN_RGB, IMAGENET_STD_RGB, MAX_SIDE

if TYPE_CHECKING:
    from hrnet_deploy.export.recipes import Recipe
    from hrnet_deploy.export.weights import Checkpoint

SizeHW = tuple[int, int]
Triple = tuple[float, float, float]
Value = TypeVar("Value")

USUAL_SIZES_HW = {"mpii_16": (256, 256), "ap10k_17": (256, 256), "hand_21": (256, 256)}
"""The input sizes of the published models; 256x192 for the other sets."""

_NAME_WORDS = (
    ("wholebody", "coco_wholebody_133"),
    ("crowdpose", "crowdpose_14"),
    ("ap10k", "ap10k_17"),
    ("aic", "aic_14"),
    ("mpii", "mpii_16"),
    ("hand", "hand_21"),
    ("onehand10k", "hand_21"),
    ("coco", "coco_17"),
)


@dataclass(frozen=True)
class ModelChoice:
    """The facts beside the weights, with where the uncertain ones came from.

    ``decode`` is what the model was trained for; ``origins`` names the source of the input size
    and the keypoint set ("recipe", "stored config", "file name", ...); ``assumptions`` are
    sentences for stderr, empty where everything is known. ``published`` holds the recipe's
    figures in percent.
    """

    input_size_hw: SizeHW
    keypoints: KeypointSet
    shift_heatmap: bool
    mean_rgb: Triple
    std_rgb: Triple
    network_color_order: Literal["rgb", "bgr"]
    decode: Literal["quarter", "dark", "none"]
    box_padding: float
    recipe: str | None
    published: dict[str, float]
    origins: dict[str, str]
    assumptions: tuple[str, ...]


def resolve_model(
    checkpoint: Checkpoint,
    *,
    input_size_hw: SizeHW | None = None,
    keypoints: str | None = None,
    recipe: Recipe | None = None,
    shift_heatmap: bool | None = None,
    allow_unknown: bool = False,
) -> ModelChoice:
    """Settle everything that an export needs beside the weights; what is given is taken.

    Raises InputError for a recipe of another model, a file that differs from the published one
    (both pass with ``allow_unknown``), a UDP model, a set of another count, an unusable size.
    """
    recipe, about_recipe = _checked_recipe(checkpoint, recipe, allow_unknown)
    stored = checkpoint.stored or StoredConfig()
    _refuse_udp(checkpoint, recipe, allow_unknown)
    points = _keypoints(checkpoint, keypoints, recipe)
    size = _input_size(checkpoint, input_size_hw, recipe, points.value)
    known_shift = recipe.shift_heatmap if recipe else stored.shift_heatmap
    shift = _shift(known_shift if shift_heatmap is None else shift_heatmap)
    return ModelChoice(
        input_size_hw=size.value,
        keypoints=points.value,
        shift_heatmap=shift.value,
        mean_rgb=recipe.mean_rgb if recipe else stored.mean_rgb or IMAGENET_MEAN_RGB,
        std_rgb=recipe.std_rgb if recipe else stored.std_rgb or IMAGENET_STD_RGB,
        network_color_order=(
            recipe.network_color_order if recipe else stored.network_color_order or "rgb"
        ),
        decode=recipe.decode if recipe else stored.decode or "quarter",
        box_padding=recipe.box_padding if recipe else BOX_PADDING,
        recipe=recipe.name if recipe else None,
        published=dict(recipe.published) if recipe else {},
        origins={"input_size": size.origin, "keypoints": points.origin},
        assumptions=(*about_recipe, *points.assumptions, *size.assumptions, *shift.assumptions),
    )


@dataclass(frozen=True)
class _Fact(Generic[Value]):
    """One fact, where it comes from, and the sentence that says so where it is an assumption."""

    value: Value
    origin: str
    assumptions: tuple[str, ...] = ()


def _checked_recipe(
    checkpoint: Checkpoint, recipe: Recipe | None, allow_unknown: bool
) -> tuple[Recipe | None, tuple[str, ...]]:
    """The recipe if it is for this model (same published file, architecture and joints), and what
    is to be said of it.
    """
    if recipe is None:
        return None, ()
    path, differs = checkpoint.path, recipe.hash_differs(checkpoint.sha256)
    if differs and path.name == recipe.source_file and not allow_unknown:
        raise InputError(
            path,
            "differs from the published file of that name",
            "Download it again, or pass --allow-unknown to go on",
        )
    architecture = checkpoint.architecture.name
    if not recipe.fits(architecture, checkpoint.joints):
        wanted = f"{recipe.architecture or 'a network'} with {recipe.joints} keypoints"
        if allow_unknown:
            return None, (f"the recipe {recipe.name} was left aside: it is for {wanted}",)
        problem = f"is for {wanted}, {path.name} holds {architecture} with {checkpoint.joints}"
        raise InputError(recipe.path, problem, "Pass the recipe of this model")
    if differs:
        return recipe, (f"the file is not the published one of recipe {recipe.name}",)
    return recipe, ()


def _shift(known: bool | None) -> _Fact[bool]:
    """Whether the flip-test shifts the mirrored heatmap by one pixel."""
    if known is not None:
        return _Fact(known, "known")
    says = "a flip-test shifts by one pixel, as the official code's does (--no-shift otherwise)"
    return _Fact(True, "assumed", (says,))


def _refuse_udp(checkpoint: Checkpoint, recipe: Recipe | None, allow_unknown: bool) -> None:
    """UDP has an affine of its own; with the official one every keypoint would be off."""
    name = re.search(r"(^|[_\W])udp([_\W]|$)", checkpoint.path.stem.lower())
    if checkpoint.stored is not None and checkpoint.stored.udp:
        fix = "Use a model that was trained without UDP"
    elif checkpoint.stored is None and name and recipe is None and not allow_unknown:
        fix = "Use a model without UDP, or pass --allow-unknown if only the name says so"
    else:
        return
    problem = "was trained with UDP (unbiased data processing), whose geometry is not supported"
    raise InputError(checkpoint.path, problem, fix)


def _keypoints(
    checkpoint: Checkpoint, flag: str | None, recipe: Recipe | None
) -> _Fact[KeypointSet]:
    count = checkpoint.joints
    if flag is not None:
        chosen = keypoint_set(flag)
        if chosen.count != count:
            problem = f"{flag} has {chosen.count} keypoints, {checkpoint.path.name} has {count}"
            raise InputError("--keypoints", problem, _sets_hint(count))
        return _Fact(chosen, "--keypoints")
    if recipe is not None:
        return _Fact(recipe.keypoints, "recipe")
    stored = checkpoint.stored
    if stored and stored.keypoints and stored.keypoints.count == count:
        return _Fact(stored.keypoints, "stored config")
    if stored and stored.dataset and not stored.keypoints:
        says = (
            f"the file says data set '{stored.dataset}', which is not known: names and flip pairs "
            "are unknown (describe them in a recipe)"
        )
        return _Fact(unknown_set(count), "unknown", (says,))
    if named := _set_in_name(checkpoint.path, count):
        says = f"keypoints {named.name} are taken from the file's name"
        return _Fact(named, "file name", (says,))
    return _assumed_set(count)


def _assumed_set(count: int) -> _Fact[KeypointSet]:
    candidates = sets_with(count)
    if not candidates:
        says = (
            f"no known set has {count} keypoints: names and flip pairs are unknown, so a flip-test "
            "needs a recipe"
        )
        return _Fact(unknown_set(count), "unknown", (says,))
    others = f" (not {', '.join(s.name for s in candidates[1:])})" if candidates[1:] else ""
    says = (
        f"keypoints {candidates[0].name}{others} are assumed from their count {count}: pass "
        "--keypoints NAME or a recipe if they are others"
    )
    return _Fact(candidates[0], "assumed", (says,))


def _sets_hint(count: int) -> str:
    names = ", ".join(known.name for known in sets_with(count))
    return f"Sets of {count}: {names}" if names else "Describe the keypoints in a recipe"


def _set_in_name(path: Path, count: int) -> KeypointSet | None:
    words = set(re.split(r"[^a-z0-9]+", path.stem.lower()))
    for word, name in _NAME_WORDS:
        if word in words and keypoint_set(name).count == count:
            return keypoint_set(name)
    return None


def _input_size(
    checkpoint: Checkpoint,
    flag: SizeHW | None,
    recipe: Recipe | None,
    keypoints: KeypointSet,
) -> _Fact[SizeHW]:
    architecture = checkpoint.architecture
    if flag is not None:
        return _Fact(check_input_size(flag, architecture, source="--input-size"), "--input-size")
    if recipe is not None:
        size = check_input_size(recipe.input_size_hw, architecture, source=recipe.path)
        return _Fact(size, "recipe")
    if stored := checkpoint.stored_input_size_hw:
        size = check_input_size(stored, architecture, source=checkpoint.path)
        return _Fact(size, "stored config")
    if named := size_in_name(checkpoint.path, architecture):
        says = f"input size {named[0]}x{named[1]} (height x width) is taken from the file's name"
        return _Fact(named, "file name", (says,))
    usual = USUAL_SIZES_HW.get(keypoints.name, (256, 192))
    says = (
        f"input size {usual[0]}x{usual[1]} (height x width) is assumed, since the weights cannot "
        "tell: pass --input-size HxW if the model was trained at another"
    )
    return _Fact(usual, "assumed", (says,))


def size_step(architecture: HRNetArchitecture) -> int:
    """Input sides must be a multiple of this: 4 for the stem, doubled for every lower branch."""
    return 4 << (max(len(stage.widths) for stage in architecture.stages) - 1)


def check_input_size(
    size_hw: SizeHW, architecture: HRNetArchitecture, *, source: Subject
) -> SizeHW:
    """``size_hw`` if the network can take it, else InputError with the rule."""
    step = size_step(architecture)
    if any(side < step or side > MAX_SIDE or side % step for side in size_hw):
        raise InputError(
            source,
            f"input size {size_hw[0]}x{size_hw[1]} does not fit the network",
            f"Height and width must be multiples of {step} from {step} to {MAX_SIDE}",
        )
    return size_hw


def parse_input_size(text: str) -> SizeHW:
    """``256x192`` as (height, width)."""
    match = re.fullmatch(r"\s*(\d{1,6})\s*[xX\u00d7]\s*(\d{1,6})\s*", text)
    if match is None:
        raise InputError("--input-size", f"'{text}' is not a size", "Give HEIGHTxWIDTH: 256x192")
    return int(match[1]), int(match[2])


def size_in_name(path: Path, architecture: HRNetArchitecture) -> SizeHW | None:
    """The one size like ``256x192`` in a file's name that the network can take, else None."""
    step = size_step(architecture)
    pairs = re.findall(r"(?<!\d)(\d{2,4})[xX\u00d7](\d{2,4})(?!\d)", path.stem)
    sizes = {(int(height), int(width)) for height, width in pairs}
    usable = [size for size in sizes if all(step <= s <= MAX_SIDE and s % step == 0 for s in size)]
    return usable[0] if len(usable) == 1 else None
