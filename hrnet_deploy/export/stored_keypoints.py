"""Keypoint sets from mmpose's data set names and descriptions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hrnet_deploy.export.pickles import Inert
from hrnet_deploy.keypoints import KEYPOINT_SETS, KeypointSet, Pairs

_MMPOSE_NAMES = {
    "coco": "coco_17",
    "ochuman": "coco_17",
    "humanart": "coco_17",
    "mpii": "mpii_16",
    "crowdpose": "crowdpose_14",
    "aic": "aic_14",
    "cocowholebody": "coco_wholebody_133",
    "ap10k": "ap10k_17",
    "onehand10k": "hand_21",
    "freihand": "hand_21",
    "panoptichand2d": "hand_21",
    "cocowholebodyhand": "hand_21",
}
"""mmpose's data sets (``dataset_name``, class names) whose channels are those of our sets.

OCHuman and Human-Art use COCO's joints; RHD and InterHand order a hand's joints differently.
"""


def known_set(dataset: str) -> KeypointSet | None:
    """Our set for an mmpose data set name ("coco_wholebody", "CocoWholeBody"); None if another."""
    key = re.sub(r"[^a-z0-9]", "", dataset.lower())
    name = _MMPOSE_NAMES.get(key)
    return KEYPOINT_SETS[name] if name else None


def set_from_info(info: Mapping[Any, Any]) -> KeypointSet | None:
    """The set that a description spells out, a known one where names and order are the same.

    Takes mmpose's ``dataset_info`` (``keypoint_info``, ``skeleton_info``) or the parsed
    ``dataset_meta`` of 1.x (``keypoint_id2name``, ``flip_indices``); None where incomplete.
    """
    dataset = info.get("dataset_name")
    if not isinstance(dataset, str):
        return None
    known = known_set(dataset)
    try:
        described = _described(info, dataset)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        return known
    if known is not None and _same_channels(known, described):
        return known
    return described


def _described(info: Mapping[Any, Any], dataset: str) -> KeypointSet:
    if "keypoint_info" in info:
        return _from_dataset_info(info, dataset)
    by_index = info["keypoint_id2name"]
    names = tuple(_text(by_index[index]) for index in range(len(by_index)))
    order = [int(index) for index in info["flip_indices"]]
    return _checked(
        dataset,
        names,
        tuple((k, m) for k, m in enumerate(order) if k < m),
        _numbers(info.get("sigmas"), len(names)),
        tuple((int(first), int(second)) for first, second in info.get("skeleton_links", ())),
    )


def _from_dataset_info(info: Mapping[Any, Any], dataset: str) -> KeypointSet:
    points = info["keypoint_info"]
    names = tuple(_text(points[index]["name"]) for index in range(len(points)))
    index = {name: position for position, name in enumerate(names)}
    swaps = {k: index[swap] for k in range(len(names)) if (swap := points[k].get("swap"))}
    links = (link["link"] for link in info.get("skeleton_info", {}).values())
    return _checked(
        dataset,
        names,
        tuple((k, m) for k, m in swaps.items() if k < m),
        _numbers(info.get("sigmas"), len(names)),
        tuple((index[first], index[second]) for first, second in links),
    )


def _checked(
    name: str,
    names: tuple[str, ...],
    flip_pairs: Pairs,
    sigmas: tuple[float, ...] | None,
    skeleton: Pairs,
) -> KeypointSet:
    """The set, or ValueError where an index lies outside or a keypoint has two partners."""
    flat = [k for pair in flip_pairs for k in pair]
    inside = all(0 <= k < len(names) for k in (*flat, *(k for link in skeleton for k in link)))
    if not names or not inside or len(flat) != len(set(flat)) or len(set(names)) != len(names):
        raise ValueError("inconsistent keypoints")
    return KeypointSet(name, names, flip_pairs, sigmas, skeleton)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a keypoint's name is text")
    return value


def _numbers(value: object, count: int) -> tuple[float, ...] | None:
    """Sigmas as floats; None where there are none or not one for each keypoint."""
    if isinstance(value, Inert):
        value = value.numbers()
    if not isinstance(value, (list, tuple)) or len(value) != count:
        return None
    sigmas = tuple(round(float(item), 8) for item in value)
    return sigmas if all(0 < sigma < 10 for sigma in sigmas) else None


def _same_channels(known: KeypointSet, described: KeypointSet) -> bool:
    """Whether two sets mean the same channels: equal mirror order and, bar spelling, names.

    One name may differ: CrowdPose's files say "head", mmpose "top_head".
    """
    if known.count != described.count or known.flip_order != described.flip_order:
        return False
    pairs = zip(known.names, described.names, strict=True)
    return sum(_plain(ours) != _plain(theirs) for ours, theirs in pairs) <= 1


_ABBREVIATIONS = {"l": "left", "r": "right", "f": "front", "b": "back"}


def _plain(name: str) -> str:
    """``L_F_Paw`` and ``left_front_paw`` alike."""
    words = re.split(r"[\s_-]+", name.lower())
    return " ".join(_ABBREVIATIONS.get(word, word) for word in words)
