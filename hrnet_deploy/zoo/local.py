"""Where downloads are kept, and getting one of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hrnet_deploy.errors import EnvironmentFault, InputError, command_line
from hrnet_deploy.files import check_output_file, sha256_file
from hrnet_deploy.talk import Say
from hrnet_deploy.zoo.download import Downloaded, download
from hrnet_deploy.zoo.entries import ZooEntry, downloadable

FOLDER_VARIABLE = "HRNET_DEPLOY_ZOO"


@dataclass(frozen=True)
class Kept:
    """A file of the zoo on this machine; ``downloaded`` is None where it was there already."""

    path: Path
    sha256: str
    downloaded: Downloaded | None


def zoo_folder() -> Path:
    """``$HRNET_DEPLOY_ZOO``, else ``hrnet-deploy/zoo`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    if own := os.environ.get(FOLDER_VARIABLE):
        return Path(own)
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not cache.is_absolute():  # as the XDG base directory specification wants it
        try:
            cache = Path.home() / ".cache"
        except RuntimeError as error:
            fix = f"Set {FOLDER_VARIABLE} to a folder for downloads"
            raise EnvironmentFault("zoo", "there is no home folder", fix) from error
    return cache / "hrnet-deploy" / "zoo"


def place_of(item: ZooEntry) -> Path:
    """Where an entry's file is kept: a folder of its own, for what is exported from it too."""
    return zoo_folder() / item.name / item.file


def fetch(
    item: ZooEntry,
    target: Path,
    *,
    force: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Kept:
    """Download ``item`` to ``target``, unless the file of its published hash is there already.

    Raises InputError where it cannot be downloaded, has another hash or would replace something,
    EnvironmentFault for the network and the disk.
    """
    url = downloadable(item)
    if target.is_file() and not force and item.hash_known != "no":
        sha256 = sha256_file(target)
        if not item.hash_differs(sha256):
            return Kept(target, sha256, None)
    check_output_file(target, force=force)
    got = download(url, target, expected=lambda sha256: _wrong(item, sha256), progress=progress)
    return Kept(target, got.sha256, got)


def local_file(item: ZooEntry, *, wanted: bool = False, say: Say = lambda line: None) -> Path:
    """The file of ``item`` on this machine; downloaded first where that is ``wanted``.

    Otherwise, where it is not there, an InputError that says which command gets it.
    """
    place = place_of(item)
    if place.is_file():
        return place
    if not wanted:
        fix = f"Run: {command_line('zoo', 'get', item.name)}"
        if item.url is None:
            fix = f"Open {item.page} in a browser and save the file as {place}"
        raise InputError(item.name, "is not downloaded yet", fix)
    say(f"{item.name}: downloading it; licence: {item.licence or 'not stated'} ({item.page})")
    kept = fetch(item, place)
    known = "no hash is published" if item.hash_known == "no" else "as published"
    say(f"{kept.path}: sha256 {kept.sha256} ({known})")
    return kept.path


def _wrong(item: ZooEntry, sha256: str) -> str | None:
    if not item.hash_differs(sha256):
        return None
    published = item.sha256 or f"one that begins with {item.sha256_prefix}"
    return f"sha256 is {sha256}, published is {published}"
