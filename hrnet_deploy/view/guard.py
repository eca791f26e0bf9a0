"""Who may talk to the page: this machine's own browser, and no other site through it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

NAMES = ("127.0.0.1", "localhost")
HTTP_PORT = 80
"""Browsers leave it out of ``Host`` (RFC 9110, 4.2.3)."""
HEADERS = {
    b"content-security-policy": b"default-src 'none'; script-src 'self'; style-src 'self'; "
    b"img-src blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    b"frame-ancestors 'none'",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
    b"cache-control": b"no-store",
}


class Guard:
    """Wraps an ASGI application.

    A request must name this server in ``Host`` (a foreign name that resolves to 127.0.0.1 does
    not), and if it says which page it comes from, that must be ours. No answer allows another
    origin to read it.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # a websocket is never answered
        if not _is_ours(scope):
            await _refuse(send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *HEADERS.items()]
            await send(message)

        await self._app(scope, receive, with_headers)


def _is_ours(scope: Scope) -> bool:
    port = scope["server"][1]
    hosts = {f"{name}:{port}".encode() for name in NAMES}
    if port == HTTP_PORT:
        hosts |= {name.encode() for name in NAMES}
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    named = [value.lower() for name, value in headers if name == b"host"]
    origins = [value for name, value in headers if name == b"origin"]
    sites = [value for name, value in headers if name == b"sec-fetch-site"]
    return (
        len(named) == 1
        and named[0] in hosts
        and all(origin == b"http://" + named[0] for origin in origins)
        and all(site in (b"same-origin", b"none") for site in sites)
    )


async def _refuse(send: Send) -> None:
    body = b"This page is for the browser on this machine only.\n"
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": body})
