"""Lines of a journal that say by themselves whether they are whole."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

_CHECK = "check"


def sealed(value: Mapping[str, Any]) -> bytes:
    """One JSON line with a CRC-32 of what it says; NaN is a ValueError."""
    return _text({**value, _CHECK: _checksum(value)}) + b"\n"


def unsealed(line: bytes) -> dict[str, Any] | None:
    """What ``sealed`` was given; None for a line that is torn, damaged or no such line."""
    try:
        value = json.loads(line)
        check = value.pop(_CHECK)
        return value if check == _checksum(value) else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _checksum(value: Mapping[str, Any]) -> int:
    return zlib.crc32(_text(value))


def _text(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, allow_nan=False).encode()
