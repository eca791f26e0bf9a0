"""The repairs that ``dataset clean`` knows, by name: light enough for ``--help``."""

from __future__ import annotations

RULES = {
    "ids": "give every record an id of its own, above 0 for annotations",
    "file_names": "cut file names that are absolute or leave the folder down to the last part",
    "skeleton": "add the skeleton of a known keypoint set, or count links from 1",
    "flatten": "turn lists of points into x, y, v, x, y, v, ...",
    "merge_split": "join keypoints with the shape that the tool exported apart from them",
    "visibility": "make flags 0, 1 or 2; 2 where the whole file knows only 1",
    "clip": "clip boxes to the image",
    "hide_outside_box": "keypoints outside their box become v = 0 and 0, 0",
    "hide_outside_image": "keypoints outside their image become v = 0 and 0, 0",
    "boxes": "make boxes from keypoints where they are missing or empty",
    "area": "compute areas that are missing or not above 0",
    "counts": "count num_keypoints",
    "crowd": "write iscrowd where it is missing",
}
"""The rules that are on unless left out; ``hide_outside_box`` is on for DataTorch exports."""

RENAME_MODES = ("copy", "link", "rename")
IMAGE_DIGITS = 12
"""COCO's file names: the image id with twelve digits."""
