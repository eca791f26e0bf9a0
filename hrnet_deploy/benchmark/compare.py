"""Two runs held against each other: what changed beyond noise, and what did the machine do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hrnet_deploy.benchmark.statistics import Ratio, rank_test, unpaired_ratio

SIGNIFICANT = 0.01
"""The p-value of the rank test below which two sets of rounds are called different."""

SMALLEST_CHANGE = 0.02
"""Changes below this share are not reported: rounds of one run are not quite independent."""

MIN_ROUNDS = 5
"""With fewer rounds nothing is called a change."""


@dataclass(frozen=True)
class Change:
    """How one row's time per person changed from the first run to the second.

    ``time`` is the ratio second / first, ``against_machine`` the same with both runs divided by
    their own matrix product, so that a machine that became slower as a whole is not taken for a
    slower engine; None where there is none. ``verdict`` is "faster", "slower", "no change beyond
    noise" or "too few rounds".
    """

    name: str
    first_ms: float
    second_ms: float
    time: Ratio
    against_machine: Ratio | None
    p_value: float
    verdict: str


def compare_runs(first: dict[str, Any], second: dict[str, Any]) -> list[Change]:
    """Every row that both runs have, by name; times are per person."""
    rows = {row["name"]: row for row in first["rows"]}
    return [
        _change(rows[row["name"]], row, first["ceilings"], second["ceilings"])
        for row in second["rows"]
        if row["name"] in rows and row["seconds"] and rows[row["name"]]["seconds"]
    ]


def differences(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """What makes the two runs not quite comparable, in words."""
    found = [
        f"{name}: {first['machine'].get(name)} -> {second['machine'].get(name)}"
        for name in ("cpu", "cores", "threads", "commit", "versions")
        if first["machine"].get(name) != second["machine"].get(name)
    ]
    names = [{row["name"] for row in run["rows"]} for run in (first, second)]
    found += [f"only in the first: {name}" for name in sorted(names[0] - names[1])]
    found += [f"only in the second: {name}" for name in sorted(names[1] - names[0])]
    hashes = {row["name"]: row.get("sha256") for row in first["rows"]}
    found += [
        f"{row['name']}: another file (sha256)"
        for row in second["rows"]
        if row["name"] in hashes and hashes[row["name"]] != row.get("sha256")
    ]
    for number, run in (("first", first), ("second", second)):
        found += [f"{number} run: {warning}" for warning in run["warnings"]]
    return found


def _change(
    before: dict[str, Any],
    after: dict[str, Any],
    ceilings_before: dict[str, Any],
    ceilings_after: dict[str, Any],
) -> Change:
    times = [
        [1e3 * seconds / row["batch"] for seconds in row["seconds"]] for row in (before, after)
    ]
    ratio = unpaired_ratio(times[0], times[1])
    gemm = f"gemm {after['precision']}"
    relative = None
    machines = [c.get(gemm, {}).get("seconds") or [] for c in (ceilings_before, ceilings_after)]
    if all(machines) and after["device"] == "cpu":
        normal = [
            [own / machine for own, machine in zip(times[i], machines[i], strict=False)]
            for i in range(2)
        ]
        relative = unpaired_ratio(normal[0], normal[1])
    p_value = rank_test(times[0], times[1])
    verdict = _verdict(ratio, relative, p_value, min(map(len, times)))
    # The percentiles themselves are in the tables; here the median of each side is enough.
    medians = [sorted(values)[len(values) // 2] for values in times]
    return Change(after["name"], medians[0], medians[1], ratio, relative, p_value, verdict)


def _verdict(ratio: Ratio, relative: Ratio | None, p_value: float, rounds: int) -> str:
    """A change has to show in the ranks, in the interval, and against the machine's own speed."""
    if rounds < MIN_ROUNDS:
        return "too few rounds"
    sides = [ratio] if relative is None else [ratio, relative]
    decided = p_value < SIGNIFICANT and all(
        side.decided and abs(side.value - 1) >= SMALLEST_CHANGE for side in sides
    )
    directions = {side.value > 1 for side in sides}
    if not decided or len(directions) > 1:
        return "no change beyond noise"
    return "slower" if ratio.value > 1 else "faster"
