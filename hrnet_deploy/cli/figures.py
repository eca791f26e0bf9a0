"""Figures and their intervals as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hrnet_deploy.evaluation.resample import Interval


def figure(value: float | None) -> str:
    """A figure to three digits, n/a where undefined."""
    return "n/a" if value is None else f"{value:.3f}"


def interval_text(interval: Interval | None, digits: int = 3, sign: str = "") -> str:
    """A value with its interval in brackets; nothing where there is none."""
    if interval is None or interval.value is None:
        return "" if interval is None else "n/a"
    text = f"{interval.value:{sign}.{digits}f}"
    if interval.low is None or interval.high is None:
        return text
    return f"{text} [{interval.low:{sign}.{digits}f}, {interval.high:{sign}.{digits}f}]"
