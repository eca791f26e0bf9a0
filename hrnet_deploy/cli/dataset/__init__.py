"""``hrnet-deploy dataset``: check, clean, convert, describe and divide keypoint data sets."""

from __future__ import annotations

import click

from hrnet_deploy.cli.dataset import check, clean, convert, split, stats, subset
from hrnet_deploy.cli.usage import CommandGroup


@click.group("dataset", cls=CommandGroup)
def command() -> None:
    """Check, clean, convert, describe and divide COCO keypoint data sets."""


for _part in (check, clean, convert, stats, subset, split):
    command.add_command(_part.command)
