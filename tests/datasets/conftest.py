from __future__ import annotations

import copy
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from hrnet_deploy.demo.people import write_dataset

Make = Callable[[dict[str, Any]], Path]


@pytest.fixture(scope="session")
def people_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight generated pictures with their annotations, some of them without a person."""
    folder = tmp_path_factory.mktemp("people")
    write_dataset(folder, images=8, seed=5)
    return folder


@pytest.fixture
def people(people_folder: Path) -> dict[str, Any]:
    """The content of the generated annotations, to be broken."""
    content: dict[str, Any] = json.loads((people_folder / "annotations.json").read_text())
    return copy.deepcopy(content)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Write content to a file of the test's own folder."""

    def write(content: dict[str, Any]) -> Path:
        path = tmp_path / "annotations.json"
        path.write_text(json.dumps(content))
        return path

    return write


@pytest.fixture(scope="session")
def exporters() -> ModuleType:
    """``exporters.py``: the same persons as each annotation tool exports them."""
    path = Path(__file__).with_name("exporters.py")
    specification = importlib.util.spec_from_file_location("exporters", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module
