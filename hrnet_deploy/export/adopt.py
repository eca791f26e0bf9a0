"""A heatmap network that somebody else exported, wrapped as an engine of ours and proven."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from hrnet_deploy.errors import InputError
from hrnet_deploy.export.crops import seeded_crops
from hrnet_deploy.export.foreign import ForeignEngine, ForeignNetwork, read_foreign
from hrnet_deploy.export.model import build_model
from hrnet_deploy.export.promise import Source, promised_spec
from hrnet_deploy.export.recipes import Recipe, load_recipe
from hrnet_deploy.export.run import Exported, Judge, Proven
from hrnet_deploy.export.settings import ExportSettings, check_outputs
from hrnet_deploy.files import check_input_file
from hrnet_deploy.spec import ModelSpec
from hrnet_deploy.talk import Say


def adopt(path: Path, settings: ExportSettings, *, say: Say) -> Exported:
    """Wrap the network in ``path`` as ``settings.recipe`` describes it.

    The result appears only after it gave the same poses as the untouched network with the
    official code's steps around it. Raises InputError for a file or recipe that does not fit,
    GateError where parity fails.
    """
    check_input_file(path, what=".onnx file")
    output = settings.output or path.with_suffix(".adopted.onnx")
    settings = dataclasses.replace(settings, output=output)
    (target,) = check_outputs(path, settings).values()
    recipe = load_recipe(settings.recipe or "")
    network = read_foreign(path, recipe.input_name, recipe.output_name)
    check_recipe(network, recipe, allow_unknown=settings.allow_unknown, say=say)
    spec = adopted_spec(network, recipe, settings)
    if network.batch is not None:
        say(f"{path}: its batch is fixed at {network.batch}; larger ones are split")
    reverse = spec.network_color_order != spec.color_order
    model = build_model(spec, network.write, reverse_channels=reverse)
    content = model.SerializeToString(deterministic=True)
    say(f"proving {target}")
    with ForeignEngine(network, spec) as reference, Proven(content, target) as proven:
        crops = seeded_crops(spec.input_size_hw)
        proven.prove(Judge(reference, crops, keep_rejected=settings.keep_rejected))
        proven.commit()
        return Exported(target, spec, proven.report)


def check_recipe(network: ForeignNetwork, recipe: Recipe, *, allow_unknown: bool, say: Say) -> None:
    """Refuse a recipe of another network."""
    if recipe.hash_differs(network.sha256):
        if not allow_unknown:
            raise InputError(
                network.path,
                f"differs from the file that the recipe {recipe.name} is for (another sha256)",
                "Download it again, or pass --allow-unknown to go on",
            )
        say(f"{network.path}: is not the file that the recipe {recipe.name} is for")
    for name, found, wanted in (
        ("input size", network.input_size_hw, recipe.input_size_hw),
        ("heatmap size", network.heatmap_size_hw, recipe.heatmap_size_hw),
        ("number of keypoints", network.joints, recipe.joints),
    ):
        if found != wanted:
            raise InputError(
                recipe.path,
                f"its {name} is {_words(wanted)}, {network.path.name} has {_words(found)}",
                "Correct the recipe",
            )


def adopted_spec(network: ForeignNetwork, recipe: Recipe, settings: ExportSettings) -> ModelSpec:
    """The spec of the wrapped network."""
    if network.batch is not None and settings.flip_test:
        raise InputError(
            network.path,
            f"its batch is fixed at {network.batch}, so the mirrored pass cannot share it",
            "Export it with a dynamic batch, or pass --no-flip",
        )
    source = Source(
        path=network.path,
        sha256=network.sha256,
        architecture=recipe.name,
        input_size_hw=network.input_size_hw,
        heatmap_size_hw=network.heatmap_size_hw,
        static_batch=network.batch,
        recipe=recipe.name,
    )
    return promised_spec(source, recipe, settings)


def _words(value: object) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
