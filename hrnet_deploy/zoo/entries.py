"""What can be had: the project's recipes and a short list of person detectors."""

from __future__ import annotations

import difflib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hrnet_deploy.errors import InputError, Subject, command_line
from hrnet_deploy.export.recipes import Recipe, all_recipes

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DETECTORS = Path(__file__).with_name("detectors.toml")

_HEADLINES = (
    ("ap_detector_boxes", "AP {:.1f}"),
    ("ap_ground_truth_boxes", "AP {:.1f} (true boxes)"),
    ("whole_ap", "whole AP {:.1f}"),
    ("pckh_50", "PCKh {:.1f}"),
)


@dataclass(frozen=True)
class ZooEntry:
    """A published file.

    ``figure`` is the published one in words, with the data set. ``url`` is where it is downloaded
    from, None where only ``page`` leads there, by a browser. Of ``sha256`` and ``sha256_prefix``
    is known what was published; both None means that nothing was. ``command`` gives the one that
    uses the file.
    """

    name: str
    kind: Literal["checkpoint", "network", "detector"]
    what: str
    licence: str | None
    figure: str | None
    file: str
    url: str | None
    page: str | None
    sha256: str | None
    sha256_prefix: str | None

    def command(self, file: Subject) -> str:
        """The command that uses the file where it lies; a detector also goes by its name."""
        if self.kind == "checkpoint":
            return command_line("export", file)
        if self.kind == "network":
            return command_line("adopt", file, "--recipe", self.name)
        return command_line("predict", "PICTURES", "--engine", "ENGINE", "--detector", file)

    @property
    def hash_known(self) -> str:
        """Whether its hash is known: "yes", "8 digits" of it, or "no"."""
        if self.sha256 is not None:
            return "yes"
        return f"{len(self.sha256_prefix)} digits" if self.sha256_prefix else "no"

    def hash_differs(self, sha256: str) -> bool:
        """Whether a hash is known and ``sha256`` is another one."""
        known = self.sha256 or self.sha256_prefix
        return known is not None and not sha256.startswith(known)

    def as_json(self) -> dict[str, Any]:
        """The facts for ``--json``."""
        return {
            "name": self.name,
            "kind": self.kind,
            "what": self.what,
            "licence": self.licence,
            "published": self.figure,
            "file": self.file,
            "url": self.url,
            "page": self.page,
            "sha256": self.sha256,
            "sha256_prefix": self.sha256_prefix,
        }


def entries() -> list[ZooEntry]:
    """Everything that is known, checkpoints first, by name; empty without recipes."""
    known = [_of_recipe(recipe) for recipe in all_recipes() if recipe.source_file]
    return [*known, *_detectors()]


def entry(name: str) -> ZooEntry:
    """The entry of that name; InputError with the nearest ones where there is none."""
    known = {item.name: item for item in entries()}
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=3)
    hint = f"Did you mean {' or '.join(near)}" if near else "See: hrnet-deploy zoo list"
    raise InputError(name or "NAME", "is not in the zoo", hint)


def downloadable(item: ZooEntry) -> str:
    """The address of an entry; InputError that says where a browser gets it."""
    if item.url is not None:
        return item.url
    fix = f"Open {item.page} in a browser and save {item.file}; then: {item.command(item.file)}"
    raise InputError(item.name, "cannot be downloaded by a program (no direct address)", fix)


def _of_recipe(recipe: Recipe) -> ZooEntry:
    file = recipe.source_file or ""
    return ZooEntry(
        name=recipe.name,
        kind="checkpoint" if recipe.kind == "checkpoint" else "network",
        what=recipe.description,
        licence=recipe.licence,
        figure=_figure(recipe),
        file=file,
        url=recipe.url,
        page=recipe.page or recipe.project,
        sha256=recipe.sha256,
        sha256_prefix=recipe.sha256_prefix,
    )


def _figure(recipe: Recipe) -> str | None:
    for key, form in _HEADLINES:
        if key in recipe.published:
            return f"{form.format(recipe.published[key])}, {recipe.published_on}"
    return None


def _detectors() -> list[ZooEntry]:
    table = tomllib.loads(DETECTORS.read_text(encoding="utf-8"))
    return [_detector(name, facts) for name, facts in table.items()]


def _detector(name: str, facts: dict[str, Any]) -> ZooEntry:
    file = str(facts["url"]).rsplit("/", 1)[1]
    return ZooEntry(
        name=name,
        kind="detector",
        what=facts["description"],
        licence=facts["licence"],
        figure=f"box AP {facts['box_ap']:.1f}, COCO val2017",
        file=file,
        url=facts["url"],
        page=facts["project"],
        sha256=facts.get("sha256"),
        sha256_prefix=None,
    )
