"""``hrnet-deploy export``: a checkpoint to ONNX engines, with parity proven."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from hrnet_deploy.cli.options import (
    FILE,
    flip_option,
    force_option,
    input_size_option,
    json_option,
    keypoints_option,
    print_json,
    print_table,
    recipe_option,
    say,
    static_batch_option,
)
from hrnet_deploy.errors import InputError, command_line


@click.command("export")
@click.argument("checkpoint", type=FILE)
@click.option("-o", "--output", type=FILE, help="The .onnx file to write.")
@click.option(
    "--precision",
    "precisions",
    type=click.Choice(["fp32", "fp16"]),
    multiple=True,
    help="Write only this precision; may be given twice. Default: both.",
)
@input_size_option
@keypoints_option
@recipe_option
@flip_option
@click.option(
    "--shift/--no-shift",
    "shift",
    default=None,
    help="Move the mirrored heatmap by one pixel. Default: as the recipe says.",
)
@click.option(
    "--decode",
    type=click.Choice(["quarter", "dark", "none"]),
    help="Sub-pixel rule; none is the plain arg-max. Default: as the recipe says.",
)
@static_batch_option
@click.option("--no-heatmaps", is_flag=True, help="Leave the heatmaps output away.")
@click.option("--allow-unknown", is_flag=True, help="Accept a file unlike the published one.")
@click.option("--keep-rejected", is_flag=True, help="Keep a file that failed, as .rejected.onnx.")
@click.option(
    "--plan/--no-plan",
    "plan",
    default=None,
    help="Build a TensorRT plan of the fp16 file too. Default: where a GPU and TensorRT are.",
)
@force_option
@json_option
def command(
    checkpoint: Path,
    output: Path | None,
    precisions: tuple[str, ...],
    input_size: tuple[int, int] | None,
    keypoints: str | None,
    recipe: str | None,
    flip: bool,
    shift: bool | None,
    decode: str | None,
    batch: int | None,
    no_heatmaps: bool,
    allow_unknown: bool,
    keep_rejected: bool,
    plan: bool | None,
    force: bool,
    as_json: bool,
) -> None:
    """Turn CHECKPOINT into ONNX files that give the same poses as PyTorch.

    Writes w32.onnx and w32.fp16.onnx beside w32.pth. Parity is measured before a file appears;
    where it fails the exit code is 1 and nothing is written. With a GPU and TensorRT at hand,
    w32.plan is built of the fp16 file.
    """
    from hrnet_deploy.export.settings import ExportSettings, check_outputs

    settings = ExportSettings(
        output=output,
        precisions=tuple(dict.fromkeys(precisions)) or ("fp32", "fp16"),  # type: ignore[arg-type]
        input_size_hw=input_size,
        keypoints=keypoints,
        recipe=recipe,
        flip_test=flip,
        shift_heatmap=shift,
        decode=decode,  # type: ignore[arg-type]
        static_batch=batch,
        heatmaps=not no_heatmaps,
        allow_unknown=allow_unknown,
        keep_rejected=keep_rejected,
        force=force,
    )
    targets = check_outputs(checkpoint, settings)
    half = targets.get("fp16")
    if plan and half is None:
        raise InputError("--plan", "needs the fp16 file", "Leave --precision fp32 away")
    from hrnet_deploy.export.plan import build_beside, plan_target

    plan_path = plan_target(half, wanted=plan, force=force) if half is not None else None

    from hrnet_deploy.export.run import export_checkpoint

    exported = export_checkpoint(checkpoint, settings, say=say)
    if half is not None and plan_path is not None:
        build_beside(half, plan_path, wanted=plan, say=say)
    if as_json:
        print_json(
            [
                {
                    "path": str(item.path),
                    "spec": dataclasses.asdict(item.spec),
                    "parity": dataclasses.asdict(item.parity),
                }
                for item in exported
            ]
        )
        return
    from hrnet_deploy.cli.parity import parity_table

    print_table(parity_table({item.path.name: item.parity for item in exported}))
    data = ("--annotations", "person_keypoints_val2017.json", "--images", "val2017/")
    say(f"next: {command_line('eval', '--engine', exported[0].path, *data)}")
