"""One file over https: the only module of the package that opens a connection.

Called for ``hrnet-deploy zoo get`` and ``from_pretrained(..., download=True)``, nothing else.
"""

from __future__ import annotations

import http.client
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from hrnet_deploy import __version__
from hrnet_deploy.errors import EnvironmentFault, InputError
from hrnet_deploy.files import sha256_file
from hrnet_deploy.zoo.partial import Origin, PartialFile

_BLOCK = 1 << 18
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_MOVED = {301, 302, 303, 307, 308}
_GO_ON = "Run the same command again: it goes on where it stopped"
_LATER = "Check the network, or try again later"


@dataclass(frozen=True)
class Limits:
    """What a download may take.

    ``max_bytes`` of a file; ``timeout_s`` without a byte; fewer than ``min_bytes_per_s`` over
    ``window_s`` is too slow; ``redirects`` in a row.
    """

    max_bytes: int = 2 << 30
    timeout_s: float = 30.0
    window_s: float = 60.0
    min_bytes_per_s: float = 1024.0
    redirects: int = 5


@dataclass(frozen=True)
class Downloaded:
    """A complete file; ``kept_bytes`` of it were there from an earlier run."""

    path: Path
    size_bytes: int
    sha256: str
    kept_bytes: int
    url: str


def download(
    url: str,
    target: Path,
    *,
    expected: Callable[[str], str | None] = lambda sha256: None,
    limits: Limits | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Downloaded:
    """Fetch ``url`` (https) into ``target``, which appears whole or not at all.

    An interrupted download leaves ``target.part`` and goes on from there when the server proves
    that the file is still the same. ``expected`` is told the SHA-256 and answers what is wrong with
    it, None if nothing is: a wrong file is removed. ``progress`` is told bytes done and in all (0:
    not known). Raises InputError for a wrong file or address, EnvironmentFault for the network
    and the disk.
    """
    limits = limits or Limits()
    with PartialFile(target) as part:
        with _opened(url, part, limits) as answer:
            kept = _prepared(url, answer, part, limits)
            _receive(url, answer, part, limits, progress)
        sha256 = sha256_file(part.path)
        if problem := expected(sha256):
            part.discard()
            fix = "Nothing was kept; download it again, or from the publisher's page"
            raise InputError(target, problem, fix)
        size = part.size
        part.finish()
    return Downloaded(target, size, sha256, kept, url)


class _Stay(urllib.request.HTTPRedirectHandler):
    """Redirects are followed here, one by one, not by urllib."""

    def redirect_request(self, *details: Any) -> None:
        return None


def _opened(url: str, part: PartialFile, limits: Limits) -> http.client.HTTPResponse:
    """The answer to the request for what is missing, after every redirect."""
    loopback = urlsplit(url).hostname in _LOOPBACK
    direct = [urllib.request.ProxyHandler({})] if loopback else []
    opener = urllib.request.build_opener(_Stay, *direct)
    headers = {"User-Agent": f"hrnet-deploy/{__version__}", "Accept-Encoding": "identity"}
    origin = part.origin
    if origin and origin.url == url and origin.validator:
        headers |= {"Range": f"bytes={part.size}-", "If-Range": origin.validator}
    place = url
    for _ in range(limits.redirects + 1):
        _check_address(place, loopback)
        request = urllib.request.Request(place, headers=headers)  # noqa: S310 - checked above
        try:
            answer: http.client.HTTPResponse = opener.open(request, timeout=limits.timeout_s)
            return answer
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 416 and "Range" in headers:  # not a part of that file
                    del headers["Range"], headers["If-Range"]
                    continue
                place = _next_place(place, error)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _unreachable(place, error) from error
    problem = f"redirects more than {limits.redirects} times"
    raise EnvironmentFault(url, problem, _LATER)


def _check_address(url: str, loopback: bool) -> None:
    parts = urlsplit(url)
    own = loopback and parts.scheme == "http" and parts.hostname in _LOOPBACK
    if (parts.scheme != "https" and not own) or not parts.hostname or parts.username:
        raise InputError(url, "is not a plain https address", "Only https is downloaded from")


def _next_place(url: str, error: urllib.error.HTTPError) -> str:
    """Where a redirect leads; any other status is a fault."""
    where = error.headers.get("Location")
    if error.code in _MOVED and where:
        return urljoin(url, where)
    fix = _LATER
    if error.code in (401, 403, 404, 410):
        fix = "The publisher may have moved it; where its page is: hrnet-deploy zoo list"
    raise EnvironmentFault(url, f"the server answered {error.code} ({error.reason})", fix)


def _unreachable(url: str, error: Exception) -> EnvironmentFault:
    reason = getattr(error, "reason", None) or error
    if isinstance(reason, ssl.SSLError):
        return EnvironmentFault(
            url, f"the connection is not safe ({reason.reason})", "Check the clock and certificates"
        )
    if isinstance(reason, TimeoutError):
        return EnvironmentFault(url, "does not answer in time", _LATER)
    text = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
    return EnvironmentFault(url, f"cannot be reached ({text})", _LATER)


def _prepared(url: str, answer: http.client.HTTPResponse, part: PartialFile, limits: Limits) -> int:
    """Make ``part`` ready for the body that comes; returns how many of its bytes stay."""
    kind = answer.headers.get_content_type()
    if kind == "text/html":
        problem = "is a web page, not the file; the link needs a browser"
        raise EnvironmentFault(url, problem, "Get it from the publisher's page")
    kept = part.size if answer.status == 206 else 0
    total = _total(answer, kept)
    if answer.status == 206 and (
        total is None or part.origin is None or total != (part.origin.total_bytes or total)
    ):
        part.discard()
        raise EnvironmentFault(url, "the server sent another part than was asked for", _GO_ON)
    if total is not None and total > limits.max_bytes:
        part.discard()
        raise InputError(url, f"has {total} bytes", f"At most {limits.max_bytes} are downloaded")
    if not kept:
        part.begin(Origin(url, _validator(answer), total))
    part.check_space(None if total is None else total - kept)
    return kept


def _total(answer: http.client.HTTPResponse, kept: int) -> int | None:
    """The size of the whole file; None where it is not said, or is not what was asked for."""
    if answer.status == 206:
        found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", answer.headers.get("Content-Range", ""))
        if found is None:
            return None
        first, last, total = map(int, found.groups())
        return total if (first, last) == (kept, total - 1) else None
    length = answer.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def _validator(answer: http.client.HTTPResponse) -> str | None:
    """What a later request proves with that the file is still the same; weak tags prove nothing."""
    tag = answer.headers.get("ETag")
    if tag and not tag.startswith("W/"):
        return tag
    return answer.headers.get("Last-Modified")


def _receive(
    url: str,
    answer: http.client.HTTPResponse,
    part: PartialFile,
    limits: Limits,
    progress: Callable[[int, int], None],
) -> None:
    """Append the body; whatever arrived stays in the part, however it ends."""
    total = part.origin.total_bytes if part.origin else None
    done = part.size
    begun, before = time.perf_counter(), done
    try:
        while block := _block(url, answer):
            done += len(block)
            if done > limits.max_bytes:
                part.discard()
                fix = f"At most {limits.max_bytes} bytes are downloaded"
                raise InputError(url, "is larger than the server said", fix)
            part.append(block)
            progress(done, total or 0)
            if (spent := time.perf_counter() - begun) >= limits.window_s:
                if done - before < limits.min_bytes_per_s * spent:
                    rate = (done - before) / spent
                    raise EnvironmentFault(url, f"is too slow ({rate:.0f} bytes a second)", _GO_ON)
                begun, before = time.perf_counter(), done
    finally:
        part.flush()
    if total is not None and done < total:
        raise EnvironmentFault(url, f"was cut off at {done} of {total} bytes", _GO_ON)


def _block(url: str, answer: http.client.HTTPResponse) -> bytes:
    """What has arrived, at most a block; empty at the end."""
    try:
        return answer.read1(_BLOCK)
    except TimeoutError as error:
        raise EnvironmentFault(url, "sends nothing any more", _GO_ON) from error
    except (OSError, http.client.HTTPException) as error:
        raise EnvironmentFault(url, f"was cut off ({type(error).__name__})", _GO_ON) from error
