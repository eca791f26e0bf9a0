"""What the code never does, checked on its syntax trees: see SECURITY.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import hrnet_deploy

PACKAGE = Path(hrnet_deploy.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

CODE_CARRIERS = {
    "pickle",
    "_pickle",
    "cPickle",
    "cloudpickle",
    "dill",
    "joblib",
    "marshal",
    "shelve",
}
"""Formats whose reading runs code that the file holds."""
NETWORK = {"aiohttp", "ftplib", "http", "httpx", "requests", "socket", "urllib", "urllib3"}
MAY_DOWNLOAD = Path("zoo/download.py")
"""The one module that opens connections, on the word of ``zoo get``."""
MAY_LISTEN = Path("view/serve.py")
"""The one module that takes them, for ``view`` on this machine."""
MAY_IMPORT = {MAY_DOWNLOAD: "http|urllib", MAY_LISTEN: "socket"}
REPORTING = {"onnxruntime", "openvino"}
"""They open connections when they are imported, which ``errors.require`` switches off."""
BANNED_MODULES = {*CODE_CARRIERS, *NETWORK, "yaml"}
HARMLESS_NAMES = {"pickle.UnpicklingError"}
"""What ``torch.load(weights_only=True)`` raises: a name to catch reads nothing."""
BANNED_NAMES = {"eval", "exec", "compile", "__import__"}
BANNED_METHODS = {"extract", "extractall", "unpack_archive", "mktemp", "load_module"}
BANNED_QUALIFIED = {"os.system", "os.popen", "torch.hub", "torch.package", "torch.jit.load"}
HOST_CODE = "engine_host_code_allowed"


def qualified(node: ast.AST) -> str:
    """``torch.jit.load`` for the expression of that name, an empty string for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = qualified(node.value)
        return f"{base}.{node.attr}" if base else ""
    return ""


def constant(call: ast.Call, keyword: str) -> object:
    """The literal given for ``keyword``; ``...`` where it is absent or not a literal."""
    for item in call.keywords:
        if item.arg == keyword and isinstance(item.value, ast.Constant):
            return item.value.value
    return ...


def given(call: ast.Call, keyword: str) -> bool:
    return any(item.arg == keyword for item in call.keywords)


def violations(tree: ast.AST) -> Iterator[str]:
    """One sentence for everything in ``tree`` that is never to be done."""
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        yield from (f"line {line}: {what}" for what in _of_node(node))


def _of_node(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from _of_import([alias.name for alias in node.names])
    elif isinstance(node, ast.ImportFrom):
        names = [f"{node.module or ''}.{alias.name}" for alias in node.names]
        yield from _of_import([name for name in names if name not in HARMLESS_NAMES])
    elif isinstance(node, ast.Call):
        yield from _of_call(node)
    elif isinstance(node, ast.Attribute) and qualified(node) in BANNED_QUALIFIED:
        yield qualified(node)
    if HOST_CODE in {getattr(node, field, None) for field in ("attr", "id", "arg", "value")}:
        yield HOST_CODE


def _of_import(names: list[str]) -> Iterator[str]:
    for name in names:
        if name.split(".")[0] in BANNED_MODULES:
            yield f"import of {name}"
        if name in BANNED_QUALIFIED or name == "torch.load":
            yield f"import of {name}; call it by its full name"


def _of_call(call: ast.Call) -> Iterator[str]:
    name = qualified(call.func)
    method = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    if name in BANNED_NAMES:
        yield f"call of {name}"
    if method in BANNED_METHODS:
        yield f"call of .{method}"
    if name == "torch.load" and constant(call, "weights_only") is not True:
        yield "torch.load without weights_only=True"
    if (
        method == "load_state_dict"
        and given(call, "strict")
        and constant(call, "strict") is not True
    ):
        yield "load_state_dict that is not strict"
    if given(call, "shell") and constant(call, "shell") is not False:
        yield "shell=True"
    if given(call, "allow_pickle") and constant(call, "allow_pickle") is not False:
        yield "allow_pickle=True"
    if name in {"json.dump", "json.dumps"} and constant(call, "allow_nan") is not False:
        yield f"{name} without allow_nan=False"
    if name.endswith("import_module") or name == "require":
        first = call.args[0] if call.args else None
        if isinstance(first, ast.Constant):
            yield from _of_import([str(first.value)])


def label(file: Path) -> str:
    return str(file.relative_to(PACKAGE))


def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


@pytest.mark.parametrize("file", MODULES, ids=label)
def test_no_module_breaks_a_rule(file: Path) -> None:
    found = list(violations(parsed(file)))
    if allowed := MAY_IMPORT.get(file.relative_to(PACKAGE)):
        found = [what for what in found if not re.search(rf": import of ({allowed})\b", what)]
    assert found == []


def users_of(module: str) -> set[str]:
    """The files that import ``module``, or something out of it."""
    return {
        label(file)
        for file in MODULES
        for node in ast.walk(parsed(file))
        if isinstance(node, ast.ImportFrom)
        and module in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
    }


def test_downloads_are_the_users_word() -> None:
    """They go through two functions; nothing in the package gives the word itself."""
    assert users_of(".".join(("hrnet_deploy", *MAY_DOWNLOAD.with_suffix("").parts))) == {
        "zoo/local.py"
    }
    assert users_of("hrnet_deploy.zoo.local.fetch") == {"cli/zoo.py"}
    assert users_of("hrnet_deploy.zoo.local.local_file") == {"zoo/pretrained.py"}
    given = [
        f"{label(file)}:{node.lineno}"
        for file in MODULES
        for node in ast.walk(parsed(file))
        if isinstance(node, ast.keyword)
        and node.arg == "download"
        and isinstance(node.value, ast.Constant)
    ]
    assert given == []


def test_the_page_only_listens_and_only_here() -> None:
    tree = parsed(PACKAGE / MAY_LISTEN)
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert "listen" in used
    assert not used & {"connect", "connect_ex", "create_connection", "sendto"}
    assert "place.bind((HOST, port))" in ast.unparse(tree)
    assert 'HOST = "127.0.0.1"' in ast.unparse(tree).replace("'", '"')


def imported_as_they_are(source: str, packages: set[str]) -> set[str]:
    """Which of ``packages`` the source imports by itself; for type checkers alone is no import."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and qualified(node.test) == "TYPE_CHECKING":
            node.body = []
    statements = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = {alias.name for node in statements for alias in node.names}
    names |= {node.module or "" for node in statements if isinstance(node, ast.ImportFrom)}
    return {name for name in names if name.split(".")[0] in packages}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import openvino as ov", {"openvino"}),
        ("def f():\n    from onnxruntime.capi import x", {"onnxruntime.capi"}),
        ("if TYPE_CHECKING:\n    import onnxruntime", set()),
        ("require('openvino', extra='x', purpose='y')", set()),
    ],
)
def test_imports_that_report_are_noticed(source: str, found: set[str]) -> None:
    assert imported_as_they_are(source, REPORTING) == found


@pytest.mark.parametrize("file", MODULES, ids=label)
def test_what_reports_to_its_maker_is_imported_by_require(file: Path) -> None:
    assert not imported_as_they_are(file.read_text(encoding="utf-8"), REPORTING)


def test_plans_are_deserialised_in_one_place() -> None:
    """One place, so that the check of the manifest before it cannot be forgotten elsewhere."""
    places = {
        label(file)
        for file in MODULES
        for node in ast.walk(parsed(file))
        if getattr(node, "attr", None) == "deserialize_cuda_engine"
    }
    assert len(places) <= 1
    assert all(place.startswith("engines/") for place in places)


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=flag)",
        "from torch import load",
        "from pickle import UnpicklingError, loads",
        "from pickle import *",
        "from torch.jit import load",
        "torch.jit.load(path)",
        "torch.hub.load('a', 'b')",
        "import pickle",
        "def f():\n    from pickle import loads",
        "importlib.import_module('pickle')",
        "import yaml",
        "eval(text)",
        "exec(text)",
        "__import__(name)",
        "os.system('ls')",
        "subprocess.run('ls', shell=True)",
        "archive.extractall(folder)",
        "archive.extract(name)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "network.load_state_dict(state, strict=False)",
        "json.dumps(value)",
        "json.dump(value, stream, allow_nan=True)",
        "from urllib.request import urlopen",
        "import requests",
        "runtime.engine_host_code_allowed = True",
        "setattr(runtime, 'engine_host_code_allowed', True)",
    ],
)
def test_every_rule_is_noticed(source: str) -> None:
    assert list(violations(ast.parse(source)))


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(path, map_location='cpu', weights_only=True)",
        "network.eval()",
        "network.load_state_dict(state)",
        "network.load_state_dict(state, strict=True)",
        "np.load(path)",
        "json.dumps(value, allow_nan=False)",
        "subprocess.run(['ls'], check=True)",
        "re.compile(pattern)",
        "import pickletools",
        "from pickle import UnpicklingError",
    ],
)
def test_what_is_allowed_passes(source: str) -> None:
    assert not list(violations(ast.parse(source)))


def test_the_scan_sees_the_package() -> None:
    assert len(MODULES) > 10
