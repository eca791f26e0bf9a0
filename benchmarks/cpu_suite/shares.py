"""How near an engine comes to what the machine can do, round by round."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def ceiling_shares(section: dict[str, Any], name: str) -> tuple[float | None, float | None]:
    """Of the ceiling, and of the network's own layers alone; medians over the rounds.

    None where the ceiling of the engine's precision was not measured.
    """
    precision, seconds = section["precisions"][name], np.array(section["seconds"][name])
    top = section["ceilings"].get(precision)
    if top is None:
        return None, None
    flop = section["gflop"] * 1e9 * section["batch"]
    at_best = flop / top["amount"] * np.array(top["seconds"])
    shares = (np.median(times / seconds) for times in (at_best, _layers_alone(section, precision)))
    first, second = map(float, shares)
    return first, second


def _layers_alone(section: dict[str, Any], precision: str) -> NDArray[np.float64]:
    """Seconds (rounds,) of a batch if every convolution ran as it does alone.

    Those that were not measured alone count with the rate of the ceiling.
    """
    top = section["ceilings"][precision]
    own = [one for one in section["layers"] if one["precision"] == precision]
    rest = 1e9 * section["gflop"] - sum(one["flop"] for one in own)
    seconds = rest / top["amount"] * np.array(top["seconds"])
    for one in own:
        seconds += one["flop"] / one["amount"] * np.array(one["seconds"])
    return section["batch"] * seconds
