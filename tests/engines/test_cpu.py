from __future__ import annotations

import os
from pathlib import Path

import pytest

from hrnet_deploy.engines import cpu


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight logical processors on four cores, none of them limited."""
    cpus = tmp_path / "cpu"
    for number in range(8):
        folder = cpus / f"cpu{number}/topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{number % 4},{number % 4 + 4}\n")
    (tmp_path / "cgroup").mkdir()
    (tmp_path / "self").write_text("0::/box/inner\n")
    monkeypatch.setattr(cpu, "_CPUS", cpus)
    monkeypatch.setattr(cpu, "_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(cpu, "_OWN_CGROUPS", tmp_path / "self")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    return tmp_path


def test_two_threads_of_a_core_count_once(machine: Path) -> None:
    assert cpu.physical_cores() == 4


@pytest.mark.parametrize(
    ("allowed", "cores"), [({0}, 1), ({0, 4}, 1), ({0, 1}, 2), ({1, 2, 5, 7}, 3)]
)
def test_only_the_allowed_processors_count(
    machine: Path, monkeypatch: pytest.MonkeyPatch, allowed: set[int], cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: allowed)
    assert cpu.physical_cores() == cores


@pytest.mark.parametrize(
    ("folder", "limit", "cores"),
    [
        ("box/inner", "200000 100000", 2),
        ("box", "350000 100000", 3),  # a limit further up holds too
        ("", "50000 100000", 1),
        ("box/inner", "max 100000", 4),
        ("box/inner", "rubbish", 4),
        ("box/other", "100000 100000", 4),  # somebody else's
    ],
)
def test_a_containers_quota_counts(machine: Path, folder: str, limit: str, cores: int) -> None:
    group = machine / "cgroup" / folder
    group.mkdir(parents=True, exist_ok=True)
    (group / "cpu.max").write_text(limit)
    assert cpu.physical_cores() == cores


def test_the_first_version_of_control_groups_counts(machine: Path) -> None:
    (machine / "self").write_text("3:cpu,cpuacct:/box\n1:name=systemd:/x\n")
    group = machine / "cgroup/cpu,cpuacct/box"
    group.mkdir(parents=True)
    (group / "cpu.cfs_quota_us").write_text("200000\n")
    (group / "cpu.cfs_period_us").write_text("100000\n")
    assert cpu.physical_cores() == 2
    (group / "cpu.cfs_quota_us").write_text("-1\n")
    assert cpu.physical_cores() == 4


def test_a_machine_without_sysfs_counts_its_processors(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "_CPUS", machine / "nowhere")
    monkeypatch.setattr(cpu, "_OWN_CGROUPS", machine / "nowhere")
    assert cpu.physical_cores() == 8


def test_this_machine_has_a_core() -> None:
    assert 1 <= cpu.physical_cores() <= (os.cpu_count() or 1)
