"""The causes that the AP doctor knows, and how each is undone for a try."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator

from hrnet_deploy.evaluation.case import Case
from hrnet_deploy.evaluation.findings import Finding, inside, no_time
from hrnet_deploy.evaluation.heatmaps import (
    Treatment,
    discovered_order,
    discovered_pairs,
)
from hrnet_deploy.evaluation.pixel_causes import (
    boxes,
    channels,
    exif,
    image_size,
    input_size,
    opencv,
)
from hrnet_deploy.evaluation.resample import PictureMatches, average_precision
from hrnet_deploy.evaluation.sample import matches_for
from hrnet_deploy.spec import ModelSpec
from hrnet_deploy.values import first_few

Pairs = tuple[tuple[int, int], ...]


def every_cause(
    case: Case, measured: float | None, trained_size_hw: tuple[int, int] | None
) -> Iterator[Finding]:
    """One finding for each cause, cheap ones first; ``measured`` is an AP in 0 to 1."""
    yield from _files(case)
    expected = case.expected.ap
    gap = 0.0 if expected is None or measured is None else abs(expected - measured)
    yield _subset(case, gap)
    yield _order(case)
    yield _flip_test(case)
    yield _shift(case)
    yield _pairs(case)
    yield _decode(case)
    yield _suppression(case)
    yield _rescoring(case)
    looks: dict[str, Callable[[Case], Finding]] = {
        "channel_order": channels,
        "exif_rotation": exif,
        "image_size": image_size,
        "boxes": boxes,
        "opencv": opencv,
    }
    for cause, look in looks.items():
        yield look(case) if case.in_time() else no_time(cause)
    yield input_size(case, trained_size_hw)


def _files(case: Case) -> Iterator[Finding]:
    files, ap = case.files, average_precision(case.base) or 0.0
    if files.missing:
        says = (
            f"{len(files.missing)} images with {files.missing_persons:.1%} of the persons are not"
            f" there, e.g. {first_few(files.missing)}"
        )
        remedy = "Complete the images folder; until then the AP is of other pictures"
        effect = files.missing_persons * ap
        yield Finding("missing_images", "found", says, remedy, effect)
    else:
        yield Finding("missing_images", "ruled out", "every image with a person is there")
    if files.damaged:
        says = (
            f"{len(files.damaged)} of {files.looked_at} images cannot be read whole,"
            f" e.g. {first_few(files.damaged)}; {files.damaged_persons:.1%} of the persons"
        )
        remedy = "Download them again: others decode them to a grey lower half without a word"
        yield Finding("truncated_images", "found", says, remedy, files.damaged_persons * ap)
    else:
        says = f"{files.looked_at} images were looked at, all complete"
        yield Finding("truncated_images", "ruled out", says)


def _subset(case: Case, gap: float) -> Finding:
    cause, known, evaluated = "subset", len(case.plan.annotations.images), len(case.plan.images)
    if evaluated < known:
        says = f"only the first {evaluated} of {known} images are evaluated (--limit)"
        return Finding(cause, "possible", says, "Leave --limit out", gap / 2)
    if case.expected.images not in (None, known):
        says = (
            f"{known} images are evaluated, the expected AP is of {case.expected.images}: other"
            " pictures have another AP, higher or lower"
        )
        return Finding(cause, "possible", says, "Compare on the same pictures", gap / 2)
    return Finding(cause, "ruled out", f"all {known} images of the annotation file are evaluated")


def _order(case: Case) -> Finding:
    cause = "keypoint_order"
    names = case.engine.spec.keypoint_names
    if case.raw is None:
        keypoints_px = case.keypoints_px
    else:
        plain, _ = case.raw.decoded(case.treatment.but(flip_test=False))
        keypoints_px = case.poses(plain)
    order = discovered_order(case.sample, keypoints_px)
    if order is None:
        return Finding(cause, "ruled out", "every channel fits its own annotated keypoint best")
    moved = [f"{names[k]} is in channel {c}" for k, c in enumerate(order) if k != c]
    tried = f"the channels in another order ({first_few(moved)})"
    other = case.treated(case.treatment.but(order=order))
    if other is None:
        chosen = list(order)
        points, scores = case.keypoints_px[:, chosen], case.scores[:, chosen]
        other = matches_for(case.sample.plan, points, scores)
    remedy = (
        "Export with the keypoint set (--keypoints, or a recipe) that the network was trained on"
    )
    return case.judge(cause, tried, other, remedy)


def _flip_test(case: Case) -> Finding:
    cause, spec = "flip_test", case.engine.spec
    if spec.flip_test:
        worth = _worth(case, case.treated(case.treatment.but(flip_test=False)))
        return Finding(cause, "ruled out", f"the engine does the flip-test{worth}")
    pairs = _named_pairs(spec) or spec.flip_pairs
    if case.raw is None or pairs is None:
        return inside(cause)
    with_flip = case.treatment.but(flip_test=True, pairs=pairs)
    best = _best(case, [with_flip.but(shift=True), with_flip.but(shift=False)])
    shift = "and its shift" if best[0].shift else "without a shift"
    remedy = "Export with --flip: published figures are made with it"
    return case.judge(cause, f"a flip-test {shift}", best[1], remedy)


def _shift(case: Case) -> Finding:
    cause, treatment = "flip_shift", case.treatment
    if not treatment.flip_test:
        return Finding(cause, "ruled out", "the engine does no flip-test")
    other = case.treated(treatment.but(shift=not treatment.shift))
    if other is None:
        return inside(cause)
    tried = "no shift" if treatment.shift else "the mirrored heatmap shifted by one pixel"
    remedy = f"Export with {'--no-shift' if treatment.shift else '--shift'}, or with the recipe"
    return case.judge(cause, tried, other, remedy)


def _pairs(case: Case) -> Finding:
    cause, treatment = "flip_pairs", case.treatment
    if not treatment.flip_test:
        return Finding(cause, "ruled out", "the engine does no flip-test")
    if case.raw is None:
        return inside(cause)
    own = _normal(treatment.pairs)
    shown = _normal(discovered_pairs(case.raw))
    named = _named_pairs(case.engine.spec)
    others = [p for p in dict.fromkeys((named, shown)) if p is not None and p != own]
    if not others:
        return Finding(cause, "ruled out", "the network's own mirror images show the same pairs")
    pairs, other = _best(case, [treatment.but(pairs=p) for p in others])
    names = case.engine.spec.keypoint_names
    new = [f"{names[a]} - {names[b]}" for a, b in pairs.pairs if (a, b) not in own]
    lost = [f"not {names[a]} - {names[b]}" for a, b in own if (a, b) not in pairs.pairs]
    tried = f"other pairs in the flip-test ({first_few(new + lost)})"
    remedy = "Export with the right keypoint set, or with flip_pairs in the recipe"
    return case.judge(cause, tried, other, remedy)


def _best(case: Case, treatments: list[Treatment]) -> tuple[Treatment, PictureMatches]:
    tried = [(t, m) for t in treatments if (m := case.treated(t)) is not None]
    return max(tried, key=lambda pair: average_precision(pair[1]) or 0.0)


def _normal(pairs: Pairs) -> Pairs:
    return tuple(sorted((min(pair), max(pair)) for pair in pairs))


def _named_pairs(spec: ModelSpec) -> Pairs | None:
    """The pairs that the keypoints' names tell (left and right); None where they tell none."""
    plain = [re.sub(r"[\W_]+", "", name.lower()) for name in spec.keypoint_names]
    index = {name: k for k, name in enumerate(plain)}
    pairs = [
        (k, index[name.replace("left", "right", 1)])
        for k, name in enumerate(plain)
        if "left" in name and name.replace("left", "right", 1) in index
    ]
    return _normal(tuple(pairs)) or None


def _decode(case: Case) -> Finding:
    cause, treatment = "decode", case.treatment
    if case.raw is None:
        return inside(cause)
    rules = [rule for rule in ("quarter", "dark", "none") if rule != treatment.decode]
    rule, other = _best(case, [treatment.but(decode=rule) for rule in rules])
    finding = case.judge(cause, f"the decoding '{rule.decode}'", other, f"--decode {rule.decode}")
    if treatment.decode == "quarter" and finding.verdict in ("found", "possible"):
        # DARK helps most networks a little: that is no fault of an official decoding.
        says = f"{finding.says}; the quarter offset is the official decoding all the same"
        return dataclasses.replace(finding, verdict="ruled out", says=says, remedy="", effect=0.0)
    return finding


def _suppression(case: Case) -> Finding:
    cause, settings = "oks_nms", case.plan.settings
    treatment = dataclasses.replace(settings, nms="none" if settings.nms == "hard" else "hard")
    other = matches_for(case.sample.plan, case.keypoints_px, case.scores, settings=treatment)
    if settings.nms == "hard":
        return Finding(cause, "ruled out", f"OKS-NMS is on{_worth(case, other)}")
    return case.judge(cause, "OKS-NMS", other, "Evaluate with --oks-nms hard")


def _rescoring(case: Case) -> Finding:
    other = matches_for(case.sample.plan, case.keypoints_px, case.scores, rescore=False)
    says = f"persons are scored by box and keypoints{_worth(case, other)}"
    return Finding("rescoring", "ruled out", says)


def _worth(case: Case, without: PictureMatches | None) -> str:
    """What a step that is on is worth on the sample."""
    if without is None:
        return ""
    base, other = average_precision(case.base), average_precision(without)
    if base is None or other is None:
        return ""
    return f"; without it AP would change by {other - base:+.3f}"
