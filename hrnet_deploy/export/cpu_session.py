"""ONNX Runtime on the CPU for graphs that are no engines: parts of one, and other people's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from hrnet_deploy.engines.onnxruntime import (
    WRONG_OPTIMIZERS,
    failures,
    load_fault,
    run_fault,
    session_options,
)
from hrnet_deploy.errors import Subject, require


class CpuSession:
    """A serialised model, loaded; its faults are ours and name ``subject``.

    ``purpose`` is what needs ONNX Runtime, for the error where that is missing. ``threads`` None
    is one per physical core. Raises InputError where ONNX Runtime does not take the model.
    """

    def __init__(
        self, content: bytes, subject: Subject, *, purpose: str, threads: int | None = None
    ) -> None:
        ort = require("onnxruntime", extra="cpu", purpose=purpose)
        self._subject = subject
        try:
            self._session = ort.InferenceSession(
                content,
                session_options(ort, threads),
                providers=["CPUExecutionProvider"],
                disabled_optimizers=WRONG_OPTIMIZERS,
            )
        except failures() as error:
            raise load_fault(subject, error) from error

    def run(
        self, inputs: Mapping[str, NDArray[Any]], names: Sequence[str] | None = None
    ) -> list[NDArray[Any]]:
        """The outputs ``names``, None for all of them; EnvironmentFault where the run fails."""
        try:
            outputs: list[NDArray[Any]] = self._session.run(names, inputs)
        except failures() as error:
            raise run_fault(self._subject, error) from error
        return outputs
