"""The page served on 127.0.0.1, until a signal."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import uvicorn

from hrnet_deploy.errors import EnvironmentFault
from hrnet_deploy.view.app import application
from hrnet_deploy.view.bench import Bench

HOST = "127.0.0.1"


class _Server(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()


def reserved(port: int) -> socket.socket:
    """A socket that listens on ``port``, 0 for a free one; EnvironmentFault where it is taken."""
    place = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.bind((HOST, port))
        place.listen()  # from now on nobody else gets it
    except OSError as error:
        place.close()
        problem = f"port {port} on {HOST} is taken or not allowed"
        raise EnvironmentFault("--port", problem, "Give another one, or 0 for any") from error
    return place


def serve(bench: Bench, place: socket.socket, *, ready: Callable[[str], None]) -> None:
    """Serve on a ``reserved`` socket until SIGINT or SIGTERM; ``ready`` is told the address."""
    config = uvicorn.Config(
        application(bench),
        log_level="critical",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        timeout_graceful_shutdown=2,
    )
    address = f"http://{HOST}:{place.getsockname()[1]}/"
    _Server(config, lambda: ready(address)).run(sockets=[place])
