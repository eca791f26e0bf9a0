"""XML of unknown origin: no document types, no entities, no depth without end."""

from __future__ import annotations

from typing import NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from hrnet_deploy.errors import InputError, Subject
from hrnet_deploy.files import MAX_JSON_BYTES, check_input_file

MAX_DEPTH = 64
_AGAIN = "Export it again"


def read_xml(path: Subject) -> Element:
    """The root element of an XML file. Raises InputError for what is damaged or not plain data."""
    file = check_input_file(path, what="XML file")
    if file.stat().st_size > MAX_JSON_BYTES:
        raise InputError(path, f"is {file.stat().st_size / 1e9:.1f} GB", "Split it")
    return parse_xml(file.read_bytes(), source=path)


def parse_xml(content: bytes, *, source: Subject) -> Element:
    """The root element of XML that is in memory.

    A document type is refused as such: entities are declared there, which can grow without bound
    or name other files, and annotation tools write none.
    """
    builder, depth = TreeBuilder(), 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise InputError(source, "is nested too deeply", _AGAIN)
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    def refuse(*_: object) -> NoReturn:
        raise InputError(source, "declares a document type, which no annotation needs", _AGAIN)

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        reason = expat.errors.messages.get(error.code, "damaged")
        problem = f"is not valid XML at line {error.lineno}, column {error.offset + 1} ({reason})"
        raise InputError(source, problem, _AGAIN) from None
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(source, f"is not valid XML ({error})", _AGAIN) from None
    return builder.close()
