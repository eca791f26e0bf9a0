"""What kind of file is this? Answered from its first bytes, before anything is parsed."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Literal

from hrnet_deploy.errors import InputError, Subject
from hrnet_deploy.files import check_input_file

Format = Literal["zip", "pickle", "safetensors"]

HEAD_BYTES = 4096
MAX_SAFETENSORS_HEADER = 100_000_000
"""The limit of the safetensors format itself, in bytes."""

LEGACY_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""How ``torch.save`` began a file before the zip format (``torch/serialization.py``)."""

_MAGICS: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"%PDF", "a PDF document"),
    (b"\x1f\x8b", "gzip: unpack it first"),
    (b"BZh", "bzip2: unpack it first"),
    (b"\xfd7zXZ", "xz: unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "7-Zip: unpack it first"),
    (b"Rar!", "RAR: unpack it first"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x7fELF", "a program"),
    (b"ftrt", "a TensorRT plan"),
)
_WANTED = "Pass a .pth checkpoint of an HRNet pose model"


def sniff(path: Subject) -> Format:
    """The container of the checkpoint ``path``: PyTorch zip, (legacy) pickle or safetensors.

    Raises InputError naming what the file is where it is something else: missing, a directory,
    empty, an HTML page of a download site, a Git LFS pointer, ONNX, a picture, an archive.
    """
    file = check_input_file(path, what=".pth checkpoint")
    if not file.is_file():
        raise not_a_checkpoint(path, " (not a regular file)")
    size = file.stat().st_size
    with file.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
    if head.startswith(b"PK\x03\x04"):
        return "zip"
    if _is_safetensors(head, size):
        return "safetensors"
    if head.startswith(LEGACY_MAGIC) or (head[:1] == b"\x80" and head[1:2] in _PROTOCOLS):
        return "pickle"
    _refuse_text(path, head)
    if looks_like := _other_format(head, Path(path)):
        raise not_a_checkpoint(path, f" (looks like {looks_like})")
    # Protocols 0 and 1 have no magic: the scan tells a pickle from random bytes.
    return "pickle"


_PROTOCOLS = {bytes([number]) for number in range(2, 6)}


def not_a_checkpoint(path: Subject, detail: str = "") -> InputError:
    """The sentence for everything that is no checkpoint at all."""
    return InputError(path, f"is not a PyTorch checkpoint{detail}", _WANTED)


def damaged(path: Subject, detail: str = "") -> InputError:
    """The sentence for a checkpoint that is not whole."""
    size = Path(path).stat().st_size
    reason = f"; {detail}" if detail else ""
    problem = f"is truncated or damaged ({size} bytes{reason})"
    return InputError(path, problem, "Download it again")


def _is_safetensors(head: bytes, size: int) -> bool:
    """A little-endian header length that fits the file, then JSON."""
    if len(head) < 9:
        return False
    (length,) = struct.unpack("<Q", head[:8])
    return head[8:9] == b"{" and 2 <= length <= min(MAX_SAFETENSORS_HEADER, size - 8)


def _refuse_text(path: Subject, head: bytes) -> None:
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html")) or b"<html" in text[:1024]:
        raise InputError(
            path,
            "is an HTML page, not a checkpoint; the download link needs a browser",
            "Open the link in a browser and save the file that it offers",
        )
    if text.startswith(b"version https://git-lfs"):
        raise InputError(path, "is a Git LFS pointer, not the file itself", "Run: git lfs pull")
    if text.startswith((b"<?xml", b"{", b"[")):
        kind = "XML" if text.startswith(b"<") else "JSON"
        raise not_a_checkpoint(path, f" (looks like {kind})")


def _other_format(head: bytes, path: Path) -> str | None:
    for magic, name in _MAGICS:
        if head.startswith(magic):
            return name
    if head[257:262] == b"ustar":
        return "a tar archive: unpack it first"
    if _is_onnx(head) or path.suffix.lower() == ".onnx":
        return "ONNX"
    return None


def _is_onnx(head: bytes) -> bool:
    """Protobuf: field 1 (ir_version, a small number), then one of ModelProto's other fields."""
    following = {0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42, 0x72}
    return len(head) > 2 and head[0] == 0x08 and 1 <= head[1] <= 32 and head[2] in following
