"""Facts about a machine that a figure means nothing without."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import hrnet_deploy
from hrnet_deploy.engines.cpu import bf16_instructions, physical_cores

PACKAGES = ("numpy", "opencv-python-headless", "onnxruntime", "openvino", "tensorrt", "torch")
_CPUINFO = Path("/proc/cpuinfo")
_MEMINFO = Path("/proc/meminfo")
_SYS = Path("/sys")
_GPU_FIELDS = (
    "name",
    "driver_version",
    "temperature.gpu",
    "power.draw",
    "clocks.sm",
    "clocks.max.sm",
    "memory.used",
    "memory.total",
    "utilization.gpu",
)
_COMMAND_SECONDS = 10


def machine_facts(threads: int | None) -> dict[str, Any]:
    """Processor, memory, system, versions and the checkout's commit; what stays during a run."""
    return {
        "cpu": cpu_model(),
        "cores": physical_cores(),
        "threads": threads or physical_cores(),
        "instructions": _instructions(),
        "memory_gib": _memory_gib(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": _versions(),
        "commit": _commit(),
    }


def momentary_facts() -> dict[str, Any]:
    """What changes while one measures: clocks, temperature, power, GPUs; None where not told."""
    return {
        "cpu_mhz": _cpu_mhz(),
        "cpu_celsius": _cpu_celsius(),
        "gpus": gpu_facts(),
    }


def cpu_model() -> str:
    """The processor's name as the system gives it."""
    names = re.findall(r"^model name\s*:\s*(.+)$", _read(_CPUINFO), re.MULTILINE)
    return names[0].strip() if names else platform.processor() or platform.machine()


def gpu_facts() -> list[dict[str, str]]:
    """One entry for each NVIDIA GPU, by nvidia-smi; empty without one."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [program, f"--query-gpu={','.join(_GPU_FIELDS)}", "--format=csv,noheader"]
    lines = _output(query).splitlines()
    rows = [[word.strip() for word in line.split(",")] for line in lines]
    return [
        dict(zip(_GPU_FIELDS, row, strict=True)) for row in rows if len(row) == len(_GPU_FIELDS)
    ]


def _instructions() -> list[str]:
    flags = set(re.findall(r"^flags\s*:\s*(.+)$", _read(_CPUINFO), re.MULTILINE)[:1])
    words = set(" ".join(flags).split())
    listed = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
    known = [name for name in listed if name in words]
    unit = bf16_instructions()
    return known if unit is None or unit in known else [*known, unit]


def _memory_gib() -> float | None:
    found = re.search(r"^MemTotal:\s*(\d+) kB", _read(_MEMINFO), re.MULTILINE)
    return round(int(found[1]) / 2**20, 1) if found else None


def _versions() -> dict[str, str]:
    versions = {"hrnet-deploy": hrnet_deploy.__version__}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _commit() -> str | None:
    """The commit of the package's own checkout, marked where files were changed since."""
    root = Path(hrnet_deploy.__file__).parents[1]
    git = shutil.which("git")
    if git is None or not (root / ".git").exists():
        return None
    commit = _output([git, "-C", str(root), "rev-parse", "--short=12", "HEAD"])
    status = [git, "-C", str(root), "status", "--porcelain", "-uno", "--", "hrnet_deploy"]
    return f"{commit}{'+changes' if _output(status) else ''}" if commit else None


def _cpu_mhz() -> float | None:
    values = [float(v) for v in re.findall(r"^cpu MHz\s*:\s*([\d.]+)", _read(_CPUINFO), re.M)]
    return round(sum(values) / len(values)) if values else None


def _cpu_celsius() -> float | None:
    """The hottest sensor of the processor."""
    zones = (_SYS / "class/thermal").glob("thermal_zone*/temp")
    sensors = [*zones, *(_SYS / "class/hwmon").glob("hwmon*/temp1_input")]
    values = [int(text) / 1000 for text in map(_read, sensors) if text.lstrip("-").isdigit()]
    return max(values, default=None)


def _output(words: list[str]) -> str:
    """What a program prints; empty where it fails."""
    try:
        done = subprocess.run(  # noqa: S603 - programs found on the path, no shell
            words,
            capture_output=True,
            text=True,
            timeout=_COMMAND_SECONDS,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
