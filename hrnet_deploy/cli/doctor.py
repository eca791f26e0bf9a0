"""``hrnet-deploy doctor``: what this machine has, and how to get what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from hrnet_deploy.cli.options import json_option, print_json


@click.command("doctor")
@json_option
def command(as_json: bool) -> None:
    """Say what this machine has: processor, GPU, packages, and what works with them.

    For everything that does not work here, the line that installs what is missing.
    """
    from hrnet_deploy.engines.machine import facts

    found = facts()
    if as_json:
        print_json(found)
        return
    for line in _lines(found):
        click.echo(line)


def _lines(found: dict[str, Any]) -> Iterator[str]:
    cpu, gpu = found["cpu"], found["gpu"]
    yield f"hrnet-deploy {found['hrnet_deploy']}, Python {found['python']}, {found['system']}"
    yield f"CPU  {cpu['name']}, {cpu['cores']} cores, {' '.join(cpu['features']) or 'no extras'}"
    if gpu["problem"]:
        yield f"GPU  none: {gpu['problem']}"
    for device in gpu["devices"]:
        yield (
            f"GPU  cuda:{device['index']} {device['name']}, sm {device['compute_capability']}, "
            f"{device['memory_mib']} MiB, driver {gpu['driver'] or 'unknown'} "
            f"(CUDA {gpu['cuda_of_driver']})"
        )
    yield ""
    for name, version in found["packages"].items():
        providers = ""
        if name == "onnxruntime" and found["onnxruntime_providers"]:
            providers = f" ({', '.join(found['onnxruntime_providers'])})"
        yield f"{name:<14} {version or '-'}{providers}"
    yield ""
    for ability in found["abilities"]:
        mark = "yes" if ability["works"] else "no "
        reason = f": {ability['problem']}" if ability["problem"] else ""
        yield f"{mark}  {ability['name']}{reason}"
        if ability["fix"]:
            yield f"     {ability['fix']}"
