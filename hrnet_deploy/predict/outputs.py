"""Files of poses: JSON Lines, COCO results, CSV and Parquet, whole or not at all."""

from __future__ import annotations

import contextlib
import json
from abc import abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hrnet_deploy.closing import Closing
from hrnet_deploy.errors import InputError, require
from hrnet_deploy.files import StagedFile
from hrnet_deploy.predict.frames import Predicted
from hrnet_deploy.predict.records import (
    Cell,
    coco_results,
    columns,
    csv_text,
    image_id_of,
    json_line,
    rows,
)
from hrnet_deploy.spec import ModelSpec

PARQUET_ROWS = 4096
"""Persons that are kept in memory before they become a row group."""


class Output(Closing):
    """Something that takes one result after the other.

    ``complete`` writes the rest, ``finish`` puts the file in its place: only when all outputs are
    complete, so that a run that is killed meanwhile leaves all of them or none. A context manager:
    what was not finished leaves no trace.
    """

    @abstractmethod
    def write(self, predicted: Predicted) -> None:
        """Add the poses of one frame."""

    @abstractmethod
    def complete(self) -> None:
        """Write what is left; nothing more is added."""

    @abstractmethod
    def finish(self) -> None:
        """Put the complete file in its place."""

    def close(self) -> None:
        """Remove what is not finished."""


class LinesOutput(Output):
    """JSON Lines to a function that takes text, such as one that prints it."""

    def __init__(self, spec: ModelSpec, emit: Callable[[str], None]) -> None:
        self._spec, self._emit = spec, emit

    def write(self, predicted: Predicted) -> None:
        self._emit(json_line(predicted, self._spec))

    def complete(self) -> None:
        """Everything is out already."""

    def finish(self) -> None:
        """The same."""


class _StagedOutput(Output):
    """A file that is written beside its target and renamed at the end."""

    def __init__(self, path: Path) -> None:
        self._stack = contextlib.ExitStack()
        self._staged = self._stack.enter_context(StagedFile(path))

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Within, a full disk is said of the target."""
        try:
            yield
        except OSError as error:
            self._stack.__exit__(type(error), error, error.__traceback__)
            raise

    def finish(self) -> None:
        with self._stack:
            self._staged.commit()

    def close(self) -> None:
        self._stack.close()


class _FileOutput(_StagedOutput):
    """A file of text."""

    def __init__(self, path: Path, spec: ModelSpec) -> None:
        super().__init__(path)
        self._spec = spec
        stream = open(self._staged.path, "wb")  # noqa: SIM115 - closed by the stack
        self._stream = self._stack.enter_context(stream)
        self._put(self._head())

    def _head(self) -> str:
        return ""

    def _tail(self) -> str:
        return ""

    @abstractmethod
    def _text(self, predicted: Predicted) -> str:
        """The lines of one frame."""

    def _put(self, text: str) -> None:
        with self._writing():
            self._stream.write(text.encode("utf-8", "surrogateescape"))

    def write(self, predicted: Predicted) -> None:
        self._put(self._text(predicted))

    def complete(self) -> None:
        self._put(self._tail())
        with self._writing():
            self._stream.close()


class JsonLinesFile(_FileOutput):
    """One JSON object a line, one line a picture or frame."""

    def _text(self, predicted: Predicted) -> str:
        return json_line(predicted, self._spec)


class CsvFile(_FileOutput):
    """One line a person under a header with the names of the keypoints."""

    def _head(self) -> str:
        return csv_text([columns(self._spec)])

    def _text(self, predicted: Predicted) -> str:
        return csv_text(rows(predicted))


class CocoFile(_FileOutput):
    """A list of COCO results."""

    _running = 0
    _first = True

    def _head(self) -> str:
        return "["

    def _text(self, predicted: Predicted) -> str:
        self._running += 1
        entries = coco_results(predicted, image_id_of(predicted.frame, self._running))
        text = ""
        for entry in entries:
            text += ("\n" if self._first else ",\n") + json.dumps(entry, allow_nan=False)
            self._first = False
        return text

    def _tail(self) -> str:
        return "\n]\n"


class ParquetFile(_StagedOutput):
    """The table of ``CsvFile`` as Apache Parquet; needs pyarrow."""

    def __init__(self, path: Path, spec: ModelSpec) -> None:
        self._arrow = require("pyarrow", extra="parquet", purpose=f"writing {path.name}")
        parquet = require("pyarrow.parquet", extra="parquet", purpose=f"writing {path.name}")
        self._names = columns(spec)
        self._schema = self._arrow.schema([(name, self._type(name)) for name in self._names])
        self._rows: list[list[Cell]] = []
        super().__init__(path)
        self._writer = parquet.ParquetWriter(str(self._staged.path), self._schema)
        self._stack.callback(self._writer.close)

    def _type(self, name: str) -> Any:
        if name == "source":
            return self._arrow.string()
        whole = name in ("frame", "person", "id")
        return self._arrow.int64() if whole else self._arrow.float64()

    def write(self, predicted: Predicted) -> None:
        self._rows += [[_text(cell) for cell in row] for row in rows(predicted)]
        if len(self._rows) >= PARQUET_ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            arrays = [
                self._arrow.array(list(column), type=self._type(name))
                for name, column in zip(self._names, zip(*self._rows, strict=True), strict=True)
            ]
            with self._writing():
                self._writer.write_table(self._arrow.Table.from_arrays(arrays, schema=self._schema))
            self._rows = []

    def complete(self) -> None:
        self._flush()
        with self._writing():
            self._writer.close()


def _text(cell: Cell) -> Cell:
    """What is no text, as in a file name that is not UTF-8, escaped as in JSON."""
    return cell.encode(errors="backslashreplace").decode() if isinstance(cell, str) else cell


FORMATS: dict[str, Callable[[Path, ModelSpec], Output]] = {
    ".jsonl": JsonLinesFile,
    ".json": CocoFile,
    ".csv": CsvFile,
    ".parquet": ParquetFile,
}


def output_format(path: Path) -> Callable[[Path, ModelSpec], Output]:
    """What writes a file of that name; InputError for another extension."""
    made = FORMATS.get(path.suffix.lower())
    if made is None:
        fix = "Name it .jsonl (JSON Lines), .json (COCO results), .csv or .parquet"
        raise InputError(path, f"has the unknown extension '{path.suffix}'", fix)
    if made is ParquetFile:
        require("pyarrow", extra="parquet", purpose=f"writing {path.name}")
    return made
