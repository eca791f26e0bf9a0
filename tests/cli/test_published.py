from __future__ import annotations

from typing import Any

import pytest

from hrnet_deploy.cli.published import published_figures


def facts(boxes: str = "detector", images: int = 5000, **changes: Any) -> dict[str, Any]:
    engine = {"recipe": "official_coco_w32_256x192", "flip_test": True}
    settings = {"nms": "hard", "nms_threshold": 0.9, "score_threshold": 0.0, "limit": None}
    return {
        "comparable": changes.pop("comparable", True),
        "counts": {"images_in_file": images},
        "fingerprint": {
            "engine": {**engine, **{k: v for k, v in changes.items() if k in engine}},
            "settings": {**settings, **{k: v for k, v in changes.items() if k in settings}},
            "data": {"boxes": boxes},
        },
    }


def test_the_published_figures_of_the_same_boxes() -> None:
    detector = published_figures(facts())
    assert detector is not None
    assert detector["figures"]["AP"] == 0.744
    assert detector["recipe"] == "official_coco_w32_256x192"
    truth = published_figures(facts("ground truth"))
    assert truth is not None
    assert truth["figures"]["AP"] == 0.765


@pytest.mark.parametrize(
    "changed",
    [
        {"recipe": None},
        {"recipe": "nobody_knows_it"},
        {"recipe": "official_mpii_w32_256x256"},
        {"flip_test": False},
        {"images": 4999},
        {"comparable": False},
        {"nms": "soft"},
        {"nms_threshold": 0.8},
        {"score_threshold": 0.1},
    ],
)
def test_nothing_is_compared_with_what_was_made_otherwise(changed: dict[str, Any]) -> None:
    assert published_figures(facts(**changed)) is None
