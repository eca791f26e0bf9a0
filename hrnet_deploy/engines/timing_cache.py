"""The builder's memory of how fast each kernel was, on one kind of GPU with one TensorRT."""

from __future__ import annotations

import re
from pathlib import Path

from hrnet_deploy.engines.cuda.probe import Gpu
from hrnet_deploy.files import sha256_bytes, write_bytes

_MAGIC = b"hrnet-deploy timing cache 1\n"
_HASH_BYTES = 65
"""A hexadecimal SHA-256 and a newline."""


def timing_cache_path(folder: Path, gpu: Gpu, tensorrt_version: str) -> Path:
    """Where the cache for this GPU and TensorRT lies in ``folder``."""
    name = re.sub(r"[^a-z0-9]+", "-", gpu.name.lower()).strip("-")
    major, minor = gpu.compute_capability
    return folder / f"{name}-sm{major}{minor}-trt{tensorrt_version}.timing-cache"


def read_timing_cache(path: Path) -> tuple[bytes, str | None]:
    """The cache's content, empty where there is none, and why it is not used, None where it is."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return b"", None
    except OSError as error:
        return b"", f"{path}: cannot be read ({error.strerror}); building without it"
    start = len(_MAGIC) + _HASH_BYTES
    digest = content[len(_MAGIC) : start - 1].decode("ascii", "replace")
    if not content.startswith(_MAGIC) or digest != sha256_bytes(content[start:]):
        return b"", f"{path}: is damaged; it is ignored and will be replaced"
    return content[start:], None


def write_timing_cache(path: Path, content: bytes) -> None:
    """Write the cache with its hash, atomically."""
    write_bytes(path, _MAGIC + sha256_bytes(content).encode() + b"\n" + content)
