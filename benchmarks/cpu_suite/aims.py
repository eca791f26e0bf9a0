"""What the package aims at on two cores, and what a run measured of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cpu_suite.contenders import OFFICIAL
from cpu_suite.engines_alone import AS_IT_COMES
from cpu_suite.shares import ceiling_shares
from hrnet_deploy.benchmark.statistics import paired_ratio
from hrnet_deploy.benchmark.tables import PlainTable

OURS = "hrnet-deploy"
FASTER = {"OpenVINO fp32": 1.3, "OpenVINO bf16": 3.0, "OpenVINO int8": 4.5}
"""Times the official pipeline, from files to keypoints."""
FASTER_ALONE = {"openvino bf16": 2.3, "openvino int8": 4.2}
"""Times ONNX Runtime in fp32 as it comes, engines alone."""
ADAPTIVE = 1.5
CEILING_SHARE = 0.92
HOST, PRE_PROCESSING = 12.0, 8.0
BUSY = 2.2
MEMORY_MB = 1500.0

Line = tuple[str, str, str, str]


def aims_table(found: dict[str, Any]) -> PlainTable:
    """One row for each aim that the sections measured."""
    lines: list[Line] = []
    for name, collect in COLLECTORS.items():
        section = found.get(name, {})
        if "machine" in section:
            lines += collect(section)
    return PlainTable("Aims", ("", "aim", "measured", ""), tuple(lines))


def _at_least(text: str, aim: float, value: float, form: str = "{:.2f}") -> Line:
    return text, f">= {form.format(aim)}", form.format(value), "yes" if value >= aim else "no"


def _at_most(text: str, aim: float, value: float, form: str = "{:.2f}") -> Line:
    return text, f"<= {form.format(aim)}", form.format(value), "yes" if value <= aim else "no"


def _files(section: dict[str, Any]) -> Iterator[Line]:
    seconds = section["seconds"]
    for engine, aim in FASTER.items():
        exact, adaptive = f"{OURS}, {engine}", f"{OURS}, {engine}, adaptive"
        if exact not in seconds:
            continue
        value = paired_ratio(seconds[OFFICIAL], seconds[exact]).value
        yield _at_least(f"{engine}: times the official pipeline", aim, value)
        for name in seconds:
            if name.startswith(adaptive):
                value = paired_ratio(seconds[exact], seconds[name]).value
                yield _at_least(f"{engine}: adaptive flip-test on top", ADAPTIVE, value)


def _engines(section: dict[str, Any]) -> Iterator[Line]:
    seconds = section["seconds"]
    for engine, aim in FASTER_ALONE.items():
        if engine in seconds:
            value = paired_ratio(seconds[AS_IT_COMES], seconds[engine]).value
            yield _at_least(f"{engine} alone: times ONNX Runtime fp32", aim, value)
    for engine in [name for name in seconds if name.startswith("openvino")]:
        names = ("the ceiling", "its layers alone")
        for what, share in zip(names, ceiling_shares(section, engine), strict=True):
            if share is not None:
                yield _at_least(f"{engine}: share of {what}", CEILING_SHARE, share, "{:.0%}")


def _busy(section: dict[str, Any]) -> Iterator[Line]:
    for name, quiet in section["seconds"].items():
        if name.startswith(OURS):
            value = paired_ratio(section["busy_seconds"][name], quiet).value
            yield _at_most(
                f"{name.removeprefix(OURS + ', ')}: slower with a busy core", BUSY, value
            )


def _host(section: dict[str, Any]) -> Iterator[Line]:
    for one in (section[key] for key in ("several", "many") if key in section):
        where = f"{one['persons'] / one['pictures']:.1f} persons a picture"
        whole, before = one["whole"]["cpu_seconds"], one["pre_processing"]["cpu_seconds"]
        value = paired_ratio(whole["official pipeline"], whole[OURS]).value
        yield _at_least(f"host time, {where}: times less than the official code", HOST, value)
        value = paired_ratio(before["rtmlib's way"], before[OURS]).value
        yield _at_least(f"pre-processing, {where}: less than rtmlib's way", PRE_PROCESSING, value)


def _memory(section: dict[str, Any]) -> Iterator[Line]:
    for name, peak in section["peak_mb"].items():
        if peak is not None and "torch" not in name:
            yield _at_most(f"{name}: MB at batch {section['batch']}", MEMORY_MB, peak, "{:.0f}")


COLLECTORS = {
    "files": _files,
    "engines": _engines,
    "busy": _busy,
    "host": _host,
    "memory": _memory,
}
