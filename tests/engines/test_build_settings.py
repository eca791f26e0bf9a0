"""Build settings from defaults, TOML and flags; the timing cache's file."""

from __future__ import annotations

from pathlib import Path

import pytest

from hrnet_deploy.engines import build_settings
from hrnet_deploy.engines.build_settings import BuildSettings, load_settings, profile_names
from hrnet_deploy.engines.cuda.probe import Gpu
from hrnet_deploy.engines.timing_cache import (
    read_timing_cache,
    timing_cache_path,
    write_timing_cache,
)
from hrnet_deploy.errors import InputError


def toml(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text)
    return str(path)


def test_the_checkout_has_its_profiles() -> None:
    assert profile_names() == ["jetson", "latency", "server"]
    for name in profile_names():
        settings = load_settings(name)
        assert settings != BuildSettings()
        assert settings.workspace_mb == (2048 if name == "jetson" else None)


def test_flags_win_over_the_profile_and_the_profile_over_the_defaults(tmp_path: Path) -> None:
    profile = toml(tmp_path, "max_batch = 64\nlevel = 5\n")
    settings = load_settings(profile, level=1, workspace_mb=None)
    assert (settings.max_batch, settings.level, settings.opt_batch) == (64, 1, 32)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"max_batch": 8}, (1, 8, 8)),
        ({"opt_batch": 200}, (1, 200, 200)),
        ({"max_batch": 256}, (1, 32, 256)),
        ({"min_batch": 4, "opt_batch": 4, "max_batch": 4}, (4, 4, 4)),
    ],
)
def test_one_batch_flag_moves_the_others_along(
    flags: dict[str, int], expected: tuple[int, int, int]
) -> None:
    settings = load_settings(None, **flags)
    assert (settings.min_batch, settings.opt_batch, settings.max_batch) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_batch = ", "is not valid TOML"),
        ("batch = 3", "unknown key 'batch'"),
        ("max_batch = '3'", "has max_batch = '3'"),
        ("max_batch = true", "has max_batch = True"),
        ("tf32 = 1", "has tf32 = 1"),
        ("min_batch = 9\nopt_batch = 4\nmax_batch = 8", "min 9, opt 4, max 8"),
        ("min_batch = 0", "min 0"),
        ("max_batch = 100000", "has max_batch 100000"),
        ("level = 6", "has level 6"),
        ("workspace_mb = 0", "has workspace_mb 0"),
        ("hardware_compatibility = 'all'", "has hardware_compatibility 'all'"),
    ],
)
def test_a_bad_profile_is_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_settings(toml(tmp_path, text))
    assert "mine.toml" in str(caught.value)


def test_the_order_of_batch_flags_is_a_rule() -> None:
    with pytest.raises(InputError, match=r"min 8, opt 4, max 4\. Give 1 <= min <= opt <= max"):
        load_settings(None, min_batch=8, opt_batch=4, max_batch=4)


def test_an_unknown_profile_names_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"no profile 'sever' \(there are: jetson, latency, serv"):
        load_settings("sever")


def test_a_wheel_without_profiles_works(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(build_settings, "PROFILE_FOLDER", tmp_path / "missing")
    assert load_settings(None) == BuildSettings()
    with pytest.raises(InputError, match="there are: none in this installation"):
        load_settings("server")


GPU = Gpu(0, "NVIDIA H200 / 141GB", (9, 0), 1 << 37)


def test_the_timing_cache_is_keyed_by_gpu_and_version(tmp_path: Path) -> None:
    path = timing_cache_path(tmp_path, GPU, "10.9.0.34")
    assert path.name == "nvidia-h200-141gb-sm90-trt10.9.0.34.timing-cache"


def test_the_timing_cache_survives_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "x.timing-cache"
    assert read_timing_cache(path) == (b"", None)
    write_timing_cache(path, b"\0times\n\xff")
    assert read_timing_cache(path) == (b"\0times\n\xff", None)


@pytest.mark.parametrize("place", [0, 5, 40, -1])
def test_a_damaged_timing_cache_is_ignored_with_a_warning(tmp_path: Path, place: int) -> None:
    path = tmp_path / "x.timing-cache"
    write_timing_cache(path, b"times")
    content = bytearray(path.read_bytes())
    content[place] ^= 0x20
    path.write_bytes(content)
    cache, warning = read_timing_cache(path)
    assert cache == b""
    assert warning is not None
    assert "x.timing-cache: is damaged" in warning


@pytest.mark.parametrize("content", [b"", b"hrnet-deploy", b"\xff" * 200])
def test_what_is_no_timing_cache_is_ignored(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.timing-cache"
    path.write_bytes(content)
    cache, warning = read_timing_cache(path)
    assert (cache, warning is not None) == (b"", True)
