"""Post-training quantisation: calibrate, rank the blocks, and keep float what the AP asks for."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.engines.onnxruntime import check_rounding
from hrnet_deploy.errors import InputError, require
from hrnet_deploy.evaluation.crops import annotated_crops
from hrnet_deploy.evaluation.metric import Stats
from hrnet_deploy.export.mixture import (
    USUAL_FLOAT,
    Network,
    ProgressBar,
    QuantizeSettings,
    Search,
    ap_drop,
    points,
)
from hrnet_deploy.export.parity import ParityReport
from hrnet_deploy.export.run import Judge, Proven, reference_engine
from hrnet_deploy.export.sensitivity import BlockLoss, measure_blocks
from hrnet_deploy.export.settings import check_engine_output
from hrnet_deploy.files import check_input_file
from hrnet_deploy.spec import ModelSpec
from hrnet_deploy.talk import Say

PARITY_CROPS = 32
KEEP_MORE = "let more stay float by a lower --max-ap-drop, or calibrate on more persons"


@dataclass(frozen=True)
class Quantized:
    """The written file, COCO figures before and after, and what stayed float.

    ``losses`` are all blocks, the worst first; ``float_blocks`` the first of them. ``layers`` and
    ``float_layers`` count convolutions, the two that are never quantised included.
    """

    path: Path
    spec: ModelSpec
    before: Stats
    after: Stats
    losses: tuple[BlockLoss, ...]
    float_blocks: tuple[str, ...]
    layers: int
    float_layers: int
    tried: tuple[tuple[int, float], ...]
    parity: ParityReport
    calibration_crops: int
    persons: int
    engine: str

    @property
    def ap_drop(self) -> float:
        """Points of AP that were lost."""
        return ap_drop(self.before, self.after)


def check_target(checkpoint: Path, settings: QuantizeSettings) -> Path:
    """Where the file goes, checked before any work is done.

    By default ``w32.int8.onnx`` or ``w32.fp8.onnx`` beside the checkpoint, ``w32.int8.fp16.onnx``
    where what stays float is not of the usual type.
    """
    check_input_file(checkpoint, what="checkpoint")
    kinds: list[str] = [settings.precision]
    if settings.unquantized != USUAL_FLOAT[settings.precision]:
        kinds.append(settings.unquantized)
    target = settings.export.output or checkpoint.with_suffix(f".{'.'.join(kinds)}.onnx")
    if target.suffix.lower() != ".onnx":
        raise InputError(target, "is not an .onnx name", "Give an output that ends in .onnx")
    return check_engine_output(target, checkpoint, force=settings.export.force)


def check_backend(settings: QuantizeSettings) -> None:
    """Refuse, before any work is done, a backend that could not measure the AP or the parity."""
    check_rounding("quantize --float fp16", settings.precision, settings.unquantized)
    if settings.backend != "openvino":
        return
    if settings.precision == "fp8":
        problem = "is openvino, which would compute fp8 in float32"
        raise InputError("backend", problem, "Leave it out: ONNX Runtime measures fp8")
    require("openvino", extra="openvino", purpose="measuring AP with OpenVINO")


def quantize_checkpoint(
    path: Path, settings: QuantizeSettings, *, say: Say, bar: ProgressBar
) -> Quantized:
    """Write an 8-bit file of ``path`` that loses at most ``max_ap_drop`` points of AP.

    Raises GateError where that cannot be had or the poses fail their gates; nothing is written.
    """
    target = check_target(path, settings)
    check_backend(settings)
    network = Network(path, settings, say)
    crops = annotated_crops(
        settings.images, settings.annotations, settings.boxes, network.spec, settings.calibration
    ).crops_nhwc
    say(f"calibrating on {len(crops)} crops")
    with bar("crops") as progress:
        network.calibrate(crops, progress)
    losses = _ranked(network, crops[: settings.sample], settings, say, bar)
    search = Search(network, settings, target, [loss.block for loss in losses], say, bar)
    return _written(network, search, search.run(), losses, crops, target)


def _ranked(
    network: Network,
    sample_nhwc: NDArray[np.uint8],
    settings: QuantizeSettings,
    say: Say,
    bar: ProgressBar,
) -> list[BlockLoss]:
    """What each block loses, the worst first."""
    blocks = len(network.blocks)
    say(f"measuring the {blocks} blocks one by one on {len(sample_nhwc)} crops")
    with bar("blocks") as progress:
        return measure_blocks(
            network.blocks,
            network.without_flip,
            sample_nhwc,
            threads=settings.threads,
            progress=progress,
        )


def _written(
    network: Network,
    search: Search,
    kept: int,
    losses: list[BlockLoss],
    crops_nhwc: NDArray[np.uint8],
    target: Path,
) -> Quantized:
    """Write the file with the worst ``kept`` blocks in float once its poses are proven."""
    float_blocks = search.order[:kept]
    quantised = network.quantised_without(float_blocks)
    content = network.build(quantised).SerializeToString(deterministic=True)
    with (
        reference_engine(network.checkpoint, network.spec) as reference,
        Proven(content, target) as proven,
    ):
        judge = Judge(reference, crops_nhwc[:PARITY_CROPS], keep_rejected=False)
        proven.prove(judge, advice=KEEP_MORE)
        result = Quantized(
            path=target,
            spec=network.quantized_spec,
            before=search.before,
            after=search.figures[kept],
            losses=tuple(losses),
            float_blocks=tuple(float_blocks),
            layers=network.layers,
            float_layers=network.layers - len(quantised),
            tried=tuple((n, points(stats)) for n, stats in search.figures.items()),
            parity=proven.report,
            calibration_crops=len(crops_nhwc),
            persons=search.persons,
            engine=search.engine,
        )
        proven.add_to_card(quantization_facts(result))
        proven.commit()
    return result


def quantization_facts(result: Quantized) -> dict[str, Any]:
    """What was measured, for the card and for ``--json``."""
    return {
        "ap_points": {
            "before": points(result.before),
            "after": points(result.after),
            "drop": result.ap_drop,
            "budget": result.spec.tolerances["ap_drop"],
            "persons": result.persons,
            "engine": result.engine,
        },
        "figures": {"before": result.before, "after": result.after},
        "layers": {"all": result.layers, "float": result.float_layers},
        "float_blocks": list(result.float_blocks),
        "tried": [{"float_blocks": n, "ap_points": ap} for n, ap in result.tried],
        "calibration_crops": result.calibration_crops,
        "blocks": [dataclasses.asdict(loss) for loss in result.losses],
    }
