"""The page served on 127.0.0.1, until a signal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import uvicorn

from hrnet_deploy.errors import EnvironmentFault
from hrnet_deploy.view.app import application
from hrnet_deploy.view.bench import Bench

HOST = "127.0.0.1"


class _Server(uvicorn.Server):
    """Says where it listens once it does; the port may have been 0."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[str], None]) -> None:
        super().__init__(config)
        self._ready = ready
        self.listening = False

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        if self.started:
            self.listening = True
            port = self.servers[0].sockets[0].getsockname()[1]
            self._ready(f"http://{HOST}:{port}/")


def serve(bench: Bench, *, port: int, ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; ``ready`` is told the address. Port 0 takes a free one."""
    config = uvicorn.Config(
        application(bench),
        host=HOST,
        port=port,
        log_level="critical",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        timeout_graceful_shutdown=2,
    )
    server = _Server(config, ready)
    try:
        server.run()
    except SystemExit as error:  # uvicorn's way to say that the port is taken
        if server.listening:
            raise
        problem = f"port {port} on {HOST} is taken or not allowed"
        raise EnvironmentFault("--port", problem, "Give another one, or 0 for any") from error
