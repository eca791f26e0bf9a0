"""Many engines on many subsets: one evaluation each, with its own result file and journal."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hrnet_deploy.errors import InputError
from hrnet_deploy.evaluation.detections import Detections
from hrnet_deploy.evaluation.plan import EvalPlan, prepare
from hrnet_deploy.evaluation.result import detections_path
from hrnet_deploy.evaluation.session import EvalJob, Watch, check_inputs, evaluate_to_files
from hrnet_deploy.files import check_input_file, read_json, write_json
from hrnet_deploy.report.cells import Cell

WHOLE = "all"
"""What the set of ``--annotations`` is called beside its subsets."""

_NAME = re.compile(r"[\w][\w .+-]*")


@dataclass(frozen=True)
class Study:
    """Engines by name and annotation files by name, and how they are evaluated.

    ``job`` holds what all evaluations share; its engine, annotations and output are not used.
    Result files go to ``folder``.
    """

    engines: dict[str, Path]
    subsets: dict[str, Path]
    folder: Path
    job: EvalJob
    boxes: Path | None = None

    @property
    def jobs(self) -> list[tuple[str, str, EvalJob]]:
        """Engine, subset and job of every evaluation, engine by engine."""
        return [
            (engine, subset, self._job(engine, subset))
            for engine in self.engines
            for subset in self.subsets
        ]

    def _job(self, engine: str, subset: str) -> EvalJob:
        stem = f"{_for_files(engine)}.{_for_files(subset)}"
        return replace(
            self.job,
            engine=self.engines[engine],
            annotations=self.subsets[subset],
            output=self.folder / f"{stem}.eval.json",
            boxes=None if self.boxes is None else self._boxes_path(subset),
        )

    def _boxes_path(self, subset: str) -> Path | None:
        if subset == WHOLE or self.boxes is None:
            return self.boxes
        return self.folder / f"{_for_files(subset)}.boxes.json"

    def check_files(self) -> None:
        """Refuse what is not there before any folder is made."""
        for engine in self.engines.values():
            check_input_file(engine, what="engine (.onnx or .plan)")
        for annotations_file in self.subsets.values():
            check_input_file(annotations_file, what="annotation file")
        if self.boxes is not None:
            check_input_file(self.boxes, what="boxes file")

    def write_boxes(self) -> None:
        """The detector's boxes on the pictures of each subset, in files of their own."""
        if self.boxes is None:
            return
        entries = read_json(self.boxes, what="boxes file")
        if not isinstance(entries, list):
            raise InputError(self.boxes, "is not a list of boxes", "Give COCO detections")
        for subset, file in self.subsets.items():
            path = self._boxes_path(subset)
            if path is None or path == self.boxes:
                continue
            known = _image_ids(file)
            kept = [entry for entry in entries if _image_of(entry) in known]
            if entries and not kept:
                problem = f"has no box on the pictures of subset {subset}"
                raise InputError(self.boxes, problem, "Leave that subset out")
            write_json(path, kept)


def name_engines(paths: Sequence[Path]) -> dict[str, Path]:
    """Engines by file name, with the folder's name where that is not enough."""
    counts = Counter(path.name for path in paths)
    named: dict[str, Path] = {}
    for path in paths:
        name = path.name if counts[path.name] == 1 else f"{path.resolve().parent.name}/{path.name}"
        if name in named:
            raise InputError("--engine", f"{name} is given twice", "Give every engine once")
        named[name] = path
    _refuse_alike(named, "--engine")
    return named


def name_subsets(words: Sequence[str], whole: Path | None) -> dict[str, Path]:
    """Subsets by name from ``NAME=FILE`` or ``FILE``; ``whole`` comes first and is called "all"."""
    named: dict[str, Path] = {} if whole is None else {WHOLE: whole}
    for word in words:
        name, separator, file = word.partition("=")
        if not separator:
            name, file = Path(word).stem, word
        if not file:
            raise InputError("--subset", f"'{word}' names no file", "Give NAME=FILE.json")
        if not _NAME.fullmatch(name):
            problem = f"'{name}' cannot be the name of a subset"
            raise InputError("--subset", problem, "Use letters, digits, space, and . + - _")
        if name in named:
            raise InputError("--subset", f"{name} is given twice", "Give every subset a name")
        named[name] = Path(file)
    _refuse_alike(named, "--subset")
    return named


def _refuse_alike(named: dict[str, Path], option: str) -> None:
    """Names that differ, but not as the names of files."""
    for name, count in Counter(_for_files(name).lower() for name in named).items():
        if count > 1:
            raise InputError(option, f"{count} names give files called {name}", "Rename one")


def _for_files(name: str) -> str:
    return re.sub(r"[^\w.+-]+", "_", name)


def _image_of(entry: Any) -> object:
    image_id = entry.get("image_id") if isinstance(entry, dict) else None
    # Anything else stays, so that the reader of boxes can say what is wrong with it.
    return image_id if isinstance(image_id, int) else None


def _image_ids(annotations: Path) -> set[object]:
    content = read_json(annotations, what="annotation file")
    images = content.get("images") if isinstance(content, dict) else None
    found = {e.get("id") for e in images if isinstance(e, dict)} if isinstance(images, list) else {}
    return {None, *(image_id for image_id in found if isinstance(image_id, int))}


def run_study(study: Study, watch: Watch) -> list[Cell]:
    """Check everything, then evaluate what is not done yet; one cell for each job, in order."""
    study.check_files()
    study.folder.mkdir(parents=True, exist_ok=True)
    study.write_boxes()
    for _, _, job in study.jobs:
        check_inputs(job)
    plans = [_plan(job) for _, _, job in study.jobs]
    cells = []
    for number, ((engine, subset, job), plan) in enumerate(zip(study.jobs, plans, strict=True)):
        watch.say(f"[{number + 1}/{len(plans)}] {engine} on {subset}")
        facts = evaluate_to_files(job, watch)
        cells.append(
            Cell(
                engine=engine,
                subset=subset,
                facts=facts,
                detections=Detections.from_coco(
                    read_json(detections_path(job.output)), plan.engine.spec.joints
                ),
                annotations=plan.annotations,
                spec=plan.engine.spec,
                paths=plan.paths,
            )
        )
    return cells


def _plan(job: EvalJob) -> EvalPlan:
    """What would be evaluated: raises for wrong input before anything is inferred."""
    with job.engine_options.open(job.engine) as engine:
        return prepare(engine, job.annotations, job.images, boxes=job.boxes, settings=job.settings)
