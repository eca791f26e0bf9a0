"""Keypoint sets: names, flip pairs, OKS sigmas and skeletons of the data sets in the field.

The values are facts of the data sets. Names and skeletons follow the ``categories`` of each
set's annotation files (MPII and hands, which have none: mmpose, ``configs/_base_/datasets``).
Where the sigmas come from stands beside each set.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from hrnet_deploy.errors import InputError, Subject

Pairs = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class KeypointSet:
    """The meaning of a network's K output channels, in order.

    ``flip_pairs`` are the channels that swap when a person is mirrored: ``()`` where it is known
    that none do (hands), ``None`` where it is not known and a flip-test must be refused.
    ``sigmas`` are the per-keypoint OKS constants, ``None`` where nobody published any.
    ``skeleton`` holds pairs of channels to draw.
    """

    name: str
    names: tuple[str, ...]
    flip_pairs: Pairs | None
    sigmas: tuple[float, ...] | None
    skeleton: Pairs

    @property
    def count(self) -> int:
        """The number of keypoints K."""
        return len(self.names)

    @property
    def flip_order(self) -> tuple[int, ...] | None:
        """For each channel the one that holds it in a mirrored picture; None where unknown."""
        if self.flip_pairs is None:
            return None
        order = list(range(self.count))
        for left, right in self.flip_pairs:
            order[left], order[right] = right, left
        return tuple(order)


def keypoint_set(name: str, *, source: Subject = "--keypoints") -> KeypointSet:
    """The set called ``name``; InputError naming ``source`` and the known sets otherwise."""
    if name in KEYPOINT_SETS:
        return KEYPOINT_SETS[name]
    near = difflib.get_close_matches(name, KEYPOINT_SETS, n=1)
    fix = f"Did you mean '{near[0]}'? Known" if near else "Known"
    raise InputError(source, f"unknown keypoint set '{name}'", f"{fix}: {', '.join(KEYPOINT_SETS)}")


def sets_with(count: int) -> tuple[KeypointSet, ...]:
    """Every set of ``count`` keypoints, the most usual one first; () for other counts."""
    return tuple(known for known in KEYPOINT_SETS.values() if known.count == count)


def unknown_set(count: int) -> KeypointSet:
    """A stand-in for ``count`` keypoints of unknown meaning: no flip pairs, no sigmas."""
    names = tuple(f"kp_{index}" for index in range(count))
    return KeypointSet(f"unknown_{count}", names, flip_pairs=None, sigmas=None, skeleton=())


def _sided(names: Iterable[str]) -> Pairs:
    """The index pairs of ``left_x`` and ``right_x``."""
    index = {name: position for position, name in enumerate(names)}
    return tuple(
        (position, index["right_" + name.removeprefix("left_")])
        for name, position in index.items()
        if name.startswith("left_")
    )


def _from_one(*links: tuple[int, int]) -> Pairs:
    """Links counted from one, as annotation files do."""
    return tuple((first - 1, second - 1) for first, second in links)


def _chain(*indices: int) -> Pairs:
    return tuple(itertools.pairwise(indices))


_BODY = (
    *("nose", "left_eye", "right_eye", "left_ear", "right_ear"),
    *("left_shoulder", "right_shoulder", "left_elbow", "right_elbow"),
    *("left_wrist", "right_wrist", "left_hip", "right_hip"),
    *("left_knee", "right_knee", "left_ankle", "right_ankle"),
)
_BODY_SIGMAS = (
    *(0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072),
    *(0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089),
)
"""cocoapi, ``PythonAPI/pycocotools/cocoeval.py``, ``Params.setKpParams``."""

_BODY_SKELETON = _from_one(
    *((16, 14), (14, 12), (17, 15), (15, 13), (12, 13), (6, 12), (7, 13), (6, 7), (6, 8)),
    *((7, 9), (8, 10), (9, 11), (2, 3), (1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 7)),
)

COCO_17 = KeypointSet("coco_17", _BODY, _sided(_BODY), _BODY_SIGMAS, _BODY_SKELETON)

_MPII = (
    *("right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle"),
    *("pelvis", "thorax", "upper_neck", "head_top"),
    *("right_wrist", "right_elbow", "right_shoulder"),
    *("left_shoulder", "left_elbow", "left_wrist"),
)
MPII_16 = KeypointSet(
    "mpii_16",
    _MPII,
    _sided(_MPII),
    # MPII scores PCKh and has no sigmas of its own: these are mmpose's, adapted from COCO
    # (configs/_base_/datasets/mpii.py).
    (
        *(0.089, 0.083, 0.107, 0.107, 0.083, 0.089, 0.026, 0.026, 0.026, 0.026),
        *(0.062, 0.072, 0.179, 0.179, 0.072, 0.062),
    ),
    (
        *_chain(0, 1, 2, 6, 3, 4, 5),
        *_chain(6, 7, 8, 9),
        *_chain(8, 12, 11, 10),
        *_chain(8, 13, 14, 15),
    ),
)

_CROWDPOSE = (
    *("left_shoulder", "right_shoulder", "left_elbow", "right_elbow"),
    *("left_wrist", "right_wrist", "left_hip", "right_hip"),
    *("left_knee", "right_knee", "left_ankle", "right_ankle", "head", "neck"),
)
CROWDPOSE_14 = KeypointSet(
    "crowdpose_14",
    _CROWDPOSE,
    _sided(_CROWDPOSE),
    # crowdposetools, cocoeval.py; the same in mmpose's configs/_base_/datasets/crowdpose.py.
    (
        *(0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107),
        *(0.087, 0.087, 0.089, 0.089, 0.079, 0.079),
    ),
    # The files repeat COCO's skeleton, which does not fit these joints: this one is mmpose's.
    (
        *((10, 8), (8, 6), (11, 9), (9, 7), (6, 7), (0, 6), (1, 7), (0, 1)),
        *((0, 2), (1, 3), (2, 4), (3, 5), (12, 13), (1, 13), (0, 13)),
    ),
)

_AIC = (
    *("right_shoulder", "right_elbow", "right_wrist"),
    *("left_shoulder", "left_elbow", "left_wrist"),
    *("right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle"),
    *("head_top", "neck"),
)
AIC_14 = KeypointSet(
    "aic_14",
    _AIC,
    _sided(_AIC),
    # AI_Challenger_2017, Evaluation/keypoint_eval/keypoint_eval.py (delta = 2 sigma), as in
    # mmpose's configs/_base_/datasets/aic.py.
    (
        *(0.01388152, 0.01515228, 0.01057665, 0.01417709, 0.01497891, 0.01402144, 0.03909642),
        *(0.03686941, 0.01981803, 0.03843971, 0.03412318, 0.02415081, 0.01291456, 0.01236173),
    ),
    (
        *((2, 1), (1, 0), (0, 13), (13, 3), (3, 4), (4, 5), (8, 7), (7, 6), (6, 9)),
        *((9, 10), (10, 11), (12, 13), (0, 6), (3, 9)),
    ),
)

_AP10K = (
    *("left_eye", "right_eye", "nose", "neck", "root_of_tail"),
    *("left_shoulder", "left_elbow", "left_front_paw"),
    *("right_shoulder", "right_elbow", "right_front_paw"),
    *("left_hip", "left_knee", "left_back_paw", "right_hip", "right_knee", "right_back_paw"),
)
AP10K_17 = KeypointSet(
    "ap10k_17",
    _AP10K,
    _sided(_AP10K),
    # The paper gives none: these are mmpose's, adapted from COCO in COCO's order
    # (configs/_base_/datasets/ap10k.py).
    (
        *(0.025, 0.025, 0.026, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072),
        *(0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089),
    ),
    _from_one(
        *((1, 2), (1, 3), (2, 3), (3, 4), (4, 5), (4, 6), (6, 7), (7, 8), (4, 9), (9, 10)),
        *((10, 11), (5, 12), (12, 13), (13, 14), (5, 15), (15, 16), (16, 17)),
    ),
)

_FINGERS = ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger")
_FINGER_JOINTS = tuple(f"{finger}{joint}" for finger in _FINGERS for joint in range(1, 5))
_HAND_SIGMAS = (
    *(0.029, 0.022, 0.035, 0.037, 0.047, 0.026, 0.025, 0.024, 0.035, 0.018, 0.024),
    *(0.022, 0.026, 0.017, 0.021, 0.021, 0.032, 0.02, 0.019, 0.022, 0.031),
)


def _hand_skeleton(wrist: int, first: int) -> Pairs:
    """Five chains from ``wrist``; the joints of the fingers start at channel ``first``."""
    fingers = (range(first + 4 * finger, first + 4 * finger + 4) for finger in range(5))
    return tuple(link for finger in fingers for link in _chain(wrist, *finger))


# One hand, either side: a mirrored left hand is a right one, so no channels swap. OneHand10K,
# FreiHAND and COCO-WholeBody's single hands share this order; the sigmas are COCO-WholeBody's.
HAND_21 = KeypointSet(
    "hand_21", ("wrist", *_FINGER_JOINTS), (), _HAND_SIGMAS, _hand_skeleton(wrist=0, first=1)
)

_FEET = tuple(
    f"{side}_{part}" for side in ("left", "right") for part in ("big_toe", "small_toe", "heel")
)
_HANDS = tuple(
    f"{side}_{part}" for side in ("left", "right") for part in ("hand_root", *_FINGER_JOINTS)
)
_FACE_START, _LEFT_HAND, _RIGHT_HAND = 23, 91, 112
_WHOLEBODY = (*_BODY, *_FEET, *(f"face_{index}" for index in range(68)), *_HANDS)

# Where the 68 face landmarks (the 300-W scheme) lie in a mirrored face: jaw, brows, eyes, nose
# wings and lips; what lies on the middle line is left out.
_FACE_PAIRS = (
    *((index, 16 - index) for index in range(8)),
    *((index, 43 - index) for index in range(17, 22)),
    *((31, 35), (32, 34), (36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)),
    *((48, 54), (49, 53), (50, 52), (55, 59), (56, 58), (60, 64), (61, 63), (65, 67)),
)

COCO_WHOLEBODY_133 = KeypointSet(
    "coco_wholebody_133",
    _WHOLEBODY,
    (
        *_sided(_WHOLEBODY),
        *((_FACE_START + left, _FACE_START + right) for left, right in _FACE_PAIRS),
    ),
    # jin-s13/COCO-WholeBody, evaluation/myeval_wholebody.py: body, feet, face, both hands.
    (
        *_BODY_SIGMAS,
        *(0.068, 0.066, 0.066, 0.092, 0.094, 0.094),
        *(0.042, 0.043, 0.044, 0.043, 0.040, 0.035, 0.031, 0.025, 0.020, 0.023, 0.029, 0.032),
        *(0.037, 0.038, 0.043, 0.041, 0.045, 0.013, 0.012, 0.011, 0.011, 0.012, 0.012, 0.011),
        *(0.011, 0.013, 0.015, 0.009, 0.007, 0.007, 0.007, 0.012, 0.009, 0.008, 0.016, 0.010),
        *(0.017, 0.011, 0.009, 0.011, 0.009, 0.007, 0.013, 0.008, 0.011, 0.012, 0.010, 0.034),
        *(0.008, 0.008, 0.009, 0.008, 0.008, 0.007, 0.010, 0.008, 0.009, 0.009, 0.009, 0.007),
        *(0.007, 0.008, 0.011, 0.008, 0.008, 0.008, 0.010, 0.008),
        *_HAND_SIGMAS,
        *_HAND_SIGMAS,
    ),
    (
        *_BODY_SKELETON,
        *((15, 17), (15, 18), (15, 19), (16, 20), (16, 21), (16, 22)),
        *_hand_skeleton(wrist=9, first=_LEFT_HAND + 1),
        *_hand_skeleton(wrist=10, first=_RIGHT_HAND + 1),
    ),
)

KEYPOINT_SETS: dict[str, KeypointSet] = {
    known.name: known
    for known in (*(COCO_17, MPII_16, CROWDPOSE_14, AIC_14, COCO_WHOLEBODY_133, AP10K_17, HAND_21),)
}
"""Every known set by name; where two share a count, the more usual one comes first."""
