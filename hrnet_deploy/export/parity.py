"""Parity of two engines on the same crops, in tensor units and in pose units, with its gates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.engines import Engine, EngineOutput
from hrnet_deploy.errors import InputError
from hrnet_deploy.export.reference import decode_heatmaps
from hrnet_deploy.spec import EIGHT_BIT, ModelSpec

HEATMAP_TOLERANCE = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 5e-2, "int8": 0.25, "fp8": 0.25}
"""Largest heatmap error, times max(1, peak), by the lower of the two precisions.

A bfloat16 has three bits less than a half; what it costs has to be seen in the AP. In 8 bit it
counts only where the reference is sure of no keypoint; poses are judged otherwise.
"""

CONFIDENT_SCORE = 0.2
"""Reference scores above it are judged in 8 bit (official HRNet, ``lib/dataset/coco.py``)."""

POSE_P95_CELLS = 1.0
"""Heatmap pixels that 95 % of the confident keypoints stay within in 8 bit: one neighbour."""

POSE_OKS_MEAN = 0.9
"""Mean OKS of the confident keypoints in 8 bit; 0.99 is usual on persons, less on noise."""

DECODE_TOLERANCE_PX = {"quarter": 1e-4, "none": 1e-4, "dark": 0.05}
"""Heatmap pixels between a graph's own decoding and the official rule on its own heatmaps.

DARK divides by second differences of logarithms, which amplify the last bits of flat peaks.
"""

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


@dataclass(frozen=True)
class _Measured:
    """Both engines' output on all crops, and the tolerance that they have to meet.

    ``in_poses`` says that keypoints are judged, not heatmaps: one of the two computes in 8 bit.
    """

    reference: EngineOutput
    candidate: EngineOutput
    spec: ModelSpec
    tolerance: float
    labels: tuple[str, ...]
    in_poses: bool = False

    @property
    def stride(self) -> NDArray[np.float64]:
        """Input pixels per heatmap pixel, x and y."""
        stride: NDArray[np.float64] = np.divide(self.spec.input_size_wh, self.spec.heatmap_size_wh)
        return stride


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
    measured = _Measured(
        reference=expected or run_all(reference, crops_nhwc),
        candidate=run_all(candidate, crops_nhwc),
        spec=candidate.spec,
        tolerance=max(HEATMAP_TOLERANCE[precision] for precision in precisions),
        labels=tuple(labels) or tuple(f"crop {index}" for index in range(len(crops_nhwc))),
        in_poses=bool(set(EIGHT_BIT) & set(precisions)),
    )
    return _judge(measured)


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


def _judge(measured: _Measured) -> ParityReport:
    reference, candidate, spec = measured.reference, measured.candidate, measured.spec
    distance_px = np.linalg.norm(
        (candidate.keypoints_heatmap - reference.keypoints_heatmap) * measured.stride, axis=2
    )
    heatmaps = _heatmap_figures(measured)
    decisive, equal = _argmax_agreement(measured)
    decode_px = _decode_error(candidate, spec)
    oks = _oks(distance_px, spec)
    crop, joint = np.unravel_index(distance_px.argmax(), distance_px.shape)
    names = spec.keypoint_names
    return ParityReport(
        crops=len(distance_px),
        tolerance=measured.tolerance,
        **heatmaps,
        score_max=float(np.abs(candidate.scores - reference.scores).max()),
        decode_max_px=decode_px,
        argmax_decisive=int(decisive.sum()),
        argmax_equal=int((decisive & equal).sum()),
        argmax_total=decisive.size,
        identical=float((distance_px <= SAME_KEYPOINT_PX).mean()),
        keypoint_px=_errors(distance_px),
        per_keypoint_px={name: _errors(distance_px[:, k]) for k, name in enumerate(names)},
        oks_mean=None if oks is None else float(oks.mean()),
        oks_min=None if oks is None else float(oks.min()),
        worst=f"{names[joint]} of {measured.labels[crop]}: {distance_px[crop, joint]:.3g} px",
        failures=tuple(_failures(measured, heatmaps["heatmap_max"], decisive & ~equal, decode_px)),
    )


def _heatmap_figures(measured: _Measured) -> dict[str, float | None]:
    reference, candidate = measured.reference.heatmaps_nkhw, measured.candidate.heatmaps_nkhw
    names = ("heatmap_max", "heatmap_mean", "heatmap_relative", "heatmap_peak")
    if reference is None or candidate is None:
        return dict.fromkeys(names)
    error = np.abs(candidate - reference)
    peak = float(np.abs(reference).max())
    largest = float(error.max())
    relative = largest / peak if peak > 0 else 0.0
    return dict(zip(names, (largest, float(error.mean()), relative, peak), strict=True))


def _limit(measured: _Measured) -> float:
    """The absolute bound on heatmaps and scores."""
    heatmaps = measured.reference.heatmaps_nkhw
    values = measured.reference.scores if heatmaps is None else heatmaps
    return measured.tolerance * max(1.0, float(np.abs(values).max()))


def _argmax_agreement(measured: _Measured) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(N, K) where the reference's best cell is beyond doubt, and where both have the same."""
    reference, candidate = measured.reference.heatmaps_nkhw, measured.candidate.heatmaps_nkhw
    if reference is None:
        return _keypoint_agreement(measured)
    flat = reference.reshape(*reference.shape[:2], -1)
    best = np.partition(flat, -2, axis=2)[..., -2:]
    gap = best[..., 1] - best[..., 0]
    if candidate is None:
        near = _keypoint_agreement(measured)[1]
        return (gap > 2 * _limit(measured)) & (best[..., 1] > _limit(measured)), near
    error = np.abs(candidate - reference).max(axis=(2, 3))
    equal = flat.argmax(axis=2) == candidate.reshape(flat.shape).argmax(axis=2)
    return gap > 2 * error, equal


def _keypoint_agreement(measured: _Measured) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Without heatmaps: every keypoint counts, and half a heatmap pixel is the same cell."""
    step = np.abs(measured.candidate.keypoints_heatmap - measured.reference.keypoints_heatmap)
    near = (step <= 0.5).all(axis=2)
    return np.ones_like(near), near


def _decode_error(output: EngineOutput, spec: ModelSpec) -> float | None:
    """Largest distance, in heatmap pixels, from the official rule on the engine's own heatmaps."""
    if output.heatmaps_nkhw is None:
        return None
    official, _ = decode_heatmaps(output.heatmaps_nkhw, spec.decode)
    return float(np.abs(official - output.keypoints_heatmap).max())


def _failures(
    measured: _Measured,
    heatmap_max: float | None,
    moved: NDArray[np.bool_],
    decode_px: float | None,
) -> list[str]:
    """One sentence for each gate that does not hold; NaN holds none."""
    sentences = []
    limit = _limit(measured)
    confident = measured.reference.scores > CONFIDENT_SCORE
    if measured.in_poses and confident.any():
        return _pose_failures(measured, confident) + _decode_failures(measured, decode_px)
    if heatmap_max is not None and not heatmap_max <= limit:
        sentences.append(f"heatmap error max diff {heatmap_max:.3g} > {limit:.3g}")
    score_max = float(np.abs(measured.candidate.scores - measured.reference.scores).max())
    if not score_max <= limit:
        sentences.append(f"score error max diff {score_max:.3g} > {limit:.3g}")
    if moved.any() and not measured.in_poses:
        crop, joint = np.argwhere(moved)[0]
        name = measured.spec.keypoint_names[joint]
        sentences.append(
            f"arg-max differs for {moved.sum()} keypoints, first {name} of {measured.labels[crop]}"
        )
    return sentences + _decode_failures(measured, decode_px)


def _pose_failures(measured: _Measured, confident: NDArray[np.bool_]) -> list[str]:
    """The gates of 8 bit, on the keypoints (N, K) that the reference is sure of."""
    sentences = []
    cells = measured.candidate.keypoints_heatmap - measured.reference.keypoints_heatmap
    cells_p95 = float(np.percentile(np.linalg.norm(cells, axis=2)[confident], 95))
    if not cells_p95 <= POSE_P95_CELLS:
        sentences.append(
            f"95 % of the confident keypoints lie within {cells_p95:.3g} heatmap pixels,"
            f" > {POSE_P95_CELLS:g}"
        )
    similarity = _similarity(np.linalg.norm(cells * measured.stride, axis=2), measured.spec)
    if similarity is not None and not (mean := float(similarity[confident].mean())) >= (
        POSE_OKS_MEAN
    ):
        sentences.append(f"OKS of the confident keypoints is {mean:.3g} < {POSE_OKS_MEAN:g}")
    return sentences


def _decode_failures(measured: _Measured, decode_px: float | None) -> list[str]:
    allowed = DECODE_TOLERANCE_PX[measured.spec.decode]
    if decode_px is not None and not decode_px <= allowed:
        return [f"decoding is {decode_px:.3g} px off the official rule, > {allowed:g}"]
    return []


def _oks(distance_px: NDArray[np.float64], spec: ModelSpec) -> NDArray[np.float64] | None:
    """OKS (N,) between the two poses of each crop, with all K keypoints."""
    similarity = _similarity(distance_px, spec)
    return None if similarity is None else similarity.mean(axis=1)


def _similarity(distance_px: NDArray[np.float64], spec: ModelSpec) -> NDArray[np.float64] | None:
    """The terms of OKS (N, K); the person's area is the unpadded crop. None without sigmas.

    The formula is the COCO one (cocodataset.org, keypoint evaluation).
    """
    if spec.sigmas is None:
        return None
    area = float(np.prod(spec.input_size_hw)) / spec.box_padding**2
    variance = (2 * np.array(spec.sigmas)) ** 2
    similarity: NDArray[np.float64] = np.exp(-(distance_px**2) / (2 * area * variance))
    return similarity


def _errors(distance_px: NDArray[np.float64]) -> Errors:
    p50, p95 = np.percentile(distance_px, [50, 95])
    return Errors(float(p50), float(p95), float(distance_px.max()))
