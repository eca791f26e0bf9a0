"""The zip container of ``torch.save``, checked from its directory before anything is unpacked."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path

from hrnet_deploy.errors import DeployError, InputError, Subject
from hrnet_deploy.export.pickles import NOTHING, PickleFacts, scan_bytes
from hrnet_deploy.export.sniff import damaged, not_a_checkpoint

MAX_PICKLE_BYTES = 512 << 20
MAX_ENTRIES = 200_000
_BLOCK = 1 << 20


def scan_archive(path: Subject) -> PickleFacts:
    """Check the archive ``path`` and list the globals of its pickles; nothing is executed.

    ``torch.save`` stores entries uncompressed, so an archive that claims more bytes than the file
    has is a bomb. Entries that carry a checksum are verified: PyTorch itself does not, and a
    flipped byte in a weight would load silently. Raises InputError.
    """
    try:
        with zipfile.ZipFile(Path(path)) as archive:
            _check_directory(path, archive)
            _check_content(path, archive)
            return _scan_pickles(path, archive)
    except DeployError:
        raise
    except _ZIP_FAULTS as error:
        raise damaged(path, str(error).splitlines()[0][:80] if str(error) else "") from error


_ZIP_FAULTS = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    ValueError,
    LookupError,
    struct.error,
    OSError,
)


def _check_directory(path: Subject, archive: zipfile.ZipFile) -> None:
    """Refuse bombs, other kinds of zip and programs from the names and sizes alone."""
    entries = archive.infolist()
    size = Path(path).stat().st_size
    claimed = sum(entry.file_size for entry in entries)
    packed = [entry for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
    if claimed > size or len(entries) > MAX_ENTRIES:
        problem = f"claims to unpack to {claimed:,} bytes from {size:,} in {len(entries)} entries"
        raise InputError(path, problem, "Torch.save packs nothing; get the file elsewhere")
    names = {entry.filename.rsplit("/", 1)[-1] for entry in entries}
    if "constants.pkl" in names:
        problem = "is a TorchScript program, which is code"
        raise InputError(path, problem, "Save model.state_dict() with torch.save")
    if "data.pkl" not in names:
        raise not_a_checkpoint(path, f" (a zip archive without data.pkl{_resembles(names)})")
    if packed:
        raise damaged(path, f"entry {packed[0].filename} is compressed, torch.save stores")
    if len({entry.filename for entry in entries}) != len(entries):
        raise damaged(path, "an entry stands in it twice")


def _resembles(names: set[str]) -> str:
    if any(name.endswith(".npy") for name in names):
        return "; looks like a NumPy .npz"
    if any(name.endswith(".pth") for name in names):
        return "; a .pth lies inside: unpack it first"
    return ""


def _check_content(path: Subject, archive: zipfile.ZipFile) -> None:
    """Compare the checksum of every entry that has one (0: written without, a PyTorch option)."""
    for entry in archive.infolist():
        if entry.CRC == 0:
            continue
        with archive.open(entry) as stream:
            while stream.read(_BLOCK):
                pass  # the last read compares the checksum


def _scan_pickles(path: Subject, archive: zipfile.ZipFile) -> PickleFacts:
    facts = NOTHING
    for entry in archive.infolist():
        if not entry.filename.endswith(".pkl"):
            continue
        if entry.file_size > MAX_PICKLE_BYTES:
            raise damaged(path, f"{entry.filename} has {entry.file_size:,} bytes")
        if entry.CRC == 0:
            del entry.CRC  # zipfile then reads without comparing
        try:
            facts |= scan_bytes(archive.read(entry))
        except (ValueError, RecursionError) as error:
            raise damaged(path, f"{entry.filename} is not a pickle") from error
    return facts
