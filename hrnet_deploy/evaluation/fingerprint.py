"""What ties a result to what made it, and the sentence for a run of other making."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2

from hrnet_deploy import __version__
from hrnet_deploy.engines import Engine
from hrnet_deploy.errors import InputError
from hrnet_deploy.files import sha256_bytes


def engine_facts(engine: Engine) -> dict[str, Any]:
    """The file, and what runs it where: all that the poses of a crop depend on."""
    info = engine.info
    return {
        "sha256": info.sha256,
        "spec_sha256": sha256_bytes(engine.spec.to_json().encode()),
        "backend": info.backend,
        "device": info.device,
        "precision": info.precision,
        "flip_test": engine.spec.flip_test,
        "recipe": engine.spec.recipe,
        "versions": dict(sorted(info.versions.items())),
    }


def versions() -> dict[str, str]:
    """Those that decide on poses whatever the engine; OpenCV cuts the crops."""
    return {"hrnet_deploy": __version__, "opencv": cv2.__version__}


def another_run(path: Path, different: list[str]) -> InputError:
    """The sentence for a journal or result that some other run made."""
    return InputError(
        path,
        f"belongs to another run; it differs in {'; '.join(different)}",
        "Pass --fresh to start over, or -o for another output",
    )


def differences(recorded: Any, current: Mapping[str, Any]) -> list[str]:
    """What differs between two fingerprints, each as ``name: recorded -> current``."""
    old, new = _flat(recorded), _flat(current)
    return [
        f"{name}: {_brief(old.get(name))} -> {_brief(new.get(name))}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {prefix or "fingerprint": value}
    flat: dict[str, Any] = {}
    for name, item in value.items():
        flat.update(_flat(item, f"{prefix}.{name}" if prefix else str(name)))
    return flat


def _brief(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 20 else text[:12] + "..."
