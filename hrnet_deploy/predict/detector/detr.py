"""RT-DETR and D-FINE, with their post-processing in the graph or without it.

With: inputs ``images`` and ``orig_target_sizes`` (width, height), outputs ``labels``, ``boxes``
(edges in pixels of the picture) and ``scores`` (D-FINE and RT-DETR, ``tools/export_onnx.py``).
Without: ``logits`` (1, Q, classes) and ``pred_boxes`` (1, Q, 4), centre and size as fractions, as
the Transformers library exports them; scores are sigmoids. Input: RGB in 0 to 1, stretched.
"""

from __future__ import annotations

import numpy as np

from hrnet_deploy.predict.detector.candidates import (
    Arrays,
    Candidates,
    Signature,
    from_centers,
)
from hrnet_deploy.predict.detector.config import DetectorConfig

SIZE_INPUT = "orig_target_sizes"
SIGMOID_CLASSES = 80
"""Older DETR networks have one class more, "nothing", and want a softmax and other inputs."""
_WHITE = (255.0, 255.0, 255.0)


def recognised(signature: Signature) -> DetectorConfig | None:
    """The configuration if the graph has one of the forms, otherwise None."""
    names = set(signature.outputs)
    if SIZE_INPUT in signature.inputs and {"labels", "boxes", "scores"} <= names:
        return DetectorConfig("detr", resize="stretch", std=_WHITE)
    if {"logits", "pred_boxes"} <= names and signature.outputs["logits"][-1] == SIGMOID_CLASSES:
        return DetectorConfig("hf-detr", resize="stretch", std=_WHITE)
    return None


def decode(outputs: Arrays, size_hw: tuple[int, int], config: DetectorConfig) -> Candidates:
    """Persons of one picture."""
    if config.family == "detr":
        persons = outputs["labels"].ravel() == config.person_class
        return Candidates(
            outputs["boxes"].reshape(-1, 4)[persons], outputs["scores"].ravel()[persons], "image"
        )
    logits = outputs["logits"]
    chosen = logits.reshape(-1, logits.shape[-1])[:, config.person_class]
    scores = 1 / (1 + np.exp(-np.clip(chosen, -50, 50)))
    return Candidates(from_centers(outputs["pred_boxes"].reshape(-1, 4)), scores, "unit")
