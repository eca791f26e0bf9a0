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
SCRIPTS = ("draw.js", "panel.js", "boxes.js", "page.js")
FILES = {"": "text/html", "page.css": "text/css", **dict.fromkeys(SCRIPTS, "text/javascript")}
MAX_PICTURE_BYTES = 100_000_000
MAX_QUESTION_BYTES = 100_000

_NOTHING = type(None)
_PEOPLE: dict[str, tuple[type, ...]] = {"picture": (str,)}
_POSES: dict[str, tuple[type, ...]] = {
    **_PEOPLE,
    "engine": (int,),
    "boxes": (list,),
    "heatmap": (int, _NOTHING),
    "flip": (bool, _NOTHING),
}
_DRAWING: dict[str, tuple[type, ...]] = {
    **_POSES,
    "threshold": (float, int),
    "with_boxes": (bool,),
}
"""The fields of each question, with their types."""


def application(bench: Bench) -> App:
    """An ASGI application over ``bench``, guarded against other hosts and sites."""

    async def facts(request: Request) -> Response:
        return _json(bench.facts())

    async def picture(request: Request) -> Response:
        name = printable(request.query_params.get("name", ""))[:200] or "picture"
        content = await _body(request, MAX_PICTURE_BYTES, name)
        return _json(await run_in_threadpool(bench.add, content, name))

    async def people(request: Request) -> Response:
        asked = await _question(request, _PEOPLE)
        return _json(await run_in_threadpool(bench.people, asked["picture"]))

    async def poses(request: Request) -> Response:
        asked = await _question(request, _POSES)
        key, index, boxes = asked["picture"], asked["engine"], asked["boxes"]
        heatmap, flip = asked["heatmap"], asked["flip"]
        return _json(await run_in_threadpool(bench.poses, key, index, boxes, heatmap, flip=flip))

    async def drawing(request: Request) -> Response:
        asked = await _question(request, _DRAWING)
        key, index, boxes = asked["picture"], asked["engine"], asked["boxes"]
        ways = {name: asked[name] for name in ("flip", "threshold", "with_boxes")}
        png = await run_in_threadpool(bench.drawing, key, index, boxes, **ways)
        return Response(png, media_type="image/png")

    routes = [
        *(Route(f"/{name}", _file(name or "page.html", kind)) for name, kind in FILES.items()),
        Route("/api/bench", facts),
        Route("/api/picture", picture, methods=["POST"]),
        Route("/api/people", people, methods=["POST"]),
        Route("/api/poses", poses, methods=["POST"]),
        Route("/api/drawing", drawing, methods=["POST"]),
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


async def _question(request: Request, fields: dict[str, tuple[type, ...]]) -> dict[str, Any]:
    """The fields of a question, each of one of its types; None for one that is left out."""
    content = await _body(request, MAX_QUESTION_BYTES, "question")
    try:
        asked = json.loads(content)
        values = {name: asked.get(name) for name in fields}
    except (ValueError, AttributeError, RecursionError) as error:
        raise InputError("question", "is not what the page asks", "Reload the page") from error
    for name, kinds in fields.items():
        if type(values[name]) not in kinds:
            raise InputError("question", f"has no usable {name}", "Reload the page")
    return values


async def _fault(request: Request, error: Exception) -> Response:
    facts = error.as_json() if isinstance(error, DeployError) else {}
    return _json({**facts, "message": str(error)}, status=400)


async def _bug(request: Request, error: Exception) -> Response:
    logging.getLogger(__name__).error("a bug of ours; please report it", exc_info=error)
    return _json({"message": "This is a bug of ours; see the terminal for details."}, status=500)


def _json(value: Any, status: int = 200) -> Response:
    content = json.dumps(value, allow_nan=False)
    return Response(content, status_code=status, media_type="application/json")
