"""``hrnet-deploy benchmark`` itself, with its plots."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from sections import Missing

from cpu_suite import Context
from cpu_suite.prepare import Files


def run(context: Context) -> dict[str, Any]:
    """Run the command; its plots lie in the work folder afterwards."""
    files = Files.of(context)
    pictures = json.loads((context.work / "pictures.json").read_text())
    words = ["benchmark", files.fp32, files.int8]
    words += ["--sweep", "1,2,4,8", "--rounds", context.rounds]
    words += ["--images", pictures["images"], "--annotations", pictures["annotations"]]
    words += ["--limit", 6, "--no-memory", "--threads", context.threads]
    words += [
        "-o",
        context.work / "benchmark.json",
        "--plots",
        context.work / "plots",
        "--markdown",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "hrnet_deploy", *map(str, words)], stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        raise Missing(f"hrnet-deploy benchmark ended with exit code {done.returncode}")
    return {"markdown": done.stdout}
