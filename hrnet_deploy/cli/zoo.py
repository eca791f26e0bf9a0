"""``hrnet-deploy zoo``: what is published, and downloads on the user's word."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hrnet_deploy.cli.options import FILE, force_option, json_option, print_json, print_table, say
from hrnet_deploy.cli.signals import again
from hrnet_deploy.cli.usage import CommandGroup
from hrnet_deploy.errors import InterruptedRun, command_line, printable

if TYPE_CHECKING:
    from hrnet_deploy.zoo.entries import ZooEntry
    from hrnet_deploy.zoo.local import Kept

MEGABYTE = 1_000_000


@click.group("zoo", cls=CommandGroup)
def command() -> None:
    """List published checkpoints and detectors, and download one of them."""


@command.command("list")
@json_option
def list_entries(as_json: bool) -> None:
    """List what there is: name, licence, published figure, source, and whether its hash is known.

    Nothing is downloaded. What lies on a drive that needs a browser is listed with that page.
    """
    from hrnet_deploy.zoo.entries import entries
    from hrnet_deploy.zoo.local import place_of

    known = entries()
    here = {item.name for item in known if place_of(item).is_file()}
    if as_json:
        print_json([{**item.as_json(), "downloaded": item.name in here} for item in known])
        return
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("name", "what, and published figure", "licence", "source", "sha256"):
        table.add_column(heading, no_wrap=not heading.startswith("what"))
    for item in known:
        what = "\n".join(printable(text) for text in (item.what, item.figure) if text)
        licence = printable(item.licence or "not stated")
        source = "downloaded" if item.name in here else _source(item)
        table.add_row(item.name, what, licence, source, item.hash_known)
    print_table(table)
    say("to download one: hrnet-deploy zoo get NAME; what says browser is got by hand:")
    for page in sorted({item.page for item in known if item.url is None and item.page}):
        say(page)


def _source(item: ZooEntry) -> str:
    """The site it comes from."""
    return "browser" if item.url is None else item.url.split("/")[2].split(".")[-2]


@command.command("get")
@click.argument("name")
@click.option("-o", "--output", type=FILE, help="File or folder. Default: the zoo's own folder.")
@force_option
@json_option
def get(name: str, output: Path | None, force: bool, as_json: bool) -> None:
    """Download NAME, whole or not at all, and print its sha256.

    Without -o it goes where names are looked up: $HRNET_DEPLOY_ZOO, by default
    ~/.cache/hrnet-deploy/zoo. An interrupted download goes on where it stopped when the same
    command is given again. A published hash is compared; where none is known, the command says so.
    """
    from hrnet_deploy.cli.progress import progress_bar
    from hrnet_deploy.zoo.entries import downloadable, entry
    from hrnet_deploy.zoo.local import fetch, place_of

    item = entry(name)
    downloadable(item)
    target = output or place_of(item)
    if target.is_dir():
        target = target / item.file
    say(f"licence: {item.licence or 'not stated'} ({item.page}); its training data has its own")
    try:
        with progress_bar(unit="MB", speed=True) as show:
            kept = fetch(
                item,
                target,
                force=force,
                progress=lambda done, total: show(done // MEGABYTE, total // MEGABYTE),
            )
    except InterruptedRun as interrupted:
        number = interrupted.signal_number
        problem = "interrupted; what arrived is kept"
        raise InterruptedRun(target, problem, again(), signal_number=number) from None
    if (got := kept.downloaded) is None:
        say(f"{target}: is there already")
    else:
        before = f", {got.kept_bytes / 1e6:.1f} of them from before" if got.kept_bytes else ""
        say(f"{target}: {got.size_bytes / 1e6:.1f} MB{before} from {got.url}")
    _print(item, kept, by_name=output is None, as_json=as_json)


def _print(item: ZooEntry, kept: Kept, *, by_name: bool, as_json: bool) -> None:
    """The hash on stdout, as sha256sum prints it; what it was compared with on stderr."""
    if item.hash_known == "no":
        say("sha256: none is published, so it was compared with nothing; note the one printed")
    elif item.sha256 is None:
        say(f"sha256: begins with the published digits {item.sha256_prefix}")
    else:
        say("sha256: is the published one")
    following = item.command(item.name if by_name and item.kind == "detector" else kept.path)
    if as_json:
        facts = {"path": str(kept.path), "sha256": kept.sha256, "compared": item.hash_known}
        print_json({**item.as_json(), **facts, "next": following})
        return
    click.echo(printable(f"{kept.sha256}  {kept.path}"))
    if by_name and item.kind == "checkpoint":
        named = command_line("predict", "PICTURES", "--whole-image", "--engine", item.name)
        say(f"by its name: {named}")
    say(f"next: {following}")
