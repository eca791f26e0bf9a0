"""``hrnet-deploy build``: an ONNX engine to a TensorRT plan, with parity proven."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hrnet_deploy.cli.options import (
    FILE,
    MAX_BATCH,
    force_option,
    json_option,
    print_json,
    print_table,
    say,
)
from hrnet_deploy.errors import InputError, command_line

if TYPE_CHECKING:
    from hrnet_deploy.export.plan import PlanReport, PlanRequest

BATCH_FLAGS = ("min_batch", "opt_batch", "max_batch")
BATCH = click.IntRange(1, MAX_BATCH)


@click.command("build")
@click.argument("onnx", type=FILE)
@click.option("-o", "--output", type=FILE, help="The .plan file to write. Default: beside ONNX.")
@click.option("--profile", metavar="NAME|FILE", help="server, latency, jetson, or a .toml file.")
@click.option("--min-batch", type=BATCH, help="Smallest batch. Default: 1.")
@click.option("--opt-batch", type=BATCH, help="The batch to be fastest at. Default: 32.")
@click.option("--max-batch", type=BATCH, help="Largest batch; more is split. Default: 128.")
@click.option("--level", type=click.IntRange(0, 5), help="How much the builder tries. Default: 3.")
@click.option(
    "--workspace-mb", type=click.IntRange(1, 1 << 20), help="The builder's memory in MiB."
)
@click.option("--tf32/--no-tf32", default=None, help="Let float layers use TF32. Default: no.")
@click.option(
    "--hardware-compatibility",
    type=click.Choice(["none", "same_compute_capability", "ampere_plus"]),
    help="Which other GPUs the plan is for. Default: none.",
)
@click.option(
    "--version-compatible/--no-version-compatible",
    default=None,
    help="Make a plan for every TensorRT of this major version. Default: no.",
)
@click.option("--detector", is_flag=True, help="ONNX is a person detector, for predict --detector.")
@click.option("--detector-config", type=FILE, help="What the detector expects and gives (.toml).")
@click.option("--device", default="cuda:0", show_default=True, help="The GPU to build on.")
@click.option("--timing-cache", type=FILE, help="Default: a file beside the plan.")
@click.option("--no-timing-cache", is_flag=True, help="Time every kernel anew, keep nothing.")
@click.option("--layers", type=FILE, help="Write the report of every layer there (JSON).")
@click.option("--keep-rejected", is_flag=True, help="Keep a plan that failed, as .rejected.plan.")
@force_option
@json_option
def command(
    onnx: Path,
    output: Path | None,
    profile: str | None,
    detector: bool,
    detector_config: Path | None,
    device: str,
    timing_cache: Path | None,
    no_timing_cache: bool,
    layers: Path | None,
    keep_rejected: bool,
    force: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Build a TensorRT plan of ONNX, a file that hrnet-deploy export wrote, or of a detector.

    Precision is that of the file: give the .fp16.onnx one for a half-precision plan. The plan is
    compared with the file at its smallest, best and largest batch, and written only if the poses
    are the same, together with a manifest (.plan.json) that is checked before it is loaded. It
    fits this kind of GPU and this TensorRT.
    """
    from hrnet_deploy.engines.build_settings import load_settings
    from hrnet_deploy.engines.tensorrt import device_index
    from hrnet_deploy.export.plan import PlanRequest, default_output, make_plan

    request = PlanRequest(
        onnx=onnx,
        output=output or default_output(onnx),
        settings=load_settings(profile, **flags),
        device=device_index(device),
        force=force,
        keep_rejected=keep_rejected,
        timing_cache=timing_cache,
        use_timing_cache=not no_timing_cache,
        layers=layers,
    )
    if detector_config is not None and not detector:
        raise InputError("--detector-config", "needs --detector", "Say that it is a detector")
    if detector:
        asked = profile is not None or any(flags[name] is not None for name in BATCH_FLAGS)
        _build_detector(request, detector_config, as_json=as_json, own_batch=asked)
        return
    report = make_plan(request, say=say)
    if as_json:
        print_json({"plan": str(report.path), "manifest": report.manifest.to_dict()})
        return
    _print_report(report)
    data = ("--annotations", "FILE", "--images", "FOLDER")
    say(f"next: {command_line('eval', '--engine', report.path, *data)}")


def _build_detector(
    request: PlanRequest, config: Path | None, *, as_json: bool, own_batch: bool
) -> None:
    from hrnet_deploy.predict.detector.build import detector_settings, make_detector_plan

    settings = detector_settings(request.settings, asked=own_batch)
    request = dataclasses.replace(request, settings=settings)
    manifest = make_detector_plan(request, config, say=say)
    if as_json:
        print_json({"plan": str(request.output), "manifest": manifest.to_dict()})
        return
    for batch, figures in manifest.parity.items():
        differs = f"scores by {figures['scores']:.2g}, edges by {figures['edges_px']:.2g} px"
        differs = f"{differs} ({figures['boxes']} boxes)"
        click.echo(f"batch {batch}: differs from {request.onnx.name} in {differs}")
    click.echo(f"{request.output}: {manifest.built_for()}, {manifest.precision}")
    if not any(figures["boxes"] for figures in manifest.parity.values()):
        say("note: the built-in pictures gave no box, so that only scores were compared")
    following = ("predict", "SOURCE", "--engine", "ENGINE", "--detector", request.output)
    say(f"next: {command_line(*following)}")


def _print_report(report: PlanReport) -> None:
    from hrnet_deploy.cli.parity import parity_table

    print_table(parity_table({f"batch {batch}": r for batch, r in report.parity.items()}))
    click.echo(f"{report.path}: {report.manifest.built_for()}, {report.manifest.precision}")
