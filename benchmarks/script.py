"""What the scripts share that measure one thing and write one file of ``results``."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hrnet_deploy.errors import DeployError
from hrnet_deploy.files import check_output_file, write_json

RESULTS = Path(__file__).resolve().parent / "results"

Result = dict[str, Any]


def run(
    name: str, output: Path, measured: Callable[[Path], Result], show: Callable[[Result], None]
) -> None:
    """Write what ``measured`` finds to ``output`` and ``show`` it.

    ``measured`` is given an empty folder. A DeployError ends the script ``name`` in one line.
    """
    try:
        check_output_file(output, force=True)
        with tempfile.TemporaryDirectory() as folder:
            result = measured(Path(folder))
        write_json(output, result)
    except DeployError as error:
        sys.exit(f"{name}: error: {error}")
    show(result)
    print(f"written to {output}", file=sys.stderr)


def command() -> str:
    """The command line without folders, so that a result says nothing about somebody's machine."""
    return " ".join(Path(word).name for word in sys.argv)
