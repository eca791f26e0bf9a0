"""Parity of two engines on the same crops, in tensor units and in pose units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.engines import Engine, EngineOutput
from hrnet_deploy.errors import InputError
from hrnet_deploy.export.comparison import Comparison
from hrnet_deploy.export.gates import HEATMAP_TOLERANCE, failed_gates
from hrnet_deploy.spec import EIGHT_BIT

SAME_KEYPOINT_PX = 0.01
"""Input pixels up to which a keypoint counts as identical."""


@dataclass(frozen=True)
class Errors:
    """A distribution of keypoint distances in input pixels."""

    p50: float
    p95: float
    max: float


@dataclass(frozen=True)
class ParityReport:
    """What was measured; ``failures`` has one sentence for each gate that did not hold.

    ``heatmap_max`` and ``heatmap_mean`` are absolute, ``heatmap_relative`` is the maximum over
    ``heatmap_peak``, the reference's largest magnitude; all None where an artefact has no
    heatmaps. ``argmax_equal`` of ``argmax_decisive`` keypoints agree where the two best cells
    lie further apart than twice the error. ``identical`` is the share of keypoints within 0.01
    input pixels. ``oks_mean`` and ``oks_min`` are None where the keypoint set has no sigmas.
    """

    crops: int
    tolerance: float
    heatmap_max: float | None
    heatmap_mean: float | None
    heatmap_relative: float | None
    heatmap_peak: float | None
    score_max: float
    decode_max_px: float | None
    argmax_decisive: int
    argmax_equal: int
    argmax_total: int
    identical: float
    keypoint_px: Errors
    per_keypoint_px: dict[str, Errors]
    oks_mean: float | None
    oks_min: float | None
    worst: str
    failures: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether every gate held."""
        return not self.failures


def compare(
    reference: Engine,
    candidate: Engine,
    crops_nhwc: NDArray[np.uint8],
    *,
    labels: Sequence[str] = (),
    expected: EngineOutput | None = None,
) -> ParityReport:
    """Run both engines on ``crops_nhwc`` (N >= 1, h, w, 3) uint8 BGR and judge the differences.

    ``labels`` say where each crop is from, for the report; the crop's number by default.
    ``expected`` is what ``run_all(reference, crops_nhwc)`` gave, where it is known already.
    The gates are those of the lower precision of the two; in 8 bit, keypoints are judged and
    heatmaps only reported. Raises InputError where the two do not
    promise the same thing (sizes, keypoints, flip-test, shift, decode).
    """
    check_comparable(reference, candidate)
    if len(crops_nhwc) == 0:
        raise InputError("crops", "there are none", "Give at least one crop to compare on")
    precisions = [engine.info.precision for engine in (reference, candidate)]
    found = Comparison(
        reference=expected or run_all(reference, crops_nhwc),
        candidate=run_all(candidate, crops_nhwc),
        spec=candidate.spec,
        tolerance=max(HEATMAP_TOLERANCE[precision] for precision in precisions),
        labels=tuple(labels) or tuple(f"crop {index}" for index in range(len(crops_nhwc))),
        in_poses=bool(set(EIGHT_BIT) & set(precisions)),
    )
    return _report(found)


def run_all(engine: Engine, crops_nhwc: NDArray[np.uint8]) -> EngineOutput:
    """Poses of all crops, with heatmaps where the engine has them."""
    return engine.run(crops_nhwc, heatmaps=engine.spec.has_heatmaps)


def check_comparable(reference: Engine, candidate: Engine) -> None:
    """Refuse two engines whose poses differ by design."""
    for name in (
        "input_size_hw",
        "heatmap_size_hw",
        "keypoint_names",
        "flip_test",
        "shift_heatmap",
        "decode",
        "flip_pairs",
    ):
        ours, theirs = getattr(candidate.spec, name), getattr(reference.spec, name)
        matters = name not in ("shift_heatmap", "flip_pairs") or candidate.spec.flip_test
        if ours != theirs and matters:
            raise InputError(
                candidate.info.path,
                f"has {name} {ours}, {reference.info.path} has {theirs}",
                "Compare artefacts that were exported with the same settings",
            )


def _report(found: Comparison) -> ParityReport:
    distance_px, heatmap, names = found.distance_px, found.heatmap, found.spec.keypoint_names
    decisive, equal = found.argmax
    oks = None if found.similarity is None else found.similarity.mean(axis=1)
    crop, joint = np.unravel_index(distance_px.argmax(), distance_px.shape)
    return ParityReport(
        crops=len(distance_px),
        tolerance=found.tolerance,
        heatmap_max=None if heatmap is None else heatmap.max,
        heatmap_mean=None if heatmap is None else heatmap.mean,
        heatmap_relative=None if heatmap is None else heatmap.relative,
        heatmap_peak=None if heatmap is None else heatmap.peak,
        score_max=found.score_max,
        decode_max_px=found.decode_px,
        argmax_decisive=int(decisive.sum()),
        argmax_equal=int((decisive & equal).sum()),
        argmax_total=decisive.size,
        identical=float((distance_px <= SAME_KEYPOINT_PX).mean()),
        keypoint_px=_errors(distance_px),
        per_keypoint_px={name: _errors(distance_px[:, k]) for k, name in enumerate(names)},
        oks_mean=None if oks is None else float(oks.mean()),
        oks_min=None if oks is None else float(oks.min()),
        worst=f"{names[joint]} of {found.labels[crop]}: {distance_px[crop, joint]:.3g} px",
        failures=failed_gates(found),
    )


def _errors(distance_px: NDArray[np.float64]) -> Errors:
    p50, p95 = np.percentile(distance_px, [50, 95])
    return Errors(float(p50), float(p95), float(distance_px.max()))
