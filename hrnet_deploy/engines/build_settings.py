"""What a plan is built with: defaults, TOML profiles and flags, in that order."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrnet_deploy.engines.manifest import HARDWARE_COMPATIBILITIES, BatchProfile
from hrnet_deploy.errors import InputError, Subject
from hrnet_deploy.files import check_input_file

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_PACKAGE = Path(__file__).resolve().parents[1]
_CARRIED = _PACKAGE / "profiles"
PROFILE_FOLDER = _CARRIED if _CARRIED.is_dir() else _PACKAGE.parent / "engines"
"""The TOML profiles: the copy that a wheel carries, or those of a checkout."""

MAX_BATCH = 4096
LEVELS = range(6)
"""TensorRT's builder optimisation levels: 0 builds fastest, 5 tries most."""


@dataclass(frozen=True)
class BuildSettings:
    """Settings of one build.

    ``workspace_mb`` is the builder's scratch memory in MiB, None for all that is free;
    ``hardware_compatibility`` widens the GPUs that the plan runs on, ``version_compatible`` the
    TensorRT versions of one major number; both cost speed. ``tf32`` lets float layers round
    their inputs to ten bits.
    """

    min_batch: int = 1
    opt_batch: int = 32
    max_batch: int = 128
    level: int = 3
    workspace_mb: int | None = None
    tf32: bool = False
    hardware_compatibility: str = "none"
    version_compatible: bool = False

    @property
    def profile(self) -> BatchProfile:
        """Smallest, best and largest batch."""
        return BatchProfile(self.min_batch, self.opt_batch, self.max_batch)

    def check(self, subject: Subject) -> None:
        """Refuse values out of range, naming the field (InputError)."""
        self.profile.check(subject)
        rules = {
            "max_batch": (self.max_batch <= MAX_BATCH, f"at most {MAX_BATCH}"),
            "level": (self.level in LEVELS, "a number from 0 to 5"),
            "workspace_mb": (self.workspace_mb is None or self.workspace_mb > 0, "1 or more"),
            "hardware_compatibility": (
                self.hardware_compatibility in HARDWARE_COMPATIBILITIES,
                " or ".join(HARDWARE_COMPATIBILITIES),
            ),
        }
        for name, (good, allowed) in rules.items():
            if not good:
                raise InputError(subject, f"has {name} {getattr(self, name)!r}", f"Give {allowed}")


def load_settings(profile: str | None, **flags: Any) -> BuildSettings:
    """Defaults, overridden by the TOML ``profile`` (a name or a path), overridden by ``flags``.

    Flags that are None were not given. A largest batch below the profile's best one pulls that
    one down with it, and a best one above the largest pulls that up.
    """
    settings = BuildSettings()
    source: Subject = "build settings"
    if profile is not None:
        source = _profile_path(profile)
        settings = dataclasses.replace(settings, **_read_profile(Path(source)))
    given = {name: value for name, value in flags.items() if value is not None}
    settings = dataclasses.replace(settings, **given)
    if "max_batch" in given and "opt_batch" not in given:
        settings = dataclasses.replace(
            settings, opt_batch=min(settings.opt_batch, settings.max_batch)
        )
    if "opt_batch" in given and "max_batch" not in given:
        settings = dataclasses.replace(
            settings, max_batch=max(settings.opt_batch, settings.max_batch)
        )
    settings.check(source)
    return settings


def profile_names() -> list[str]:
    """Names of the profiles that there are."""
    return sorted(path.stem for path in PROFILE_FOLDER.glob("*.toml"))


def _profile_path(profile: str) -> Path:
    if profile.endswith(".toml"):
        return check_input_file(profile, what="build profile")
    path = PROFILE_FOLDER / f"{profile}.toml"
    if profile not in profile_names():
        known = ", ".join(profile_names()) or "none in this installation"
        raise InputError(
            "--profile",
            f"there is no profile '{profile}' (there are: {known})",
            "Give one of these, the path of a .toml file, or --opt-batch and --max-batch",
        )
    return path


def _read_profile(path: Path) -> dict[str, Any]:
    try:
        value = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(path, f"is not valid TOML ({error})", "Correct it") from error
    kinds: dict[str, tuple[type, ...]] = {
        "min_batch": (int,),
        "opt_batch": (int,),
        "max_batch": (int,),
        "level": (int,),
        "workspace_mb": (int,),
        "tf32": (bool,),
        "hardware_compatibility": (str,),
        "version_compatible": (bool,),
    }
    for name, item in value.items():
        if name not in kinds:
            raise InputError(path, f"has an unknown key '{name}'", f"Known: {', '.join(kinds)}")
        if type(item) not in kinds[name]:
            raise InputError(path, f"has {name} = {item!r}", f"Give {kinds[name][0].__name__}")
    return value
