"""What makes an evaluation end with exit code 1."""

from __future__ import annotations

from typing import Any


def failed_gates(facts: dict[str, Any], min_ap: float | None) -> list[str]:
    """What makes the exit code 1, in words."""
    gates = []
    if facts["skipped"]:
        first = facts["skipped"][0]
        count = len(facts["skipped"])
        gates.append(f"{count} images were left out, e.g. {first['file_name']}: {first['reason']}")
    if min_ap is not None and facts["AP"] is None:
        gates.append(f"AP is undefined, --min-ap asks for {min_ap:g}")
    elif min_ap is not None and facts["AP"] < min_ap:
        digits = next(d for d in range(3, 18) if f"{facts['AP']:.{d}f}" < f"{min_ap:.{d}f}")
        gates.append(f"AP {facts['AP']:.{digits}f} < {min_ap:.{digits}f}")
    return gates
