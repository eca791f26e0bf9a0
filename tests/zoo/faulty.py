"""A server on 127.0.0.1 that serves one file in every way that can go wrong."""

from __future__ import annotations

import contextlib
import re
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CONTENT = bytes(range(256)) * 4000
"""A megabyte, so that it takes several packets."""


class Faults:
    """What the next answers do; every request is written down."""

    def __init__(self) -> None:
        self.requests: list[dict[str, str]] = []
        self.content = CONTENT
        self.etag: str | None = '"one"'
        self.cut_at: int | None = None
        self.ignore_range = False
        self.wrong_range = False
        self.length: int | None = None
        self.say_length = True
        self.kind = "application/octet-stream"
        self.pause_s = 0.0
        self.piece = 1 << 16


class _Handler(BaseHTTPRequestHandler):
    faults: Faults
    protocol_version = "HTTP/1.1"

    def log_message(self, *words: object) -> None:
        pass

    def do_GET(self) -> None:
        self.faults.requests.append({"path": self.path, **dict(self.headers)})
        self.close_connection = True
        place = self.path.strip("/")
        if place == "missing":
            return self.send_error(404)
        if place == "broken":
            return self.send_error(503)
        if place == "loop" or place.startswith("hop"):
            return self._redirect(place)
        return self._file()

    def _redirect(self, place: str) -> None:
        if place == "loop":
            where = "/loop"
        elif place == "hopout":
            where = "http://example.invalid/file.pth"
        else:
            left = int(place[3:])
            where = f"/hop{left - 1}" if left else "/file.pth"
        self.send_response(302)
        self.send_header("Location", where)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _file(self) -> None:
        faults, first = self.faults, 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        fresh = self.headers.get("If-Range") == faults.etag
        if asked and fresh and not faults.ignore_range:
            first = int(asked.group(1))
            if first >= len(faults.content):
                return self.send_error(416)
            self.send_response(206)
            shown = first + 7 if faults.wrong_range else first
            last = len(faults.content) - 1
            self.send_header("Content-Range", f"bytes {shown}-{last}/{len(faults.content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Type", faults.kind)
        if faults.etag:
            self.send_header("ETag", faults.etag)
        length = len(faults.content) - first if faults.length is None else faults.length
        if faults.say_length:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        end = len(faults.content) if faults.cut_at is None else faults.cut_at
        with contextlib.suppress(OSError):
            for start in range(first, end, faults.piece):
                self.wfile.write(faults.content[start : min(start + faults.piece, end)])
                time.sleep(faults.pause_s)
        return None


@contextlib.contextmanager
def serving(faults: Faults, context: ssl.SSLContext | None = None) -> Iterator[str]:
    """The address of the server, which runs inside the block."""
    handler = type("Handler", (_Handler,), {"faults": faults})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
