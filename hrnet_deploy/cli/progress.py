"""A progress bar with the time that is left, on stderr and only where somebody watches."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def progress_bar(
    *, unit: str = "persons", speed: bool = False
) -> Iterator[Callable[[int, int], None]]:
    """A function of (done, total) that moves the bar; without a terminal it does nothing.

    ``speed`` adds the units a second; a total of 0 is one that is not known.
    """
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit + "{task.fields[rate]}, time left"),
        TimeRemainingColumn(),
        TextColumn("elapsed"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None, rate="")

        def show(done: int, total: int) -> None:
            rate = f", {bar.tasks[0].speed or 0:.1f} a second" if speed else ""
            bar.update(task, completed=done, total=total or None, rate=rate)

        yield show
