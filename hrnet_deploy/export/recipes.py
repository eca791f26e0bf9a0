"""Recipes: TOML files with what the weights cannot tell about a published or own model."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import hrnet_deploy
from hrnet_deploy.errors import InputError, Subject
from hrnet_deploy.export.recipe_fields import TableReader
from hrnet_deploy.files import check_input_file
from hrnet_deploy.keypoints import KeypointSet
from hrnet_deploy.spec import BOX_PADDING, IMAGENET_MEAN_RGB, IMAGENET_STD_RGB

if TYPE_CHECKING:
    from hrnet_deploy.export.weights import Checkpoint

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_RECIPE_BYTES = 1 << 20
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Recipe:
    """What is known of a model beside its weights.

    ``name`` is the file's stem. ``source_file`` is the published file's name, ``url`` where it can
    be downloaded from, ``page`` where a browser gets it, ``licence`` what its publisher puts it
    under, ``sha256`` its hash and ``sha256_prefix`` the first digits of it; None where that is not
    published. ``kind`` tells a checkpoint from a foreign ONNX network. ``architecture`` (like
    "hrnet_w32") is None where any will do. Sizes are (height, width) in pixels; ``mean_rgb`` and
    ``std_rgb`` in units of 1/255, red first. ``input_name`` and ``output_name`` matter for ONNX,
    None where there is only one.
    ``published`` holds figures in percent ("ap_detector_boxes": 74.4) of ``published_on``.
    """

    name: str
    path: Path
    description: str
    kind: Literal["checkpoint", "onnx"]
    project: str | None
    source_file: str | None
    url: str | None
    page: str | None
    licence: str | None
    sha256: str | None
    sha256_prefix: str | None
    architecture: str | None
    input_size_hw: tuple[int, int]
    heatmap_size_hw: tuple[int, int]
    keypoints: KeypointSet
    shift_heatmap: bool
    decode: Literal["quarter", "dark", "none"]
    box_padding: float
    network_color_order: Literal["rgb", "bgr"]
    mean_rgb: Triple
    std_rgb: Triple
    input_name: str | None
    output_name: str | None
    published: dict[str, float]
    published_on: str | None

    @property
    def joints(self) -> int:
        """The number of keypoints K."""
        return self.keypoints.count

    def hash_differs(self, sha256: str) -> bool:
        """Whether a published hash is known and ``sha256`` is another one."""
        if self.sha256 is not None:
            return sha256 != self.sha256
        return self.sha256_prefix is not None and not sha256.startswith(self.sha256_prefix)

    def fits(self, architecture: str, joints: int) -> bool:
        """Whether a network of this architecture and count can be the recipe's."""
        return self.joints == joints and self.architecture in (None, architecture)


def load_recipe(path_or_name: Subject) -> Recipe:
    """Read a recipe file, or the recipe of that name among those of the project.

    Every fault is one line: an unknown key with the nearest known one, a value with its place.
    """
    path = Path(path_or_name)
    if not path.suffix and not path.exists() and path.parent == Path():
        path = _by_name(str(path_or_name))
    file = check_input_file(path, what="recipe (.toml)")
    if file.stat().st_size > MAX_RECIPE_BYTES:
        raise InputError(path, f"has {file.stat().st_size} bytes", "Give a recipe (.toml)")
    try:
        document = tomllib.loads(file.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InputError(path, f"is not UTF-8 text at byte {error.start}", _FIX) from error
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else "nested too deeply"
        raise InputError(path, f"is not valid TOML: {reason}", _FIX) from error
    return _recipe(path, document)


_FIX = "See export/example_custom.toml"


def _by_name(name: str) -> Path:
    folder = recipes_folder()
    known = {recipe.stem: recipe for recipe in sorted(folder.glob("*.toml"))} if folder else {}
    if name in known:
        return known[name]
    import difflib

    near = difflib.get_close_matches(name, known, n=3)
    hint = f"Did you mean {' or '.join(near)}" if near else "Give the path of a .toml file"
    raise InputError("--recipe", f"there is no recipe '{name}'", hint)


def recipes_folder() -> Path | None:
    """``export/`` of a checkout, or the copy that a wheel carries; None where there is neither."""
    package = Path(hrnet_deploy.__file__).resolve().parent
    checkout, carried = package.parent / "export", package / "recipes"
    if (package.parent / "pyproject.toml").is_file() and checkout.is_dir():
        return checkout
    return carried if carried.is_dir() else None


def find_recipe(checkpoint: Checkpoint, folder: Path | None = None) -> Recipe | None:
    """The recipe of a checkpoint: by its hash, else by its file name, architecture and joints.

    A file that bears the name of a recipe with a published hash is matched by the name alone, so
    that a damaged or replaced file is noticed (``resolve_model`` compares the hashes). Looks in
    ``folder``, or among the project's own; None where nothing fits.
    """
    known = [recipe for recipe in all_recipes(folder) if recipe.kind == "checkpoint"]
    for recipe in known:
        if recipe.sha256 == checkpoint.sha256:
            return recipe
    for recipe in known:
        has_hash = recipe.sha256 is not None or recipe.sha256_prefix is not None
        if recipe.source_file == checkpoint.path.name and (
            has_hash or recipe.fits(checkpoint.architecture.name, checkpoint.joints)
        ):
            return recipe
    return None


def find_onnx_recipe(sha256: str, folder: Path | None = None) -> Recipe | None:
    """The recipe of a foreign ONNX network with this hash; None where there is none."""
    known = (recipe for recipe in all_recipes(folder) if recipe.kind == "onnx")
    return next((recipe for recipe in known if recipe.sha256 == sha256), None)


def all_recipes(folder: Path | None = None) -> list[Recipe]:
    """The recipes in ``folder`` or the project's own, by name, without the examples."""
    folder = folder or recipes_folder()
    files = [] if folder is None else sorted(folder.glob("*.toml"))
    return [load_recipe(path) for path in files if not path.name.startswith("example_")]


def choose_recipe(checkpoint: Checkpoint, argument: str | None) -> Recipe | None:
    """What ``--recipe`` means: a file, a name, a folder to search, or None for our own."""
    if argument is None:
        return find_recipe(checkpoint)
    if Path(argument).is_dir():
        found = find_recipe(checkpoint, Path(argument))
        if found is None:
            problem = f"holds no recipe for {checkpoint.path.name}"
            raise InputError(argument, problem, "Give the path of a .toml file")
        return found
    return load_recipe(argument)


def _recipe(path: Path, document: dict[str, Any]) -> Recipe:
    """Check every table and key of a parsed recipe."""
    top = TableReader(path, "", document)
    description = top.text("description", "") or ""
    source, network = top.table("source"), top.table("network", required=True)
    keypoints, inference = top.table("keypoints", required=True), top.table("inference")
    published = top.table("published")
    top.finish()
    size = network.size("input_size_hw")
    heatmap = network.size("heatmap_size_hw", (size[0] // 4, size[1] // 4))
    recipe = Recipe(
        name=path.stem,
        path=path,
        description=description,
        kind=network.choice("kind", ("checkpoint", "onnx"), "checkpoint"),
        project=source.text("project"),
        source_file=source.text("file"),
        url=source.text("url"),
        page=source.text("page"),
        licence=source.text("licence"),
        sha256=source.hexadecimal("sha256", 64, 64),
        sha256_prefix=source.hexadecimal("sha256_prefix", 8, 63),
        architecture=network.text("architecture"),
        input_size_hw=size,
        heatmap_size_hw=heatmap,
        keypoints=keypoints.keypoint_set(path.stem),
        shift_heatmap=inference.flag("shift_heatmap", True),
        decode=inference.choice("decode", ("quarter", "dark", "none"), "quarter"),
        box_padding=inference.number("box_padding", 0.5, 4.0, BOX_PADDING),
        network_color_order=network.choice("color_order", ("rgb", "bgr"), "rgb"),
        mean_rgb=network.triple("mean_rgb", 0.0, IMAGENET_MEAN_RGB),
        std_rgb=network.triple("std_rgb", 1e-6, IMAGENET_STD_RGB),
        input_name=network.text("input_name"),
        output_name=network.text("output_name"),
        published_on=published.text("dataset"),
        published=published.figures(PUBLISHED_FIGURES),
    )
    inference.geometry()
    for table in (source, network, keypoints, inference, published):
        table.finish()
    return recipe


PUBLISHED_FIGURES = (
    *("ap_detector_boxes", "ap50_detector_boxes", "ap75_detector_boxes", "ar_detector_boxes"),
    *("ap_ground_truth_boxes", "ap50_ground_truth_boxes", "pckh_50", "pckh_10", "whole_ap"),
)
"""The figures that ``[published]`` may hold, in percent, all with flip-test."""
