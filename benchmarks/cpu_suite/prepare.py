"""What the other sections measure: a checkpoint, its engines, and pictures with several persons.

Everything is kept in the work folder and made anew only for another commit or checkpoint, so that
nothing of this stands between a quiet machine and its measurements.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpu_suite import Context, Steps, pipelines, say
from hrnet_deploy.benchmark.end_to_end import Pictures, jobs_for
from hrnet_deploy.benchmark.machine import machine_facts
from hrnet_deploy.engines.signature import read_engine_file
from hrnet_deploy.errors import InputError
from hrnet_deploy.runtime.jobs import ImageJob
from hrnet_deploy.spec import ModelSpec

SIZE_HW = (256, 192)
CALIBRATION_CROPS = 16
PERSONS_IN_A_PICTURE = range(2, 9)
REPOSITORY = Path(__file__).resolve().parents[2]
REAL_PICTURES = "data/coco-train2017-mini"
"""A few pictures of COCO, in the folder beside the repository that the tests use as well."""


@dataclass(frozen=True)
class Files:
    """What lies in the work folder."""

    checkpoint: Path
    fp32: Path
    single: Path
    int8: Path
    int8_single: Path
    bare: Path

    @classmethod
    def of(cls, context: Context) -> Files:
        """The single ones are without flip-test; ``bare`` is the network alone."""
        work = context.work
        names = ("w32.onnx", "w32.single.onnx", "w32.int8.onnx", "w32.int8.single.onnx")
        fp32, single, int8, int8_single = (work / name for name in names)
        checkpoint = context.checkpoint or work / "w32.pth"
        own = context.int8 or int8
        return cls(checkpoint, fp32, single, own, int8_single, work / "bare.onnx")

    @property
    def spec(self) -> ModelSpec:
        """That of the fp32 engine."""
        return read_engine_file(self.fp32)[1]


def run(context: Context) -> dict[str, Any]:
    """Make what is missing; the facts on what is measured."""
    files = Files.of(context)
    _remove_outdated(context, files)
    _write_checkpoint(context, files)
    for path, flip in ((files.fp32, True), (files.single, False)):
        if not path.exists():
            _export(context, files.checkpoint, path, flip=flip)
    spec = files.spec
    source, pictures = _pictures(context)
    if not all(path.exists() for path in (files.int8, files.int8_single)):
        _write_int8(context, files, pictures)
    if not files.bare.exists():
        _write_bare(files, spec)
    jobs = several_a_picture(pictures, spec, context.persons)
    persons = sum(len(job.geometry) for job in jobs)
    say(f"{persons} persons in {len(jobs)} pictures ({source})")
    (context.work / "pictures.json").write_text(
        json.dumps({"images": str(pictures.images), "annotations": str(pictures.annotations)})
    )
    return {
        "model": f"{spec.architecture} {spec.input_size_hw[0]}x{spec.input_size_hw[1]}",
        "weights": "from a seed" if context.checkpoint is None else context.checkpoint.name,
        "int8": "every block that may be, calibrated on these pictures"
        if context.int8 is None
        else context.int8.name,
        "pictures": source,
        "count": len(jobs),
        "persons": persons,
    }


def jobs_of(
    context: Context, persons: int | None = None, in_a_picture: range = PERSONS_IN_A_PICTURE
) -> list[ImageJob]:
    """The pictures of ``prepare``, or others of them; InputError where there are none."""
    stored = json.loads((context.work / "pictures.json").read_text())
    pictures = Pictures(Path(stored["images"]), Path(stored["annotations"]), None, 10**6)
    spec = Files.of(context).spec
    return several_a_picture(pictures, spec, persons or context.persons, in_a_picture)


def several_a_picture(
    pictures: Pictures,
    spec: ModelSpec,
    persons: int,
    in_a_picture: range = PERSONS_IN_A_PICTURE,
) -> list[ImageJob]:
    """Pictures of several persons each, with ``persons`` in all at most (one picture at least)."""
    chosen: list[ImageJob] = []
    left = persons
    for job in jobs_for(pictures, spec):
        count = len(job.geometry)
        if count in in_a_picture and (count <= left or not chosen):
            chosen.append(job)
            left -= count
    if not chosen:
        raise InputError(pictures.annotations, "has no picture of several persons", "Give others")
    return chosen


def _remove_outdated(context: Context, files: Files) -> None:
    """Remove engines that another state of the package made, or of another checkpoint."""
    stamp = context.work / "made-by.json"
    commit = machine_facts(context.threads)["commit"]
    made_by = json.dumps({"commit": commit, "checkpoint": str(context.checkpoint)})
    known = commit is not None and "changes" not in commit
    if not known or not stamp.exists() or stamp.read_text() != made_by:
        own = {files.fp32, files.single, files.int8, files.int8_single, files.bare}
        for path in own - {context.int8}:
            path.unlink(missing_ok=True)
            path.with_name(f"{path.name}.json").unlink(missing_ok=True)
    stamp.write_text(made_by)


def _write_checkpoint(context: Context, files: Files) -> None:
    if context.checkpoint is not None or files.checkpoint.exists():
        return
    import torch

    from hrnet_deploy.export.architecture import published_architecture
    from hrnet_deploy.export.hrnet import HRNet

    torch.manual_seed(0)
    torch.save(HRNet(published_architecture(32, 17)).state_dict(), files.checkpoint)


def _settings(context: Context, checkpoint: Path, output: Path, *, flip: bool) -> Any:
    from hrnet_deploy.export.settings import ExportSettings

    seeded = context.checkpoint is None
    recipe = checkpoint.with_suffix(".toml")
    return ExportSettings(
        output=output,
        precisions=("fp32",),
        input_size_hw=SIZE_HW if seeded else None,
        keypoints="coco_17" if seeded else None,
        recipe=str(recipe) if recipe.exists() else None,
        flip_test=flip,
        allow_unknown=True,
    )


def _export(context: Context, checkpoint: Path, output: Path, *, flip: bool) -> None:
    from hrnet_deploy.export.run import export_checkpoint

    export_checkpoint(checkpoint, _settings(context, checkpoint, output, flip=flip), say=say)


def _write_int8(context: Context, files: Files, pictures: Pictures) -> None:
    """What ``quantize`` writes where no block has to stay float32, with and without flip-test.

    Its ranking of the blocks and its gates need weights that find persons.
    """
    from hrnet_deploy.evaluation.crops import annotated_crops
    from hrnet_deploy.export.mixture import Network, QuantizeSettings

    images, annotations = pictures.images, pictures.annotations
    crops = annotated_crops(images, annotations, None, files.spec, CALIBRATION_CROPS).crops_nhwc
    for path, flip in ((files.int8, True), (files.int8_single, False)):
        if not path.exists():
            export = _settings(context, files.checkpoint, path, flip=flip)
            settings = QuantizeSettings(images, annotations, export=export)
            network = Network(files.checkpoint, settings, say)
            network.calibrate(crops, Steps(f"calibrating {path.name}"))
            model = network.build(network.quantised_without([]))
            path.write_bytes(model.SerializeToString())


def _write_bare(files: Files, spec: ModelSpec) -> None:
    from hrnet_deploy.export.checkpoint import read_checkpoint

    pipelines.write_bare_network(files.bare, read_checkpoint(files.checkpoint), spec.input_size_hw)


def _pictures(context: Context) -> tuple[str, Pictures]:
    """What they are, in words, and where they are."""
    if context.images is not None and context.annotations is not None:
        return "given", Pictures(context.images, context.annotations, None, 10**6)
    shared = Path(os.environ.get("HRNET_DEPLOY_SHARED", REPOSITORY.parent / "shared"))
    real = shared / REAL_PICTURES
    found = sorted(real.glob("*.json")) if real.is_dir() else []
    if found:
        return "real, of COCO train2017", Pictures(real / "images", found[0], None, 10**6)
    folder = context.work / "pictures"
    if not folder.exists():
        from hrnet_deploy.demo.people import write_dataset

        write_dataset(folder, images=4 * context.persons, seed=0)
    return "generated", Pictures(folder / "images", folder / "annotations.json", None, 10**6)
