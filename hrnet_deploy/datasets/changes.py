"""The record of what was changed in a data set: nothing is altered that does not stand here."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from hrnet_deploy.datasets.fields import Record

_ABSENT = "absent"
_LONG = 60


class Changes:
    """All changes of a run in their order, as (rule, place, what)."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, str, str]] = []

    def __len__(self) -> int:
        return len(self.entries)

    def add(self, rule: str, place: str, what: str) -> None:
        """Say a change that was made."""
        self.entries.append((rule, place, what))

    def set(self, record: Record, key: str, value: Any, rule: str, place: str) -> None:
        """Give a key of a record a new value and say so; nothing is done where it has that value.

        Types count: 0 and false are different values, as they are in JSON.
        """
        old = record.get(key, _ABSENT)
        if key in record and type(old) is type(value) and old == value:
            return
        text = _ABSENT if key not in record else _short(old)
        record[key] = value
        self.add(rule, place, f"{key} {text} -> {_short(value)}")

    @property
    def counts(self) -> dict[str, int]:
        """How many changes each rule made, in the order in which the rules first did."""
        return dict(Counter(rule for rule, _, _ in self.entries))

    def as_json(self) -> list[dict[str, str]]:
        """The changes for ``--json`` and for the file beside the output."""
        return [{"rule": rule, "place": place, "what": what} for rule, place, what in self.entries]


def _short(value: Any) -> str:
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
    except ValueError:  # 1e999 in the file is infinite here
        text = str(value)
    return text if len(text) <= _LONG else text[: _LONG - 3] + "..."
