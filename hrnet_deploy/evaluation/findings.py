"""What the AP doctor found out, cause by cause."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from hrnet_deploy.evaluation.resample import Interval

Verdict = Literal["found", "possible", "ruled out", "cannot tell"]

SMALLEST_EFFECT = 0.002
"""Less AP than this explains nothing."""

CAUSES = {
    "missing_images": "images are missing",
    "truncated_images": "images are truncated or damaged",
    "image_size": "images have another size than the annotations say",
    "exif_rotation": "images are turned by EXIF, their annotations are not",
    "keypoint_order": "the keypoints stand in another order",
    "channel_order": "BGR for RGB",
    "input_size": "the network was trained at another input size",
    "flip_test": "no flip-test",
    "flip_shift": "the flip-test's one-pixel shift",
    "flip_pairs": "the flip-test swaps the wrong keypoints",
    "decode": "another decoding of the heatmaps",
    "boxes": "detector boxes against ground-truth boxes",
    "oks_nms": "no OKS-NMS",
    "rescoring": "persons are not rescored by their keypoints",
    "opencv": "another OpenCV",
    "subset": "other pictures than the published figure's",
}
"""Every cause that is looked for, in words."""


@dataclass(frozen=True)
class Finding:
    """One cause and what speaks for it.

    ``effect`` is the AP that the cause takes away here, by which findings are ranked; ``tried``
    says what was changed, with the AP of the sample then and the paired intervals of the gains in
    AP and in mean OKS.
    """

    cause: str
    verdict: Verdict
    says: str
    remedy: str = ""
    effect: float = 0.0
    tried: str | None = None
    ap: float | None = None
    gain: Interval | None = None
    similarity_gain: Interval | None = None

    def as_json(self) -> dict[str, Any]:
        """The finding for machines."""
        return {
            "cause": self.cause,
            "title": CAUSES[self.cause],
            "verdict": self.verdict,
            "says": self.says,
            "remedy": self.remedy,
            "effect": round(self.effect, 6),
            "tried": self.tried,
            "ap": None if self.ap is None else round(self.ap, 6),
            "gain": self.gain and self.gain.as_json(),
            "similarity_gain": self.similarity_gain and self.similarity_gain.as_json(),
        }


def ranked(findings: list[Finding]) -> list[Finding]:
    """The most likely cause first: by verdict, then by effect, then in the given order."""
    rank = {"found": 0, "possible": 1, "cannot tell": 2, "ruled out": 3}
    return sorted(findings, key=lambda f: (rank[f.verdict], -f.effect))


def judged(
    cause: str,
    tried: str,
    ap: float | None,
    gains: tuple[Interval, Interval],
    *,
    remedy: str,
) -> Finding:
    """The verdict on a change that would undo ``cause``: does AP, or the mean OKS, surely rise?"""
    gain, similar = gains
    rise = gain.value or 0.0
    sure = any(interval.low is not None and interval.low > 0 for interval in gains)
    common = {"tried": tried, "ap": ap, "gain": gain, "similarity_gain": similar}
    if rise >= SMALLEST_EFFECT and sure:
        says = f"with {tried} AP rises by {rise:.3f} {_between(gain)}"
        return Finding(cause, "found", says, remedy, rise, **common)  # type: ignore[arg-type]
    if rise >= SMALLEST_EFFECT:
        says = f"with {tried} AP rises by {rise:.3f}, which may be chance {_between(gain)}"
        return Finding(cause, "possible", says, remedy, rise, **common)  # type: ignore[arg-type]
    says = f"with {tried} AP changes by {rise:+.3f} {_between(gain)}"
    return Finding(cause, "ruled out", says, "", 0.0, **common)  # type: ignore[arg-type]


def _between(interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return "(no interval)"
    return f"(95 %: {interval.low:+.3f} to {interval.high:+.3f})"


def no_time(cause: str) -> Finding:
    """A cause for which no run was left."""
    return Finding(cause, "cannot tell", "no time was left to try it", "Allow more seconds")


def inside(cause: str) -> Finding:
    """What stands inside of a graph that cannot be opened."""
    says = "it stands inside the engine, whose bare network is not at hand"
    return Finding(
        cause, "cannot tell", says, "Explain the .onnx file that the plan was built from"
    )
