"""The tests that need a GPU: ``pytest -m gpu``."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from gpu_suite import Context, needed, needed_gpu


def run(context: Context) -> dict[str, Any]:
    """Run them and keep pytest's own words."""
    for module in ("pytest", "numpy", "cv2"):
        needed(module)
    needed_gpu(context)
    from gpu import REPOSITORY

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-rs", "tests/gpu"],
        cwd=REPOSITORY,
        env={**os.environ, "HRNET_DEPLOY_GPU_FILES": str(context.work)},
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout[-3000:], done.stderr[-1000:], file=sys.stderr)
    if done.returncode not in (0, 5):
        raise SystemExit(1)
    return {"summary": done.stdout.strip().splitlines()[-1], "code": done.returncode}
