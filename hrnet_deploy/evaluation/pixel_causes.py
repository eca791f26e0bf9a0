"""Causes in pictures, boxes and crops: each is undone by cutting the crops another way."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.evaluation.case import Case, truth_plan
from hrnet_deploy.evaluation.coco import CocoImage
from hrnet_deploy.evaluation.files_seen import read_resized, read_turned
from hrnet_deploy.evaluation.findings import SMALLEST_EFFECT, Finding, inside, no_time
from hrnet_deploy.evaluation.heatmaps import RawHeatmaps
from hrnet_deploy.evaluation.resample import PictureMatches, average_precision
from hrnet_deploy.evaluation.sample import cut_crops, matches_for
from hrnet_deploy.runtime.geometry import CropGeometry
from hrnet_deploy.runtime.image import read_image

USUAL_SIZES_HW = ((256, 192), (384, 288), (256, 256), (128, 96))
"""Input sizes of the published top-down HRNets, and of the one that comes along."""

SIZE_EFFECT = 0.05
"""A network that was trained at another size loses more than this; a larger input than that of the
training can also help a little, which is no fault of the export."""


def channels(case: Case) -> Finding:
    """Red and blue exchanged in the crops."""
    swapped = np.ascontiguousarray(case.crops[..., ::-1])
    other = case.rerun(case.sample.plan, swapped)
    remedy = "Export with the right color_order in the recipe; pictures are read as BGR"
    return case.judge("channel_order", "red and blue exchanged", other, remedy)


def exif(case: Case) -> Finding:
    """Pictures shown as their EXIF rotation wants it."""
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


def image_size(case: Case) -> Finding:
    """Pictures scaled to the size that the annotations state."""
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


def boxes(case: Case) -> Finding:
    """Ground-truth boxes instead of the given ones."""
    cause = "boxes"
    if case.plan.fingerprint["data"]["boxes"] == "ground truth":
        if case.expected.boxes == "ground truth":
            return Finding(cause, "ruled out", "the expected AP is for ground-truth boxes as well")
        says = "ground-truth boxes are used; detector boxes were not given to compare with"
        return Finding(cause, "cannot tell", says, "Give --boxes")
    plan = truth_plan(case)
    _, crops = cut_crops(plan)
    other = case.rerun(plan, crops)
    if case.expected.boxes == "detector":
        change = (average_precision(other) or 0.0) - (average_precision(case.base) or 0.0)
        says = "the expected AP is for detector boxes, and they are used"
        return Finding(cause, "ruled out", f"{says}; ground-truth boxes would give {change:+.3f}")
    remedy = "Compare with the figure published for detector boxes, or leave --boxes out"
    return case.judge(cause, "ground-truth boxes", other, remedy)


def opencv(case: Case) -> Finding:
    """Crops interpolated exactly: what another OpenCV can change at most."""
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


def input_size(case: Case, trained_size_hw: tuple[int, int] | None) -> Finding:
    """The bare network at the size of its training, and at the usual ones."""
    cause, spec = "input_size", case.engine.spec
    if case.network is None or not case.any_size:
        return inside(cause)
    wanted = (trained_size_hw, *USUAL_SIZES_HW)
    sizes = [s for s in dict.fromkeys(wanted) if s is not None and s != spec.input_size_hw]
    results: list[tuple[tuple[int, int], PictureMatches]] = []
    for size in sorted(sizes, key=lambda size: (size != trained_size_hw, size[0] * size[1])):
        if not case.in_time():
            break
        results.append((size, _at_size(case, size)))
    if not results:
        return no_time(cause)
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


def _at_size(case: Case, size_hw: tuple[int, int]) -> PictureMatches:
    """The sample through the bare network at another input size, with the engine's treatment."""
    assert case.network is not None  # noqa: S101 - narrows the type; the caller asked
    plan = case.sample.plan
    geometry, crops = cut_crops(plan, input_size_wh=(size_hw[1], size_hw[0]))
    keypoints, scores = RawHeatmaps.run(case.network, crops).decoded(case.treatment)
    points = geometry.to_image(keypoints, (size_hw[1] // 4, size_hw[0] // 4))
    return matches_for(plan, points, scores, geometry=geometry)
