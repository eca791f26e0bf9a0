"""Hostile checkpoints: nothing in them runs, and none of them takes memory that it names."""

from __future__ import annotations

import pickle
import resource
import runpy
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch")

from hrnet_deploy.errors import InputError  # noqa: E402
from hrnet_deploy.export.checkpoint import read_checkpoint  # noqa: E402

MAX_GROWTH_MB = 300


class Call:
    """Pickles as a call of ``function`` with ``arguments``."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def touch(canary: Path) -> Call:
    import os

    return Call(os.system, f"touch {canary}")


def refusal(path: Path) -> str:
    """The sentence with which ``path`` is refused, having taken little memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError) as caught:
        read_checkpoint(path)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < MAX_GROWTH_MB
    assert "\n" not in str(caught.value)
    return str(caught.value)


def torch_zip(path: Path, pickled: bytes, extra: dict[str, bytes] | None = None) -> Path:
    """An archive laid out as ``torch.save`` does, around any pickle."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("w/data.pkl", pickled)
        archive.writestr("w/version", b"3\n")
        archive.writestr("w/byteorder", b"little")
        for name, content in (extra or {}).items():
            archive.writestr(f"w/{name}", content)
    return path


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_runs_a_command(tmp_path: Path, protocol: int) -> None:
    canary = tmp_path / "canary"
    content = pickle.dumps({"conv1.weight": touch(canary)}, protocol=protocol)
    bare = tmp_path / "bare.pth"
    bare.write_bytes(content)
    for path in (bare, torch_zip(tmp_path / "zip.pth", content)):
        message = refusal(path)
        assert "contains code (posix.system) and was not loaded" in message
        assert not canary.exists()


def test_the_canary_would_be_noticed(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(touch(tmp_path / "canary")))
    assert (tmp_path / "canary").exists()


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_torch_file(tmp_path: Path, legacy: bool) -> None:
    canary = tmp_path / "canary"
    content = {"conv1.weight": torch.zeros(3), "epoch": touch(canary)}
    path = tmp_path / "w32.pth"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    assert "contains code (posix.system)" in refusal(path)
    assert not canary.exists()


@pytest.mark.parametrize("place", [1, 2, 4])
def test_code_in_any_pickle_of_a_legacy_file(tmp_path: Path, place: int) -> None:
    """Protocol, system facts, object and storage keys are pickles of their own."""
    path, canary = tmp_path / "w32.pth", tmp_path / "canary"
    parts: list[Any] = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, {}, []]
    parts[place] = touch(canary)
    path.write_bytes(b"".join(pickle.dumps(part, protocol=2) for part in parts))
    assert "contains code (posix.system)" in refusal(path)
    assert not canary.exists()


@pytest.mark.parametrize(
    ("function", "arguments", "named"),
    [
        (eval, ("1",), "builtins.eval"),
        (exec, ("1",), "builtins.exec"),
        (getattr, (dict, "get"), "builtins.getattr"),
        (__import__, ("os",), "builtins.__import__"),
        (bytearray, (10**12,), "builtins.bytearray"),
        (subprocess.check_output, (["true"],), "subprocess.check_output"),
        (runpy.run_path, ("x",), "runpy.run_path"),
        (Path, ("x",), "pathlib."),
    ],
)
def test_functions_are_named(
    tmp_path: Path, function: Callable[..., Any], arguments: tuple[Any, ...], named: str
) -> None:
    content = pickle.dumps({"a": Call(function, *arguments)}, protocol=2)
    assert f"contains code ({named}" in refusal(torch_zip(tmp_path / "w32.pth", content))


def test_code_beside_a_whole_model_is_named_as_code(tmp_path: Path) -> None:
    path, canary = tmp_path / "w32.pth", tmp_path / "canary"
    torch.save({"model": torch.nn.Linear(2, 2), "x": touch(canary)}, path)
    assert "contains code (posix.system)" in refusal(path)
    assert not canary.exists()


def test_getattr_beside_a_history_buffer_does_nothing(tmp_path: Path) -> None:
    """It is let through there as an inert stand-in: what it is said to return cannot be called."""
    canary = tmp_path / "canary"
    program = b"".join(
        (
            b"\x80\x02}(U\x01hcmmengine.logging.history_buffer\nHistoryBuffer\n",
            b"U\x01gc__builtin__\ngetattr\ncmmengine.logging.history_buffer\nHistoryBuffer\n",
            b"X\x06\x00\x00\x00system\x86R",
            b"X",
            struct.pack("<I", len(f"touch {canary}")),
            f"touch {canary}".encode(),
            b"\x85Ru.",
        )
    )
    assert "is truncated or damaged" in refusal(torch_zip(tmp_path / "w32.pth", program))
    assert not canary.exists()


def test_tensor_classes_that_allocate_are_refused(tmp_path: Path) -> None:
    """PyTorch's own list lets them through: 10**11 floats are 400 GB."""
    program = b"\x80\x02}U\x01actorch\nFloatTensor\nL100000000000L\n\x85Rs."
    assert "holds torch.FloatTensor, which is not" in refusal(
        torch_zip(tmp_path / "w32.pth", program)
    )


def test_codecs_that_grow_are_refused(tmp_path: Path) -> None:
    """Forty times hex makes a terabyte of one byte."""
    program = b"\x80\x02}U\x01ac_codecs\nencode\nX\x01\x00\x00\x00xX\x03\x00\x00\x00hex\x86Rs."
    assert "contains code (_codecs.encode to hex)" in refusal(
        torch_zip(tmp_path / "w32.pth", program)
    )


def test_a_zip_bomb_is_refused_from_its_directory(tmp_path: Path) -> None:
    path = tmp_path / "w32.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("w/data.pkl", b"\x80\x02}q\x00.")
        with archive.open("w/data/0", "w", force_zip64=True) as stream:
            for _ in range(100):
                stream.write(bytes(1 << 20))
    size = path.stat().st_size
    assert size < 1 << 20
    # Claim a thousand times more: nothing may be unpacked to find out.
    content = bytearray(path.read_bytes())
    directory = content.rindex(b"PK\x01\x02")
    content[directory + 24 : directory + 28] = struct.pack("<I", 0xFFFF0000)
    path.write_bytes(content)
    assert "claims to unpack to 4,294,901,7" in refusal(path)


def test_compressed_and_repeated_entries_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w32.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/data.pkl", b"\x80\x02}q\x00.")
        archive.writestr("w/x", bytes(range(256)))
    assert "entry w/data.pkl is compressed" in refusal(path) or "claims" in refusal(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("w/data.pkl", b"\x80\x02}q\x00.")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("w/data.pkl", b"\x80\x02}q\x00.")
    assert "an entry stands in it twice" in refusal(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_tensor_that_claims_more_than_the_file_holds(tmp_path: Path, legacy: bool) -> None:
    """A stride of zero makes four terabytes of one number."""
    path = tmp_path / "w32.pth"
    huge = torch.zeros(1).as_strided((10**6, 10**6, 1, 1), (0, 0, 0, 0))
    torch.save({"conv1.weight": huge}, path, _use_new_zipfile_serialization=not legacy)
    assert path.stat().st_size < 10_000
    assert "conv1.weight claims 1,000,000,000,000 values" in refusal(path)


def test_a_storage_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "w32.pth"
    torch.save({"a": torch.zeros(100_000)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    path.write_bytes(content.replace(struct.pack("<I", 100_000), struct.pack("<I", 2**31 - 1)))
    assert "is truncated or damaged" in refusal(path)


def test_an_endless_pickle_is_refused(tmp_path: Path) -> None:
    program = b"\x80\x02" + b"N0" * 2_600_000 + b"N."
    assert "data.pkl is not a pickle" in refusal(torch_zip(tmp_path / "w32.pth", program))


def test_shared_references_do_not_multiply(tmp_path: Path) -> None:
    """Thirty lists of ten of the one before are 10**30 numbers to whoever walks through them."""
    value: Any = [0]
    for _ in range(30):
        value = [value] * 10
    meta = {"cfg": "x = 1", "dataset_meta": {"dataset_name": value, "keypoint_id2name": value}}
    path = tmp_path / "w32.pth"
    torch.save({"meta": meta, "state_dict": {"backbone.conv1.weight": torch.zeros(1)}}, path)
    assert "is not a top-down HRNet pose model" in refusal(path)


def test_a_hostile_config_is_parsed_and_never_run(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    from hrnet_deploy.export.stored_config import read_stored_config

    texts = [
        f"codec = __import__('os').system('touch {canary}')",
        f"exec(\"open('{canary}', 'w')\")\ncodec = dict(input_size=(64, 96))",
        "x = " + "(" * 5000 + ")" * 5000,
        "x = " + "-" * 100_000 + "1",
        "x = \0",
    ]
    found = [read_stored_config({"cfg": text}) for text in texts]
    assert not canary.exists()
    assert found[1] is not None
    assert found[1].input_size_hw == (96, 64)


def test_safetensors_headers(tmp_path: Path) -> None:
    path = tmp_path / "w32.safetensors"
    header = b'{"a":{"dtype":"F32","shape":[1000000,1000000],"data_offsets":[0,4000000000000]}}'
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    assert "is truncated or damaged" in refusal(path)


def test_checksum_of_the_scanned_and_the_loaded_bytes_are_the_same_file(tmp_path: Path) -> None:
    """The directory of the zip may not name another pickle than the one that was scanned."""
    path = torch_zip(tmp_path / "w32.pth", pickle.dumps({"a": 1}, protocol=2))
    content = bytearray(path.read_bytes())
    place = content.rindex(struct.pack("<I", zlib.crc32(pickle.dumps({"a": 1}, protocol=2))))
    content[place] ^= 1
    path.write_bytes(content)
    assert "is truncated or damaged" in refusal(path)


assert sys.byteorder == "little", "the generators above write little-endian files"
