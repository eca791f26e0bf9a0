"""The published figures of a model, where a result can be compared with them."""

from __future__ import annotations

from typing import Any

from hrnet_deploy.errors import InputError

VAL2017_IMAGES = 5000
_FIGURES = {"AP": "ap", "AP50": "ap50", "AP75": "ap75", "AR": "ar"}
_OFFICIAL = {"nms": "hard", "nms_threshold": 0.9, "score_threshold": 0.0}


def published_figures(facts: dict[str, Any]) -> dict[str, Any] | None:
    """The recipe's figures in 0 to 1 for the same boxes, under ``figures``, with its ``recipe``.

    None where the recipe is not known or not at hand, or where the result is of other pictures or
    was made in another way than the published one (COCO val2017, flip-test, OKS-NMS 0.9).
    """
    made = facts["fingerprint"]
    name, settings = made["engine"]["recipe"], made["settings"]
    if (
        name is None
        or not facts["comparable"]
        or not made["engine"]["flip_test"]
        or facts["counts"]["images_in_file"] != VAL2017_IMAGES
        or any(settings[key] != value for key, value in _OFFICIAL.items())
    ):
        return None
    from hrnet_deploy.export.recipes import load_recipe

    try:
        recipe = load_recipe(name)
    except InputError:
        return None
    boxes = f"{made['data']['boxes'].replace(' ', '_')}_boxes"
    figures = {
        stat: round(recipe.published[f"{short}_{boxes}"] / 100, 4)
        for stat, short in _FIGURES.items()
        if f"{short}_{boxes}" in recipe.published
    }
    if recipe.published_on != "COCO val2017" or not figures:
        return None
    return {"recipe": name, "figures": figures}
