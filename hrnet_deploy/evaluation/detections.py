"""Poses with scores, as arrays and in COCO's results format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.evaluation.number_text import number_as_text, rows_as_text

_AT_A_TIME = 512
"""Detections whose text is made together: bounds memory and stays in the cache."""


@dataclass(frozen=True, eq=False)
class Detections:
    """D poses: ``keypoints`` (D, K, 3) x and y in pixels and score, ``scores`` (D,) float64.

    ``image_ids`` and ``category_ids`` (D,) are those of the annotation file, ``center`` (D, 2) and
    ``scale`` (D, 2) where the crop was (``runtime.geometry``), NaN where that is not known.
    """

    image_ids: NDArray[Any]
    category_ids: NDArray[Any]
    keypoints: NDArray[Any]
    scores: NDArray[np.float64]
    center: NDArray[Any]
    scale: NDArray[Any]

    @classmethod
    def from_coco(cls, entries: Sequence[Mapping[str, Any]], joints: int) -> Detections:
        """The entries of a COCO results file for ``joints`` keypoints."""
        unknown = (np.nan, np.nan)
        points = np.array([entry["keypoints"] for entry in entries], np.float64)
        return cls(
            np.array([entry["image_id"] for entry in entries]),
            np.array([entry["category_id"] for entry in entries]),
            points.reshape(-1, joints, 3),
            np.array([entry["score"] for entry in entries], np.float64),
            *(
                np.array([entry.get(key, unknown) for entry in entries], np.float64).reshape(-1, 2)
                for key in ("center", "scale")
            ),
        )

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: slice | NDArray[np.intp] | NDArray[np.bool_]) -> Detections:
        """The chosen ones."""
        return Detections(
            self.image_ids[index],
            self.category_ids[index],
            self.keypoints[index],
            self.scores[index],
            self.center[index],
            self.scale[index],
        )

    def as_json(self) -> Iterator[bytes]:
        """The same entries as JSON, one line each; keypoints have to be float32.

        Raises ValueError for NaN and infinity, which JSON does not have.
        """
        for start in range(0, len(self), _AT_A_TIME):
            part = self[start : start + _AT_A_TIME]
            rows = zip(
                part.image_ids.tolist(),
                part.category_ids.tolist(),
                rows_as_text(part.keypoints.reshape(len(part), -1)),
                part.scores.tolist(),
                rows_as_text(part.center),
                rows_as_text(part.scale),
                strict=True,
            )
            for image_id, category_id, keypoints, score, center, scale in rows:
                yield (
                    b'{"image_id": %d, "category_id": %d, "keypoints": [%b], "score": %b,'
                    b' "center": [%b], "scale": [%b]}'
                ) % (image_id, category_id, keypoints, number_as_text(score), center, scale)

    def as_coco(self) -> Iterator[dict[str, Any]]:
        """The entries of a COCO results file, one after the other."""
        rows = (
            self.image_ids.tolist(),
            self.category_ids.tolist(),
            (pose.ravel().tolist() for pose in self.keypoints),
            self.scores.tolist(),
            self.center.tolist(),
            self.scale.tolist(),
        )
        for image_id, category_id, keypoints, score, center, scale in zip(*rows, strict=True):
            yield {
                "image_id": image_id,
                "category_id": category_id,
                "keypoints": keypoints,
                "score": score,
                "center": center,
                "scale": scale,
            }
