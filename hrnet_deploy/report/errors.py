"""What is wrong with a keypoint: jitter, inversion, swap or miss.

Definitions: Ronchi & Perona, "Benchmarking and Error Diagnosis in Multi-Instance Pose Estimation",
ICCV 2017, section 3.1, with ks the similarity of one keypoint to one label, in the label's own
scale. *good*: ks to its own label at least 0.85. *jitter*: 0.5 to 0.85. Below 0.5 it is an
*inversion* where it is within 0.5 of the same person's opposite part (left for right), a *swap*
where it is within 0.5 of the same or the opposite part of another person, the nearer of the two
where both fit, and a *miss* otherwise. Keypoints of persons that nobody found are no errors of
localisation; they are counted apart, as *not found*.

Deviation from the authors' own program: it takes whatever label is nearest, so that a keypoint
within 0.5 of its own label can count as an inversion or a swap there. Here the text holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.evaluation.oks import keypoint_similarity
from hrnet_deploy.report.persons import People

GOOD_KS, NEAR_KS = 0.85, 0.5
KINDS = ("good", "jitter", "inversion", "swap", "miss", "not found")
GOOD, JITTER, INVERSION, SWAP, MISS, NOT_FOUND = range(len(KINDS))
UNLABELLED = -1


def error_kinds(
    people: People,
    annotations: Sequence[Mapping[str, Any]],
    *,
    sigmas: Sequence[float],
    flip_pairs: Sequence[tuple[int, int]] | None,
) -> NDArray[np.int8]:
    """The kind of each keypoint, (P, K): an index of ``KINDS``, ``UNLABELLED`` without a label.

    ``annotations`` are all of the file: crowds and ignored persons can be swapped with too.
    Without ``flip_pairs`` there are no opposite parts, and no inversions.
    """
    joints = len(sigmas)
    kinds = np.full((len(people), joints), UNLABELLED, np.int8)
    opposite = np.arange(joints)
    for left, right in flip_pairs or ():
        opposite[[left, right]] = right, left
    by_image: dict[int, list[int]] = {}
    for index, entry in enumerate(annotations):
        if any(entry["keypoints"][2::3]):
            by_image.setdefault(int(entry["image_id"]), []).append(index)
    for row in range(len(people)):
        labelled = people.labelled[row]
        if not people.matched[row]:
            kinds[row, labelled] = NOT_FOUND
            continue
        own = int(people.index[row])
        others = [i for i in by_image[int(people.image_ids[row])] if i != own]
        around = [annotations[index] for index in [own, *others]]
        kind = _kinds_of_person(people.found[row, :, :2], around, opposite, sigmas)
        kinds[row, labelled] = kind[labelled]
    return kinds


def _kinds_of_person(
    points: NDArray[np.float64],
    around: Sequence[Mapping[str, Any]],
    opposite: NDArray[np.intp],
    sigmas: Sequence[float],
) -> NDArray[np.int8]:
    """Kinds (K,) of ``points`` (K, 2); the first of ``around`` is the person itself."""
    labels = np.array([entry["keypoints"] for entry in around], np.float64)
    labels = labels.reshape(len(around), len(opposite), 3)
    areas = np.array([entry["area"] for entry in around], np.float64)
    same = _similarity(points, labels, areas, sigmas)
    mirrored = _similarity(points, labels[:, opposite], areas, sigmas)
    mirrored[:, opposite == np.arange(len(opposite))] = 0
    inverted = mirrored[0]
    swapped = np.maximum(same[1:], mirrored[1:]).max(axis=0, initial=0)
    kinds = np.full(len(opposite), MISS, np.int8)
    kinds[(swapped >= NEAR_KS) & (swapped > inverted)] = SWAP
    kinds[(inverted >= NEAR_KS) & (inverted >= swapped)] = INVERSION
    kinds[same[0] >= NEAR_KS] = JITTER
    kinds[same[0] >= GOOD_KS] = GOOD
    return kinds


def _similarity(
    points: NDArray[np.float64],
    labels: NDArray[np.float64],
    areas: NDArray[np.float64],
    sigmas: Sequence[float],
) -> NDArray[np.float64]:
    """Terms (A, K) of ``points`` (K, 2) with the ``labels`` (A, K, 3); 0 without a label."""
    squared = ((points - labels[..., :2]) ** 2).sum(axis=-1)
    return np.where(labels[..., 2] > 0, keypoint_similarity(squared, areas, sigmas), 0.0)


def shares(kinds: NDArray[np.int8]) -> dict[str, float | None]:
    """The share of each of ``KINDS`` among labelled keypoints; None where none is labelled."""
    labelled = int((kinds != UNLABELLED).sum())
    return {
        name: float((kinds == number).sum() / labelled) if labelled else None
        for number, name in enumerate(KINDS)
    }


def person_kinds(kinds: NDArray[np.int8]) -> list[str]:
    """The kinds of error of one person (K,), the worst first; "good" where there are none."""
    present = [number for number in range(NOT_FOUND, GOOD, -1) if (kinds == number).any()]
    return [KINDS[number] for number in present] or [KINDS[GOOD]]
