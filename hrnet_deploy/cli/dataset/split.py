"""``hrnet-deploy dataset split``: divided by images, the same on every machine."""

from __future__ import annotations

from pathlib import Path

import click

from hrnet_deploy.cli.dataset.shared import file_argument, print_parts
from hrnet_deploy.cli.options import FILE, force_option, json_option


@click.command("split")
@file_argument
@click.option("-o", "--output", type=FILE, metavar="FOLDER", help="Default: beside FILE.")
@click.option("--ratios", default="0.8,0.2", show_default=True, help="The parts, by images.")
@click.option("--names", metavar="NAMES", help="Of the parts. Default: train,val,test.")
@click.option("--seed", type=int, default=0, show_default=True, help="Another one, other parts.")
@force_option
@json_option
def command(
    file: Path,
    output: Path | None,
    ratios: str,
    names: str | None,
    seed: int,
    force: bool,
    as_json: bool,
) -> None:
    """Divide FILE by images into FILE.train.json, FILE.val.json, ...; the same on every machine."""
    from hrnet_deploy.datasets.document import read_sound_document, write_document
    from hrnet_deploy.datasets.split import parse_names, parse_ratios, split_document
    from hrnet_deploy.files import check_output_file

    parts = parse_ratios(ratios)
    folder = output or file.parent
    targets = [folder / f"{file.stem}.{name}.json" for name in parse_names(names, len(parts))]
    for target in targets:
        check_output_file(target, force=force, inputs=(file,))
    contents = split_document(read_sound_document(file), parts, seed=seed)
    for target, content in zip(targets, contents, strict=True):
        write_document(target, content)
    print_parts(dict(zip(targets, contents, strict=True)), as_json=as_json)
