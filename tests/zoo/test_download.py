"""Downloads over a real connection, with everything that goes wrong on one."""

from __future__ import annotations

import hashlib
import json
import resource
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hrnet_deploy.errors import EnvironmentFault, InputError
from hrnet_deploy.zoo.download import Limits, download
from tests.zoo import faulty

CONTENT = faulty.CONTENT
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def faults() -> Any:
    return faulty.Faults()


@pytest.fixture
def site(faults: Any) -> Iterator[str]:
    with faulty.serving(faults) as address:
        yield address


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "file.pth"


def left(target: Path) -> set[str]:
    return {path.name for path in target.parent.iterdir()}


PART = {"file.pth.part", "file.pth.part.json"}


def cut(faults: Any, url: str, target: Path, at: int = 300_000) -> None:
    """A first try that ends in the middle."""
    faults.cut_at = at
    with pytest.raises(EnvironmentFault, match="was cut off"):
        download(url, target)
    faults.cut_at = None
    assert left(target) == PART
    assert 0 < target.with_name("file.pth.part").stat().st_size <= at


def test_a_whole_file(site: str, target: Path) -> None:
    steps: list[tuple[int, int]] = []
    got = download(f"{site}/file.pth", target, progress=lambda *step: steps.append(step))
    assert target.read_bytes() == CONTENT
    assert left(target) == {"file.pth"}
    assert (got.sha256, got.size_bytes, got.kept_bytes) == (SHA256, len(CONTENT), 0)
    assert steps[-1] == (len(CONTENT), len(CONTENT))
    assert steps == sorted(steps)


def test_a_cut_connection_goes_on_where_it_stopped(site: str, faults: Any, target: Path) -> None:
    cut(faults, f"{site}/file.pth", target)
    size = target.with_name("file.pth.part").stat().st_size
    got = download(f"{site}/file.pth", target)
    assert target.read_bytes() == CONTENT
    assert got.kept_bytes == size
    assert faults.requests[-1]["Range"] == f"bytes={size}-"
    assert faults.requests[-1]["If-Range"] == '"one"'
    assert left(target) == {"file.pth"}


def test_a_file_that_changed_meanwhile_starts_over(site: str, faults: Any, target: Path) -> None:
    cut(faults, f"{site}/file.pth", target)
    faults.etag, faults.content = '"two"', CONTENT[::-1]
    got = download(f"{site}/file.pth", target)
    assert target.read_bytes() == CONTENT[::-1]
    assert got.kept_bytes == 0


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_proof_it_starts_over(
    site: str, faults: Any, target: Path, etag: str | None
) -> None:
    faults.etag = etag
    cut(faults, f"{site}/file.pth", target)
    assert download(f"{site}/file.pth", target).kept_bytes == 0
    assert "Range" not in faults.requests[-1]


def test_a_server_that_ignores_ranges(site: str, faults: Any, target: Path) -> None:
    cut(faults, f"{site}/file.pth", target)
    faults.ignore_range = True
    assert download(f"{site}/file.pth", target).kept_bytes == 0
    assert target.read_bytes() == CONTENT


def test_another_range_than_asked_for(site: str, faults: Any, target: Path) -> None:
    cut(faults, f"{site}/file.pth", target)
    faults.wrong_range = True
    with pytest.raises(EnvironmentFault, match="another part than was asked for"):
        download(f"{site}/file.pth", target)
    assert left(target) == set()


def test_a_part_that_is_too_long_starts_over(site: str, faults: Any, target: Path) -> None:
    cut(faults, f"{site}/file.pth", target)
    with open(target.with_name("file.pth.part"), "ab") as stream:
        stream.write(CONTENT)
    assert download(f"{site}/file.pth", target).kept_bytes == 0
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "note", ["", "[]", "{}", '{"url": 1}', "[" * 9999, '{"url":"x","validator":"a\\n","bytes":1}']
)
def test_a_damaged_note_starts_over(site: str, faults: Any, target: Path, note: str) -> None:
    cut(faults, f"{site}/file.pth", target)
    target.with_name("file.pth.part.json").write_text(note)
    assert download(f"{site}/file.pth", target).kept_bytes == 0
    assert target.read_bytes() == CONTENT


def test_a_wrong_hash_leaves_nothing(site: str, target: Path) -> None:
    seen = []

    def expected(sha256: str) -> str:
        seen.append(sha256)
        return "sha256 is another one"

    with pytest.raises(InputError, match=r"file\.pth: sha256 is another one"):
        download(f"{site}/file.pth", target, expected=expected)
    assert seen == [SHA256]
    assert left(target) == set()


@pytest.mark.parametrize("length", [len(CONTENT) + 5, len(CONTENT) * 2])
def test_fewer_bytes_than_said(site: str, faults: Any, target: Path, length: int) -> None:
    faults.length = length
    with pytest.raises(EnvironmentFault, match=r"was cut off"):
        download(f"{site}/file.pth", target)
    assert left(target) == PART


def test_more_bytes_than_said_are_not_taken(site: str, faults: Any, target: Path) -> None:
    faults.length = 1000
    got = download(f"{site}/file.pth", target)
    assert got.sha256 == hashlib.sha256(CONTENT[:1000]).hexdigest()  # which a known hash refuses


def test_no_length_at_all(site: str, faults: Any, target: Path) -> None:
    faults.say_length = False
    assert download(f"{site}/file.pth", target).sha256 == SHA256


@pytest.mark.parametrize("said", [True, False])
def test_the_size_limit(site: str, faults: Any, target: Path, said: bool) -> None:
    faults.say_length = said
    with pytest.raises(InputError, match="At most 1000"):
        download(f"{site}/file.pth", target, limits=Limits(max_bytes=1000))
    assert left(target) == set()


def test_a_few_redirects_are_followed(site: str, faults: Any, target: Path) -> None:
    assert download(f"{site}/hop4", target).sha256 == SHA256
    assert [request["path"] for request in faults.requests][-1] == "/file.pth"


@pytest.mark.parametrize("place", ["loop", "hop9"])
def test_too_many_redirects(site: str, faults: Any, target: Path, place: str) -> None:
    with pytest.raises(EnvironmentFault, match="redirects more than 5 times"):
        download(f"{site}/{place}", target)
    assert len(faults.requests) == 6
    assert left(target) == set()


def test_a_redirect_out_of_https(site: str, target: Path) -> None:
    with pytest.raises(InputError, match=r"example\.invalid/file\.pth: is not a plain https"):
        download(f"{site}/hopout", target)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.invalid/a",
        "file:///etc/passwd",
        "ftp://example.invalid/a",
        "https://",
        "https://user:secret@example.invalid/a",
        "a.pth",
    ],
)
def test_only_https(url: str, target: Path) -> None:
    with pytest.raises(InputError, match="is not a plain https address"):
        download(url, target)
    assert left(target) == set()


@pytest.mark.parametrize(("place", "code"), [("missing", 404), ("broken", 503)])
def test_a_refusal(site: str, target: Path, place: str, code: int) -> None:
    with pytest.raises(EnvironmentFault, match=f"the server answered {code}"):
        download(f"{site}/{place}", target)
    assert left(target) == set()


def test_a_web_page_is_no_checkpoint(site: str, faults: Any, target: Path) -> None:
    faults.kind = "text/html; charset=utf-8"
    with pytest.raises(EnvironmentFault, match="is a web page, not the file"):
        download(f"{site}/file.pth", target)
    assert left(target) == set()


def test_a_server_that_falls_silent(site: str, faults: Any, target: Path) -> None:
    faults.pause_s = 1.0
    with pytest.raises(EnvironmentFault, match="sends nothing any more"):
        download(f"{site}/file.pth", target, limits=Limits(timeout_s=0.2))
    assert left(target) == PART


def test_a_server_that_drips(site: str, faults: Any, target: Path) -> None:
    faults.pause_s, faults.piece = 0.02, 1
    limits = Limits(timeout_s=5, window_s=0.3)
    with pytest.raises(EnvironmentFault, match="is too slow"):
        download(f"{site}/file.pth", target, limits=limits)


def test_nobody_listens(target: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with pytest.raises(EnvironmentFault, match=r"cannot be reached \(Connection refused\)"):
        download(f"http://127.0.0.1:{port}/file.pth", target)
    assert left(target) == set()


def test_a_certificate_that_nobody_vouches_for(target: Path, tmp_path: Path) -> None:
    if (openssl := shutil.which("openssl")) is None:
        pytest.skip("openssl is not installed")
    pem = target.parent.parent / f"{target.parent.name}.pem"
    words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1"]
    files = ["-keyout", str(pem), "-out", f"{pem}.crt"]
    subprocess.run([openssl, *words, *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{pem}.crt", pem)
    faults = faulty.Faults()
    with (
        faulty.serving(faults, context) as address,
        pytest.raises(EnvironmentFault, match=r"not safe \(CERTIFICATE_VERIFY_FAILED\)"),
    ):
        download(address.replace("http:", "https:") + "/file.pth", target)
    assert faults.requests == []
    assert left(target) == set()


def test_an_older_file_stays_until_the_new_one_is_whole(
    site: str, faults: Any, target: Path
) -> None:
    target.write_bytes(b"old")
    faults.cut_at = 1000
    with pytest.raises(EnvironmentFault):
        download(f"{site}/file.pth", target)
    assert target.read_bytes() == b"old"
    faults.cut_at = None
    download(f"{site}/file.pth", target)
    assert target.read_bytes() == CONTENT


def test_a_full_disk_keeps_what_there_is(site: str, faults: Any, target: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        with pytest.raises(EnvironmentFault, match="disk full while writing it"):
            download(f"{site}/file.pth", target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert left(target) == PART
    assert download(f"{site}/file.pth", target).sha256 == SHA256


def test_a_disk_without_room_is_noticed_first(site: str, target: Path, monkeypatch: Any) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("hrnet_deploy.zoo.partial.shutil.disk_usage", lambda path: usage)
    with pytest.raises(EnvironmentFault, match="disk full: needs 1 MB more"):
        download(f"{site}/file.pth", target)
    assert left(target) == set()


def test_two_at_once(site: str, faults: Any, target: Path) -> None:
    from hrnet_deploy.zoo.partial import PartialFile

    with (
        PartialFile(target),
        pytest.raises(EnvironmentFault, match="being written by another process"),
    ):
        download(f"{site}/file.pth", target)
    assert download(f"{site}/file.pth", target).sha256 == SHA256


def test_the_note_says_what_the_part_is_of(site: str, faults: Any, target: Path) -> None:
    cut(faults, f"{site}/file.pth", target)
    note = json.loads(target.with_name("file.pth.part.json").read_text())
    assert note == {"url": f"{site}/file.pth", "validator": '"one"', "bytes": len(CONTENT)}
