"""``hrnet-deploy view``: a local page to try engines on pictures."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hrnet_deploy.cli.options import (
    FILE,
    max_pixels_option,
    say,
    with_engine_options,
)
from hrnet_deploy.errors import InputError, InterruptedRun, require

if TYPE_CHECKING:
    from hrnet_deploy.runtime.engine_options import EngineOptions


@click.command("view")
@click.option(
    "--engine",
    "engine_paths",
    type=FILE,
    multiple=True,
    required=True,
    help="An .onnx or .plan file, or zoo name. Several can be compared.",
)
@click.option("--detector", type=FILE, help="A person detector: .onnx, .plan, or zoo name.")
@click.option("--detector-config", type=FILE, help="What the detector expects and gives (.toml).")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    help="The port on 127.0.0.1. Default: any free one.",
)
@click.option("--open", "open_browser", is_flag=True, help="Open the page in the browser.")
@with_engine_options(flip=False)
@max_pixels_option
def command(
    engine_paths: tuple[Path, ...],
    detector: Path | None,
    detector_config: Path | None,
    port: int,
    open_browser: bool,
    engine_options: EngineOptions,
    max_pixels: float,
) -> None:
    """Try engines on pictures in a page that only this machine's browser can reach.

    Drop a picture, draw boxes around the persons or let a detector find them, and see their poses,
    heatmaps and scores. With several engines, two are compared; the flip-test can be switched with
    an engine that was exported with --no-flip. Nothing is stored and nothing leaves the machine.
    Ctrl-C ends it.
    """
    for module in ("starlette", "uvicorn"):
        require(module, extra="view", purpose="view")
    from hrnet_deploy.view.bench import Bench
    from hrnet_deploy.view.serve import reserved, serve
    from hrnet_deploy.zoo.pretrained import detector_file, named_engine

    if detector_config is not None and detector is None:
        raise InputError("--detector-config", "needs --detector", "Give the detector")

    def ready(address: str) -> None:
        click.echo(address)
        say("open this address in a browser on this machine; Ctrl-C ends it")
        if open_browser:
            click.launch(address)

    with contextlib.ExitStack() as stack:
        place = stack.enter_context(reserved(port))
        finder = None
        if detector is not None:
            from hrnet_deploy.predict.detector.detector import PersonDetector

            file = detector_file(detector, say=say)
            finder = PersonDetector(file, detector_config, threads=engine_options.threads)
            stack.enter_context(finder)
        # Last, since a checkpoint that a name means may be exported here.
        files = [named_engine(path, say=say) for path in engine_paths]
        engines = [
            (path, stack.enter_context(engine_options.open(file, say)))
            for path, file in zip(engine_paths, files, strict=True)
        ]
        try:
            serve(Bench(engines, max_pixels, finder), place, ready=ready)
        except InterruptedRun as interrupted:
            problem, fix = "is closed", "Give the same command to open it again"
            number = interrupted.signal_number
            raise InterruptedRun("view", problem, fix, signal_number=number) from None
