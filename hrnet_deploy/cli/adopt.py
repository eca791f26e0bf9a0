"""``hrnet-deploy adopt``: an engine of a heatmap network that somebody else exported."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from hrnet_deploy.cli.options import (
    FILE,
    flip_option,
    force_option,
    json_option,
    print_json,
    print_table,
    say,
)
from hrnet_deploy.errors import command_line
from hrnet_deploy.files import check_input_file


@click.command("adopt")
@click.argument("network", type=FILE)
@click.option(
    "--recipe",
    metavar="FILE|NAME",
    required=True,
    help="What the network expects and gives (.toml).",
)
@click.option("-o", "--output", type=FILE, help="The .onnx file to write.")
@flip_option
@click.option("--shift/--no-shift", "shift", default=None, help="Default: as the recipe says.")
@click.option(
    "--decode", type=click.Choice(["quarter", "dark", "none"]), help="Default: as the recipe says."
)
@click.option("--no-heatmaps", is_flag=True, help="Leave the heatmaps output away.")
@click.option("--allow-unknown", is_flag=True, help="Accept a file unlike the recipe's sha256.")
@click.option("--keep-rejected", is_flag=True, help="Keep a file that failed, as .rejected.onnx.")
@force_option
@json_option
def command(
    network: Path,
    recipe: str,
    output: Path | None,
    flip: bool,
    shift: bool | None,
    decode: str | None,
    no_heatmaps: bool,
    allow_unknown: bool,
    keep_rejected: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Wrap NETWORK (.onnx, images in, heatmaps out) as an engine of ours.

    Writes NETWORK.adopted.onnx beside it, with normalisation, flip-test and decoding inside the
    graph, after it was proven equal to the network run as it came.
    """
    check_input_file(network, what=".onnx file")
    from hrnet_deploy.export.adopt import adopt
    from hrnet_deploy.export.settings import ExportSettings

    settings = ExportSettings(
        output=output,
        precisions=("fp32",),
        recipe=recipe,
        flip_test=flip,
        shift_heatmap=shift,
        decode=decode,  # type: ignore[arg-type]
        heatmaps=not no_heatmaps,
        allow_unknown=allow_unknown,
        keep_rejected=keep_rejected,
        force=force,
    )
    adopted = adopt(network, settings, say=say)
    if as_json:
        facts = {
            "path": str(adopted.path),
            "spec": dataclasses.asdict(adopted.spec),
            "parity": dataclasses.asdict(adopted.parity),
        }
        print_json(facts)
        return
    from hrnet_deploy.cli.parity import parity_table

    print_table(parity_table({adopted.path.name: adopted.parity}))
    data = ("--annotations", "FILE", "--images", "FOLDER")
    say(f"next: {command_line('eval', '--engine', adopted.path, *data)}")
