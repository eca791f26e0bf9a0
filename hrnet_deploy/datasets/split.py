"""Training, validation and test parts of a data set, by picture and by a seed."""

from __future__ import annotations

import math
import re
from typing import Any

from hrnet_deploy.datasets.document import Document
from hrnet_deploy.errors import InputError, Subject
from hrnet_deploy.files import sha256_bytes

NAMES = ("train", "val", "test")


def parse_ratios(text: str, *, source: Subject = "--ratios") -> tuple[float, ...]:
    """``0.8,0.1,0.1`` or ``8:1:1`` as parts of one."""
    try:
        values = [float(word) for word in text.replace(":", ",").split(",")]
    except ValueError:
        raise InputError(source, f"'{text}' are no numbers", "Write 0.8,0.2") from None
    if len(values) < 2 or not all(math.isfinite(v) and v > 0 for v in values):
        raise InputError(source, f"'{text}' are not two or more parts above 0", "Write 0.8,0.2")
    return tuple(value / sum(values) for value in values)


def split_document(
    document: Document, ratios: tuple[float, ...], *, seed: int
) -> list[dict[str, Any]]:
    """The content of each part; every picture with its annotations is in exactly one.

    Pictures are ordered by a hash of seed and id, so that the parts are the same on every machine
    and with every library version, whatever their order in the file. Raises InputError where a part
    would have no picture.
    """
    order = sorted(
        (image["id"] for image in document.images),
        key=lambda image_id: (sha256_bytes(f"{seed}:{image_id}".encode()), image_id),
    )
    edges = [0, *(round(len(order) * sum(ratios[: k + 1])) for k in range(len(ratios)))]
    edges[-1] = len(order)
    parts = []
    for k in range(len(ratios)):
        chosen = set(order[edges[k] : edges[k + 1]])
        if not chosen:
            problem = f"has {len(order)} images, too few for {len(ratios)} parts"
            raise InputError(document.path, problem, "Use other ratios")
        parts.append(
            {
                **document.content,
                "images": [image for image in document.images if image["id"] in chosen],
                "annotations": [a for a in document.annotations if a.get("image_id") in chosen],
            }
        )
    return parts


def parse_names(text: str | None, count: int, *, source: Subject = "--names") -> tuple[str, ...]:
    """The names of the parts, one each, safe in a file name."""
    names = NAMES[:count] if text is None else tuple(word.strip() for word in text.split(","))
    if len(names) != count or len(set(names)) != count:
        problem = f"gives {len(set(names))} names for {count} parts"
        raise InputError(source, problem, "Give one name a part, separated by commas")
    wrong = [name for name in names if not re.fullmatch(r"\w[\w.-]{0,60}", name)]
    if wrong:
        raise InputError(source, f"'{wrong[0]}' is no part of a file name", "Use letters, digits")
    return names
