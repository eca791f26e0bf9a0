"""The page's web application; needs Starlette."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hrnet_deploy.errors import DeployError, InputError, printable
from hrnet_deploy.view.bench import Bench
from hrnet_deploy.view.guard import App, Guard

FOLDER = Path(__file__).parent
FILES = {"": "text/html", "page.css": "text/css", "page.js": "text/javascript"}
MAX_PICTURE_BYTES = 100_000_000
MAX_QUESTION_BYTES = 100_000


def application(bench: Bench) -> App:
    """An ASGI application over ``bench``, guarded against other hosts and sites."""

    async def engines(request: Request) -> Response:
        return _json(bench.engines())

    async def picture(request: Request) -> Response:
        name = printable(request.query_params.get("name", ""))[:200] or "picture"
        content = await _body(request, MAX_PICTURE_BYTES, name)
        return _json(await run_in_threadpool(bench.add, content, name))

    async def poses(request: Request) -> Response:
        question = _question(await _body(request, MAX_QUESTION_BYTES, "question"))
        return _json(await run_in_threadpool(bench.poses, *question))

    routes = [
        *(Route(f"/{name}", _file(name or "page.html", kind)) for name, kind in FILES.items()),
        Route("/api/engines", engines),
        Route("/api/picture", picture, methods=["POST"]),
        Route("/api/poses", poses, methods=["POST"]),
    ]
    handlers = {DeployError: _fault, Exception: _bug}
    return Guard(Starlette(routes=routes, exception_handlers=handlers))


def _file(name: str, kind: str) -> Any:
    content = (FOLDER / name).read_bytes()

    async def answer(request: Request) -> Response:
        return Response(content, media_type=kind)

    return answer


async def _body(request: Request, limit: int, name: str) -> bytes:
    """The whole body, refused as soon as it is too long."""
    content = bytearray()
    async for piece in request.stream():
        content += piece
        if len(content) > limit:
            raise InputError(name, f"has more than {limit / 1e6:g} MB", "Give a smaller one")
    return bytes(content)


def _question(content: bytes) -> tuple[str, int, list[list[float]], int | None]:
    """Picture, engine, boxes and heatmap of a request for poses; each is checked."""
    try:
        asked = json.loads(content)
        key, index, boxes = asked["picture"], asked["engine"], asked["boxes"]
        heatmap = asked.get("heatmap")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError("question", "is not what the page asks", "Reload the page") from error
    whole = [index] if heatmap is None else [index, heatmap]
    if (
        not isinstance(key, str)
        or not isinstance(boxes, list)
        or any(isinstance(value, bool) or not isinstance(value, int) for value in whole)
    ):
        raise InputError("question", "is not what the page asks", "Reload the page")
    return key, index, boxes, heatmap


async def _fault(request: Request, error: Exception) -> Response:
    facts = error.as_json() if isinstance(error, DeployError) else {}
    return _json({**facts, "message": str(error)}, status=400)


async def _bug(request: Request, error: Exception) -> Response:
    logging.getLogger(__name__).error("a bug of ours; please report it", exc_info=error)
    return _json({"message": "This is a bug of ours; see the terminal for details."}, status=500)


def _json(value: Any, status: int = 200) -> Response:
    content = json.dumps(value, allow_nan=False)
    return Response(content, status_code=status, media_type="application/json")
