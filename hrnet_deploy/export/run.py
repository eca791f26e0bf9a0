"""From a checkpoint to ONNX files whose parity with PyTorch was proven before they appeared."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.engines import Engine, load_engine
from hrnet_deploy.errors import GateError, Subject, require
from hrnet_deploy.export.checkpoint import Checkpoint, read_checkpoint, resolve_model
from hrnet_deploy.export.crops import seeded_crops
from hrnet_deploy.export.model import build_hrnet
from hrnet_deploy.export.parity import ParityReport, compare, run_all
from hrnet_deploy.export.promise import Source, promised_spec, with_precision
from hrnet_deploy.export.recipes import choose_recipe
from hrnet_deploy.export.reference import TorchEngine
from hrnet_deploy.export.settings import ExportSettings, card_path, check_outputs
from hrnet_deploy.files import StagedFile, write_json
from hrnet_deploy.spec import ModelSpec
from hrnet_deploy.talk import Say

REPORT_IT = "please report it"
"""All that can be done where float32 gives other poses than the reference."""

WITHOUT_HALF = "try --precision fp32, or report it"

HEATMAP_STRIDE = 4
"""Input pixels per heatmap pixel of every top-down HRNet."""


@dataclass(frozen=True)
class Exported:
    """One written ONNX file with the parity that it showed."""

    path: Path
    spec: ModelSpec
    parity: ParityReport


def export_checkpoint(
    path: Path,
    settings: ExportSettings,
    *,
    say: Say,
    crops_for: Callable[[ModelSpec], NDArray[np.uint8]] | None = None,
) -> list[Exported]:
    """Export ``path`` in every precision asked for; each file appears only after its gates held.

    ``crops_for`` gives the crops to compare on (built-in seeded ones by default). Raises
    InputError for a bad checkpoint or output, GateError where parity fails: nothing is written
    then, or with ``keep_rejected`` a ``.rejected.onnx``.
    """
    targets = check_outputs(path, settings)
    require("onnx", extra="export", purpose="export")
    checkpoint = read_checkpoint(path)
    spec = checkpoint_spec(checkpoint, settings, say=say)
    crops = (crops_for or _built_in_crops)(spec)
    weights = checkpoint.arrays
    exported = []
    with reference_engine(checkpoint, spec) as reference, ExitStack() as staged_files:
        judge = Judge(reference, crops, keep_rejected=settings.keep_rejected)
        for precision, target in targets.items():
            say(f"proving {target}")
            typed = with_precision(spec, precision)
            model = build_hrnet(typed, checkpoint.architecture, weights, source=path)
            content = model.SerializeToString(deterministic=True)
            proven = staged_files.enter_context(Proven(content, target))
            half = precision == "fp16"
            proven.prove(judge, advice=WITHOUT_HALF if half else REPORT_IT)
            exported.append((proven, typed))
        for proven, _ in exported:
            proven.commit()
        return [Exported(proven.target, typed, proven.report) for proven, typed in exported]


def checkpoint_spec(checkpoint: Checkpoint, settings: ExportSettings, *, say: Say) -> ModelSpec:
    """What an export of ``checkpoint`` promises in float32; notes and assumptions are said."""
    choice = resolve_model(
        checkpoint,
        input_size_hw=settings.input_size_hw,
        keypoints=settings.keypoints,
        recipe=choose_recipe(checkpoint, settings.recipe),
        shift_heatmap=settings.shift_heatmap,
        allow_unknown=settings.allow_unknown,
    )
    for line in (*checkpoint.notes, *choice.assumptions):
        say(f"{checkpoint.path}: {line}")
    height, width = choice.input_size_hw
    source = Source(
        path=checkpoint.path,
        sha256=checkpoint.sha256,
        architecture=checkpoint.architecture.name,
        input_size_hw=choice.input_size_hw,
        heatmap_size_hw=(height // HEATMAP_STRIDE, width // HEATMAP_STRIDE),
        static_batch=settings.static_batch,
        recipe=choice.recipe,
    )
    return promised_spec(source, choice, settings)


def _built_in_crops(spec: ModelSpec) -> NDArray[np.uint8]:
    return seeded_crops(spec.input_size_hw)


def reference_engine(
    checkpoint: Checkpoint, spec: ModelSpec, *, device: str = "cpu"
) -> TorchEngine:
    """The checkpoint in PyTorch, doing what ``spec`` says, in float32 and with heatmaps."""
    spec = dataclasses.replace(spec, precision="fp32", has_heatmaps=True, static_batch=None)
    return TorchEngine(
        spec,
        checkpoint.architecture,
        checkpoint.state_dict,
        path=str(checkpoint.path),
        device=device,
    )


class Judge:
    """The reference, which runs once, and the crops that every candidate is compared on."""

    def __init__(
        self, reference: Engine, crops_nhwc: NDArray[np.uint8], *, keep_rejected: bool
    ) -> None:
        self.reference = reference
        self.keep_rejected = keep_rejected
        self._crops = crops_nhwc
        self._expected = run_all(reference, crops_nhwc)

    def report(self, candidate: Engine) -> ParityReport:
        """How the candidate compares."""
        return compare(self.reference, candidate, self._crops, expected=self._expected)


class Proven(StagedFile):
    """An ONNX file that waits under a temporary name until its parity is proven."""

    def __init__(self, content: bytes, target: Path) -> None:
        super().__init__(target)
        self._content = content
        self._card: dict[str, Any] = {}

    def prove(self, judge: Judge, *, advice: str = REPORT_IT) -> None:
        """Write, load and compare with the reference; GateError where a gate does not hold.

        ``advice`` is what can be done then.
        """
        self.path.write_bytes(self._content)
        with load_engine(self.path) as engine:
            self.report = judge.report(engine)
            self._card = parity_card(self.report, judge.reference, engine, self.target)
        if not self.report.passed:
            self._reject(advice, keep=judge.keep_rejected)

    def add_to_card(self, facts: dict[str, Any]) -> None:
        """More measured facts for the card, after ``prove``."""
        self._card |= facts

    def commit(self, target: Subject | None = None) -> None:
        """Put the file in place, and its card beside it."""
        super().commit(target)
        write_json(card_path(self.target if target is None else target), self._card)

    def _reject(self, advice: str, *, keep: bool) -> None:
        kept = ""
        if keep:
            rejected = self.target.with_suffix(".rejected.onnx")
            super().commit(rejected)
            kept = f"; kept as {rejected}"
        raise GateError(
            self.target,
            f"parity failed, {'; '.join(self.report.failures)}; worst {self.report.worst}{kept}",
            f"Nothing was written in its place; {advice}",
        )


def parity_card(
    report: ParityReport, reference: Engine, candidate: Engine, path: Path
) -> dict[str, Any]:
    """The measured parity with what it was measured on; figures may differ between machines."""
    return {
        "artefact": path.name,
        "sha256": candidate.info.sha256,
        "passed": report.passed,
        "parity": dataclasses.asdict(report),
        "reference": _engine_facts(reference),
        "candidate": _engine_facts(candidate),
    }


def _engine_facts(engine: Engine) -> dict[str, Any]:
    info = engine.info
    return {
        "backend": info.backend,
        "device": info.device,
        "precision": info.precision,
        "sha256": info.sha256,
        "versions": dict(info.versions),
    }
