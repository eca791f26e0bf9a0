"""``hrnet-deploy verify``: parity of two artefacts, on pictures of one's own if given."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hrnet_deploy.cli.options import (
    FILE,
    boxes_option,
    print_json,
    print_table,
    say,
    with_engine_options,
)
from hrnet_deploy.errors import EXIT_GATE, InputError
from hrnet_deploy.files import check_input_file

if TYPE_CHECKING:
    from hrnet_deploy.evaluation.crops import LabelledCrops
    from hrnet_deploy.runtime.engine_options import EngineOptions
    from hrnet_deploy.spec import ModelSpec

DEFAULT_CROPS = 32


@click.command("verify")
@click.argument("reference", type=FILE)
@click.argument("candidate", type=FILE)
@click.option("--images", type=FILE, help="A picture or a folder of them.")
@click.option("--annotations", type=FILE, help="COCO keypoints for the boxes.")
@boxes_option
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=DEFAULT_CROPS, show_default=True,
    help="How many crops to compare.",
)  # fmt: skip
@with_engine_options(flip=False)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(
    reference: Path,
    candidate: Path,
    images: Path | None,
    annotations: Path | None,
    boxes: Path | None,
    limit: int,
    engine_options: EngineOptions,
    as_json: bool,
) -> int:
    """Compare the poses of CANDIDATE with those of REFERENCE.

    Each is a checkpoint (.pth, .safetensors), an engine (.onnx, .plan) or, beside an adopted
    engine, the foreign .onnx it came from. The crops are the persons of --annotations in
    --images, whole pictures of --images, or built-in seeded ones. --backend and --precision are
    those of CANDIDATE, so that an engine can be compared with itself run in another way. Exit
    code 1 where a gate fails.
    """
    if (annotations or boxes) and not images:
        option = "--annotations" if annotations else "--boxes"
        raise InputError(option, "needs the pictures", "Pass --images as well")
    if boxes and not annotations:
        raise InputError(
            "--boxes", "needs the annotation file for the image ids", "Pass --annotations"
        )
    for path in (reference, candidate):
        check_input_file(path, what="checkpoint or engine")
    from hrnet_deploy.export.parity import check_comparable, compare
    from hrnet_deploy.export.verify import open_pair

    with open_pair(reference, candidate, engine_options, say=say) as (first, second):
        check_comparable(first, second)
        crops = _crops(images, annotations, boxes, limit, second.spec)
        report = compare(first, second, crops.crops_nhwc, labels=crops.pictures)
    if as_json:
        print_json(dataclasses.asdict(report) | {"passed": report.passed})
    else:
        from hrnet_deploy.cli.parity import parity_table, per_keypoint_table

        print_table(parity_table({candidate.name: report}))
        print_table(per_keypoint_table(report))
    return 0 if report.passed else EXIT_GATE


def _crops(
    images: Path | None,
    annotations: Path | None,
    boxes: Path | None,
    limit: int,
    spec: ModelSpec,
) -> LabelledCrops:
    from hrnet_deploy.evaluation.crops import LabelledCrops, annotated_crops, whole_picture_crops

    if images is None:
        from hrnet_deploy.export.crops import seeded_crops

        crops = seeded_crops(spec.input_size_hw, min(limit, DEFAULT_CROPS))
        say(f"comparing on {len(crops)} built-in crops; --images compares on your own pictures")
        return LabelledCrops(crops, tuple(f"built-in crop {i}" for i in range(len(crops))))
    if annotations is None:
        say("comparing on whole pictures; --annotations gives the boxes of persons")
        return whole_picture_crops(images, spec, limit)
    return annotated_crops(images, annotations, boxes, spec, limit)
