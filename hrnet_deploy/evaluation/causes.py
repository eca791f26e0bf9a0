"""The causes that the AP doctor knows, and how each is undone for a try."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.evaluation.coco import CocoImage, first_few
from hrnet_deploy.evaluation.doctor import Case, truth_plan
from hrnet_deploy.evaluation.files_seen import read_resized, read_turned
from hrnet_deploy.evaluation.findings import SMALLEST_EFFECT, Finding
from hrnet_deploy.evaluation.heatmaps import (
    RawHeatmaps,
    Treatment,
    discovered_order,
    discovered_pairs,
)
from hrnet_deploy.evaluation.resample import Matches, average_precision
from hrnet_deploy.evaluation.sample import cut_crops, matches_for
from hrnet_deploy.runtime.geometry import CropGeometry
from hrnet_deploy.runtime.image import read_image
from hrnet_deploy.spec import ModelSpec

USUAL_SIZES_HW = ((256, 192), (384, 288), (256, 256), (128, 96))
"""Input sizes of the published top-down HRNets, and of the one that comes along."""

SIZE_EFFECT = 0.05
"""A network that was trained at another size loses more than this; a larger input than that of the
training can also help a little, which is no fault of the export."""

Pairs = tuple[tuple[int, int], ...]


def every_cause(
    case: Case,
    expected: float | None,
    measured: float | None,
    trained_size_hw: tuple[int, int] | None,
) -> Iterator[Finding]:
    """One finding for each cause, cheap ones first."""
    yield from _files(case)
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
        "channel_order": _channels,
        "exif_rotation": _exif,
        "image_size": _image_size,
        "boxes": _boxes,
        "opencv": _opencv,
    }
    for cause, look in looks.items():
        yield look(case) if case.in_time() else _no_time(cause)
    yield _input_size(case, trained_size_hw)


def _no_time(cause: str) -> Finding:
    return Finding(cause, "cannot tell", "no time was left to try it", "Allow more seconds")


def _inside(cause: str) -> Finding:
    """What stands inside of a graph that cannot be opened."""
    says = "it stands inside the engine, whose bare network is not at hand"
    return Finding(
        cause, "cannot tell", says, "Explain the .onnx file that the plan was built from"
    )


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
    if case.expected_images not in (None, known):
        says = (
            f"{known} images are evaluated, the expected AP is of {case.expected_images}: other"
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
        channels = list(order)
        points, scores = case.keypoints_px[:, channels], case.scores[:, channels]
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
        return _inside(cause)
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
        return _inside(cause)
    tried = "no shift" if treatment.shift else "the mirrored heatmap shifted by one pixel"
    remedy = f"Export with {'--no-shift' if treatment.shift else '--shift'}, or with the recipe"
    return case.judge(cause, tried, other, remedy)


def _pairs(case: Case) -> Finding:
    cause, treatment = "flip_pairs", case.treatment
    if not treatment.flip_test:
        return Finding(cause, "ruled out", "the engine does no flip-test")
    if case.raw is None:
        return _inside(cause)
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


def _best(case: Case, treatments: list[Treatment]) -> tuple[Treatment, Matches]:
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
        return _inside(cause)
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


def _worth(case: Case, without: Matches | None) -> str:
    """What a step that is on is worth on the sample."""
    if without is None:
        return ""
    base, other = average_precision(case.base), average_precision(without)
    if base is None or other is None:
        return ""
    return f"; without it AP would change by {other - base:+.3f}"


def _channels(case: Case) -> Finding:
    swapped = np.ascontiguousarray(case.crops[..., ::-1])
    other = case.rerun(case.sample.plan, swapped)
    remedy = "Export with the right color_order in the recipe; pictures are read as BGR"
    return case.judge("channel_order", "red and blue exchanged", other, remedy)


def _exif(case: Case) -> Finding:
    cause, turned = "exif_rotation", case.files.turned
    in_sample = [image for image in case.sample.plan.images if image.id in turned]
    if not turned:
        says = f"no picture of {case.files.looked_at} carries a rotation"
        return Finding(cause, "ruled out", says)
    if not in_sample:
        says = (
            f"{len(turned)} of {case.files.looked_at} pictures carry a rotation, none of the sample"
        )
        return Finding(cause, "cannot tell", says, "Take a larger sample")

    def read(image: CocoImage, path: Path) -> NDArray[np.uint8]:
        return read_turned(case.plan, image.id)

    _, crops = cut_crops(case.sample.plan, read=read)
    other = case.rerun(case.sample.plan, crops)
    tried = f"the {len(turned)} rotated pictures (of {case.files.looked_at}) shown upright"
    remedy = "Store the pictures upright, or annotate the stored pixels"
    return case.judge(cause, tried, other, remedy)


def _image_size(case: Case) -> Finding:
    cause, files = "image_size", case.files
    names = set(files.other_size)
    chosen = [im for im in case.sample.plan.images if im.file_name in names]
    if not files.other_size:
        says = "every picture that was looked at has the size that the annotations state"
        return Finding(cause, "ruled out", says)
    if not chosen:
        says = f"{len(names)} of {files.looked_at} pictures, none of the sample"
        return Finding(cause, "cannot tell", says, "Take a larger sample")

    def read(image: CocoImage, path: Path) -> NDArray[np.uint8]:
        if image.width is None or image.height is None or image.id in files.turned:
            return read_image(path, max_pixels=case.plan.settings.max_pixels)
        return read_resized(case.plan, image.id, (image.width, image.height))

    _, crops = cut_crops(case.sample.plan, read=read)
    other = case.rerun(case.sample.plan, crops)
    tried = f"{len(names)} pictures (of {files.looked_at}) scaled to the annotated size"
    return case.judge(cause, tried, other, "Use the pictures that were annotated")


def _boxes(case: Case) -> Finding:
    cause = "boxes"
    if case.plan.fingerprint["data"]["boxes"] == "ground truth":
        if case.expected_boxes == "ground truth":
            return Finding(cause, "ruled out", "the expected AP is for ground-truth boxes as well")
        says = "ground-truth boxes are used; detector boxes were not given to compare with"
        return Finding(cause, "cannot tell", says, "Give --boxes")
    plan = truth_plan(case)
    _, crops = cut_crops(plan)
    other = case.rerun(plan, crops)
    if case.expected_boxes == "detector":
        change = (average_precision(other) or 0.0) - (average_precision(case.base) or 0.0)
        says = "the expected AP is for detector boxes, and they are used"
        return Finding(cause, "ruled out", f"{says}; ground-truth boxes would give {change:+.3f}")
    remedy = "Compare with the figure published for detector boxes, or leave --boxes out"
    return case.judge(cause, "ground-truth boxes", other, remedy)


def _opencv(case: Case) -> Finding:
    _, crops = cut_crops(case.sample.plan, cut=_exact_crops)
    other = case.rerun(case.sample.plan, crops)
    base, exact = average_precision(case.base), average_precision(other)
    change = (exact or 0.0) - (base or 0.0)
    says = (
        f"OpenCV {cv2.__version__}; crops interpolated exactly instead of in its fixed-point steps"
        f" change AP by {change:+.3f}: another OpenCV cannot explain more than about that"
    )
    gains = case.gains(other)
    sure = change >= SMALLEST_EFFECT and any((interval.low or 0) > 0 for interval in gains)
    return Finding(
        "opencv",
        "possible" if sure else "ruled out",
        says,
        "Evaluate with OpenCV 4, as published figures were made" if sure else "",
        max(0.0, change),
        "exact interpolation",
        exact,
        *gains,
    )


def _exact_crops(
    image_bgr: NDArray[np.uint8], geometry: CropGeometry, crops_nhwc: NDArray[np.uint8]
) -> None:
    """Bilinear crops in floating point; OpenCV 4 rounds places to 1/32 of a pixel."""
    width, height = geometry.input_size_wh
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height))
    padded = np.pad(image_bgr, ((1, 1), (1, 1), (0, 0))).astype(np.float32)
    for affine, crop in zip(geometry.image_to_input, crops_nhwc, strict=True):
        if not affine.any():
            crop[...] = 0
            continue
        back = cv2.invertAffineTransform(affine)
        x = back[0, 0] * columns + back[0, 1] * rows + back[0, 2] + 1
        y = back[1, 0] * columns + back[1, 1] * rows + back[1, 2] + 1
        x = np.clip(x, 0, padded.shape[1] - 1.001)
        y = np.clip(y, 0, padded.shape[0] - 1.001)
        left, top = x.astype(np.intp), y.astype(np.intp)
        dx, dy = (x - left)[..., None], (y - top)[..., None]
        upper = padded[top, left] * (1 - dx) + padded[top, left + 1] * dx
        lower = padded[top + 1, left] * (1 - dx) + padded[top + 1, left + 1] * dx
        crop[...] = np.rint(upper * (1 - dy) + lower * dy)


def _input_size(case: Case, trained_size_hw: tuple[int, int] | None) -> Finding:
    cause, spec = "input_size", case.engine.spec
    if case.network is None or not case.any_size:
        return _inside(cause)
    wanted = (trained_size_hw, *USUAL_SIZES_HW)
    sizes = [s for s in dict.fromkeys(wanted) if s is not None and s != spec.input_size_hw]
    results: list[tuple[tuple[int, int], Matches]] = []
    for size in sorted(sizes, key=lambda size: (size != trained_size_hw, size[0] * size[1])):
        if not case.in_time():
            break
        results.append((size, _at_size(case, size)))
    if not results:
        return _no_time(cause)
    (height, width), other = max(
        results,
        key=lambda r: (average_precision(r[1]) or 0.0) + SIZE_EFFECT * (r[0] == trained_size_hw),
    )
    finding = case.judge(
        cause,
        f"an input of {height}x{width} instead of {spec.input_size_hw[0]}x{spec.input_size_hw[1]}",
        other,
        f"Export with --input-size {height}x{width}",
    )
    small = finding.effect < SIZE_EFFECT and (height, width) != trained_size_hw
    if finding.verdict == "found" and small:
        finding = dataclasses.replace(finding, verdict="possible")
    if len(results) < len(sizes) and finding.verdict == "ruled out":
        says = f"{finding.says}; {len(sizes) - len(results)} other sizes were not tried"
        return dataclasses.replace(finding, says=says)
    return finding


def _at_size(case: Case, size_hw: tuple[int, int]) -> Matches:
    """The sample through the bare network at another input size, with the engine's treatment."""
    assert case.network is not None  # noqa: S101 - narrows the type; the caller asked
    plan = case.sample.plan
    geometry, crops = cut_crops(plan, input_size_wh=(size_hw[1], size_hw[0]))
    keypoints, scores = RawHeatmaps.run(case.network, crops).decoded(case.treatment)
    points = geometry.to_image(keypoints, (size_hw[1] // 4, size_hw[0] // 4))
    return matches_for(plan, points, scores, geometry=geometry)
