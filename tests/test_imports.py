"""Who may import whom, and what the light parts keep out of memory."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import hrnet_deploy

PACKAGE = Path(hrnet_deploy.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

FLOORS = (
    ("closing", "errors", "files", "keypoints", "lock", "spec", "talk", "telemetry", "values"),
    ("engines",),
    ("runtime",),
    ("evaluation",),
    ("datasets", "export", "report"),
    ("zoo",),
    ("predict",),
    ("benchmark", "demo", "view"),
    ("cli",),
    ("__main__",),
)
LEVELS = {part: level for level, parts in enumerate(FLOORS) for part in parts}
"""A part imports its own level or a lower one; ``hrnet_deploy`` itself is level 0 for others."""

OPTIONAL = (
    "cuda",
    "cupy",
    "matplotlib",
    "ml_dtypes",
    "onnx",
    "onnxruntime",
    "openvino",
    "pycocotools",
    "pyarrow",
    "pycuda",
    "safetensors",
    "scipy",
    "starlette",
    "supervision",
    "tensorrt",
    "tensorrt_rtx_bindings",
    "torch",
    "uvicorn",
)
HEAVY = (*OPTIONAL, "cv2")
NEED_AN_EXTRA = (
    *("demo/samples.py", "demo/score.py", "demo/train.py", "export/hrnet.py"),
    *("view/app.py", "view/serve.py"),
)
"""What is made of classes of PyTorch or starlette: imported in functions, after ``require``."""


IMPORT_FUNCTIONS = {"import_module", "__import__", "require"}


def imports_of(tree: ast.AST) -> Iterator[str]:
    """Every module name that is imported anywhere in ``tree``, in functions too.

    ``from a import b`` gives ``a.b`` as well, since ``b`` may be a module; names handed to
    ``import_module`` and ``require`` count.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args:
            name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            name = node.func.id if isinstance(node.func, ast.Name) else name
            first = node.args[0]
            if name in IMPORT_FUNCTIONS and isinstance(first, ast.Constant):
                yield str(first.value)


def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


def part_of(file: Path) -> str:
    """``engines`` for ``engines/cuda/x.py``, ``errors`` for ``errors.py``."""
    return file.relative_to(PACKAGE).with_suffix("").parts[0]


def own_parts(tree: ast.AST) -> set[str]:
    """The parts of hrnet_deploy that ``tree`` imports."""
    names = (name.split(".") for name in imports_of(tree))
    return {
        name[1] for name in names if name[0] == "hrnet_deploy" and name[1:] and name[1] in LEVELS
    }


def label(file: Path) -> str:
    return str(file.relative_to(PACKAGE))


LAYERED = [file for file in MODULES if part_of(file) != "__init__"]


def test_the_scan_sees_the_package() -> None:
    assert {"errors", "spec", "engines", "runtime", "export", "cli"} <= {
        part_of(file) for file in LAYERED
    }


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import torch", {"torch"}),
        ("def f():\n    import onnx.helper as h", {"onnx.helper"}),
        ("from hrnet_deploy import errors", {"hrnet_deploy", "hrnet_deploy.errors"}),
        ("from . import x", {".", "..x"}),
        ("require('torch', extra='export', purpose='x')", {"torch"}),
        ("importlib.import_module('onnx')", {"onnx"}),
    ],
)
def test_the_scan_finds_every_kind_of_import(source: str, expected: set[str]) -> None:
    assert set(imports_of(ast.parse(source))) == expected


@pytest.mark.parametrize("file", LAYERED, ids=label)
def test_imports_go_downwards(file: Path) -> None:
    part = part_of(file)
    assert part in LEVELS, f"{part} has no level yet: give it one in FLOORS"
    upwards = {other for other in own_parts(parsed(file)) if LEVELS[other] > LEVELS[part]}
    assert not upwards, f"{label(file)} imports {sorted(upwards)} above it"


def test_parts_do_not_import_one_another_in_a_circle() -> None:
    edges: dict[str, set[str]] = {}
    for file in LAYERED:
        edges.setdefault(part_of(file), set()).update(own_parts(parsed(file)) - {part_of(file)})
    while edges:
        leaves = {part for part, others in edges.items() if not others & edges.keys()}
        assert leaves, f"circle among {sorted(edges)}"
        edges = {part: others for part, others in edges.items() if part not in leaves}


@pytest.mark.parametrize("file", MODULES, ids=label)
def test_only_the_entry_point_imports_the_command_line(file: Path) -> None:
    if part_of(file) not in {"cli", "__main__"}:
        assert "cli" not in own_parts(parsed(file))


@pytest.mark.parametrize("file", MODULES, ids=label)
def test_runtime_and_engines_never_import_torch_or_onnx(file: Path) -> None:
    if LEVELS.get(part_of(file), 0) <= LEVELS["runtime"]:
        roots = {name.split(".")[0] for name in imports_of(parsed(file))}
        assert not roots & {"torch", "onnx"}


def run_python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def loaded_after(code: str, folder: Path) -> set[str]:
    """Top-level names that ``code`` brings into sys.modules in a fresh interpreter."""
    begin = "import sys; there = set(sys.modules)"  # packages' .pth files may have brought some
    new = "sorted({n.split('.')[0] for n in set(sys.modules) - there})"
    done = run_python(f"{begin}\n{code}\nimport json; print(json.dumps({new}))", folder)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def command_line(*words: str) -> str:
    """Code that runs the command line and swallows its exit."""
    return (
        "from hrnet_deploy.cli import main\n"
        "try:\n"
        f"    main({list(words)!r})\n"
        "except SystemExit as stop:\n"
        "    assert not stop.code, stop.code"
    )


def test_a_heavy_import_would_be_noticed(tmp_path: Path) -> None:
    assert {"numpy", "cv2"} <= loaded_after("import hrnet_deploy.runtime.image", tmp_path)


@pytest.mark.parametrize(
    "code",
    ["import hrnet_deploy", command_line("--help"), command_line("--version")],
    ids=["import", "--help", "--version"],
)
def test_the_light_parts_load_nothing_heavy(code: str, tmp_path: Path) -> None:
    assert not loaded_after(code, tmp_path) & {*HEAVY, "numpy", "rich"}


def test_the_help_of_a_command_loads_nothing_heavy(tmp_path: Path) -> None:
    from hrnet_deploy.cli import COMMANDS

    code = "\n".join(command_line(name, "--help") for name in COMMANDS)
    assert not loaded_after(code, tmp_path) & set(HEAVY)


def test_all_but_networks_of_pytorch_import_with_the_base_dependencies_alone(
    tmp_path: Path,
) -> None:
    names = [
        ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts)
        for file in LAYERED
        if label(file) not in NEED_AN_EXTRA
    ]
    code = f"""
import importlib, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {OPTIONAL!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
try:
    import onnxruntime
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("the block does not work")
for name in {names!r}:
    importlib.import_module(name)
"""
    done = run_python(code, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
