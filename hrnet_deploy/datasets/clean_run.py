"""``dataset clean`` from file to files: read, repair, rename pictures, write, say what is left."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hrnet_deploy.datasets.changes import Changes
from hrnet_deploy.datasets.check import check_document
from hrnet_deploy.datasets.clean import CleanOptions, clean_document
from hrnet_deploy.datasets.document import Document, read_document, write_document
from hrnet_deploy.datasets.pictures import Pictures, look_at_pictures
from hrnet_deploy.datasets.problems import Problem
from hrnet_deploy.datasets.rename import Move, carry_out, plan_names, say_names
from hrnet_deploy.datasets.rules import IMAGE_DIGITS
from hrnet_deploy.errors import InputError
from hrnet_deploy.files import StagedFile, check_output_file, json_text


@dataclass(frozen=True)
class CleanJob:
    """What to clean, and where the result goes.

    ``output`` None: beside the input, and only where something changes. ``rename`` is a mode of
    ``rules.RENAME_MODES``; ``images_to`` the folder of the new names, ``images`` itself by default.
    """

    source: Path
    output: Path | None = None
    images: Path | None = None
    rename: str | None = None
    images_to: Path | None = None
    digits: int = IMAGE_DIGITS
    options: CleanOptions = field(default_factory=CleanOptions)
    dry_run: bool = False
    force: bool = False

    @property
    def target(self) -> Path:
        """The annotation file to write."""
        return self.output or self.source.with_name(f"{self.source.stem}.clean.json")

    def beside(self, kind: str) -> Path:
        """A file beside the target: ``NAME.changes.json`` or ``NAME.undo.json``."""
        return self.target.with_name(f"{self.target.stem}.{kind}.json")


@dataclass(frozen=True)
class Cleaned:
    """What was done: the changes, the problems that are left, and the files that were written."""

    changes: Changes
    left: tuple[Problem, ...]
    files: dict[str, str]


def clean_to_files(job: CleanJob) -> Cleaned:
    """Clean a file; with ``dry_run`` nothing is written. The input stays as it is."""
    _refuse_combinations(job)
    if not job.dry_run:
        for path in (job.target, job.beside("changes"), job.beside("undo")):
            check_output_file(path, force=job.force, inputs=(job.source,))
    document = read_document(job.source)
    pictures = look_at_pictures(document, job.images) if job.images is not None else None
    changes = clean_document(document, job.options, pictures=pictures)
    moves: list[Move] = []
    if job.rename is not None and job.images is not None:
        moves = _moves(document, job, look_at_pictures(document, job.images))
        say_names(moves, job.rename, changes)
    left = check_document(document, expected=job.options.keypoints).problems
    files: dict[str, str] = {}
    if not job.dry_run and (changes or job.output is not None):
        _write(document, job, moves, changes, files)
    return Cleaned(changes, left, files)


def _refuse_combinations(job: CleanJob) -> None:
    if job.images is None:
        for flag, given in (
            ("--rename", job.rename is not None),
            ("--drop-missing", job.options.drop_missing),
        ):
            if given:
                raise InputError(flag, "needs the folder of the pictures", "Add --images FOLDER")
    if job.images_to is not None and job.rename is None:
        raise InputError("--images-to", "is given without --rename", "Add --rename copy")


def _moves(document: Document, job: CleanJob, pictures: Pictures) -> list[Move]:
    folder = job.images_to or job.images
    return plan_names(
        document, pictures, folder or Path(), mode=job.rename or "", digits=job.digits
    )


def _write(
    document: Document, job: CleanJob, moves: list[Move], changes: Changes, files: dict[str, str]
) -> None:
    if moves and job.rename is not None:
        undo = job.beside("undo")
        if carry_out(moves, job.rename, undo):
            files["undo"] = str(undo)
    report: dict[str, Any] = {
        "source": str(job.source),
        "counts": changes.counts,
        "changes": changes.as_json(),
    }
    with StagedFile(job.beside("changes")) as staged:
        staged.path.write_text(json_text(report), encoding="utf-8")
        write_document(job.target, document.content)
        staged.commit()
    files["annotations"] = str(job.target)
    files["changes"] = str(job.beside("changes"))
