"""What the documents say about commands, options, exit codes, files and Python is so."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import cv2
import numpy as np
import pytest

import hrnet_deploy
from hrnet_deploy import errors
from hrnet_deploy.cli import COMMANDS, load_command

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
REFERENCE = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
DOCUMENTS = sorted(
    file
    for file in ROOT.rglob("*.md")
    if not any(part.startswith(".") or part == "venv" for part in file.relative_to(ROOT).parts)
)
OPTION = re.compile(r"(?<![\w-])--?[a-z][a-z0-9-]*")


def section(command: str) -> str:
    """The reference's text on one command; empty where there is none."""
    found = re.search(
        rf"^## `hrnet-deploy {command}\b.*?\n(.*?)(?=^##|\Z)", REFERENCE, re.MULTILINE | re.DOTALL
    )
    return found.group(1) if found else ""


def documented_options(command: str) -> set[str]:
    """Options in the first cells of the command's table."""
    rows = [line for line in section(command).splitlines() if line.startswith("| `-")]
    return {option for row in rows for option in OPTION.findall(row.split(" | ")[0])}


def real_options(command: str) -> set[str]:
    definition = load_command(command)
    options = [item for item in definition.params if isinstance(item, click.Option)]
    return {name for option in options for name in (*option.opts, *option.secondary_opts)}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_reference_lists_exactly_the_options_that_there_are(command: str) -> None:
    assert section(command), f"docs/commands.md has no section on {command}"
    assert documented_options(command) == real_options(command)


def test_no_command_is_listed_that_is_not_there() -> None:
    headings = re.findall(r"^## `hrnet-deploy ([a-z-]+)", REFERENCE, re.MULTILINE)
    assert set(headings) == set(COMMANDS)
    assert dict(re.findall(r"^\| \[`([a-z-]+)`\].* \| (.*) \|$", README, re.MULTILINE)) == COMMANDS


def test_the_readme_lists_every_exit_code() -> None:
    codes = {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", README, re.MULTILINE)}
    assert listed == codes


def test_the_set_up_commands_are_where_ci_looks_for_them() -> None:
    lines = README.splitlines()
    assert "pip install '.[all]' && hrnet-deploy demo" in lines
    assert "pip install '.[all,dev]' && pytest" in lines


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_links_lead_somewhere(file: Path) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", file.read_text(encoding="utf-8"))
    local = [target.split("#")[0] for target in targets if "://" not in target]
    missing = [target for target in local if target and not (file.parent / target).exists()]
    assert not missing


def test_the_python_example_runs(tiny_onnx: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    shutil.copy(tiny_onnx, tmp_path / "w32.onnx")
    picture = np.random.default_rng(0).integers(0, 256, (480, 400, 3), np.uint8)
    assert cv2.imwrite(str(tmp_path / "street.jpg"), picture)
    check = "\nprint(poses.keypoints_px.shape, poses.scores.shape, len(poses.keypoint_names))"
    done = subprocess.run(
        [sys.executable, "-c", example + check],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(hrnet_deploy.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "(2, 3, 2) (2, 3) 3\n"), done.stderr
