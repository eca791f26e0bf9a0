"""How many processor cores this process may really use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_CPUS = Path("/sys/devices/system/cpu")
_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")
_CPU_FACTS = Path("/proc/cpuinfo")
_BF16_FLAGS = ("amx_bf16", "avx512_bf16")
"""Linux's names for instructions that multiply bfloat16, the faster one first."""


def physical_cores() -> int:
    """Physical cores open to this process, at least 1.

    Counts the cores behind the allowed logical processors (affinity) and honours a container's
    CPU quota. Two hyper-threads of one core count once: they share its arithmetic units.
    """
    try:
        allowed = sorted(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        return os.cpu_count() or 1
    cores = len({_core_of(cpu) for cpu in allowed})
    quota = min(_quotas(), default=None)
    if quota is not None:
        cores = min(cores, int(quota))
    return max(1, cores)


def bf16_instructions() -> str | None:
    """The instructions with which this processor computes bfloat16; None where not known."""
    flags = next((f for f in _read(_CPU_FACTS).splitlines() if f.startswith("flags")), "").split()
    return next((name for name in _BF16_FLAGS if name in flags), None)


def _core_of(cpu: int) -> str:
    """Something that the hyper-threads of one core have in common."""
    try:
        return (_CPUS / f"cpu{cpu}/topology/thread_siblings_list").read_text().strip()
    except OSError:
        return str(cpu)


def _quotas() -> Iterator[float]:
    """CPU quotas in cores, from this process's control group up to the root (version 2, then 1)."""
    for folder in _cgroup_folders(""):
        quota, _, period = _read(folder / "cpu.max").partition(" ")
        if quota.isdigit() and period.isdigit():
            yield int(quota) / int(period)
    for folder in _cgroup_folders("cpu"):
        quota = _read(folder / "cpu.cfs_quota_us")
        period = _read(folder / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit():
            yield int(quota) / int(period)


def _cgroup_folders(controller: str) -> Iterator[Path]:
    for line in _read(_OWN_CGROUPS).splitlines():
        _, controllers, group = (line.split(":", 2) + ["", ""])[:3]
        if controller in controllers.split(","):
            root = _CGROUPS / controllers if controller else _CGROUPS
            folder = root / group.strip("/")
            yield from (p for p in (folder, *folder.parents) if p.is_relative_to(root))


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
