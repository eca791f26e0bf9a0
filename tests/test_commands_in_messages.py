"""A command in a message stands where it can be copied: at the end, after a colon, no full stop."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import hrnet_deploy
from hrnet_deploy.cli import COMMANDS
from hrnet_deploy.errors import InputError, command_line

PACKAGE = Path(hrnet_deploy.__file__).parent
COMMAND = re.compile(
    rf"hrnet-deploy (?:{'|'.join(COMMANDS)}) [\w{{]|pip (?:un)?install [\w'{{]|git [a-z]+ [a-z]"
)
"""A program with arguments; ``hrnet-deploy export`` alone only names the command."""
PLACE = re.compile(r"(?:^ *|: |; )$")
"""What may stand in front of it: nothing, a colon, or another command of the same line."""
PROSE = re.compile(r"\.$|, | \(| or | and ")
"""What may not stand behind it."""
FILLED_IN = re.compile(rf"hrnet-deploy (?:{'|'.join(COMMANDS)}) .*\{{\}}")
"""Words that are filled in may have spaces: ``errors.command_line`` quotes them."""


def texts_of(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and text of every string that is no docstring; a placeholder is ``{}``."""
    documentation = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    inner = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in node.values
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = (p.value if isinstance(p, ast.Constant) else "{}" for p in node.values)
            yield node.lineno, "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and id(node) not in documentation | inner:
            yield node.lineno, str(node.value)


def faults_of(source: str) -> list[str]:
    """The texts of ``source`` from which a command cannot be copied as it stands."""
    faults = []
    for line, text in texts_of(ast.parse(source)):
        for found in COMMAND.finditer(text):
            before, after = text[: found.start()], text[found.start() :]
            if not PLACE.search(before) or PROSE.search(after):
                faults.append(f"line {line}: {text}")
        if FILLED_IN.search(text):
            faults.append(f"line {line}: without command_line: {text}")
    return faults


@pytest.mark.parametrize(
    ("text", "faulty"),
    [
        ("Run: hrnet-deploy zoo get x", False),
        ("Run hrnet-deploy zoo get x", True),
        ("Run: hrnet-deploy zoo get x.", True),
        ("pip install torch", False),
        ("pip install torch, or go", True),
        ("was not written by hrnet-deploy export", False),
        ("Run: git lfs pull", False),
        ("next: hrnet-deploy export {path}", True),
    ],
)
def test_the_scan_tells_them_apart(text: str, faulty: bool) -> None:
    assert bool(faults_of(f"x = f{text!r}")) == faulty


@pytest.mark.parametrize(
    "file", sorted(PACKAGE.rglob("*.py")), ids=lambda file: str(file.relative_to(PACKAGE))
)
def test_commands_can_be_copied_from_messages(file: Path) -> None:
    assert not faults_of(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("fix", "end"),
    [
        ("Run: hrnet-deploy dataset clean .", "Run: hrnet-deploy dataset clean ."),
        ("pip install 'torch>=2.10'", ". pip install 'torch>=2.10'"),
        ("Give a name that does", "Give a name that does."),
        ("Give a name that does.", "Give a name that does."),
    ],
)
def test_only_sentences_get_a_full_stop(fix: str, end: str) -> None:
    assert str(InputError("x", "is wrong", fix)).endswith(end)


def test_words_with_spaces_are_quoted() -> None:
    assert command_line("export", Path("my net.pth")) == "hrnet-deploy export 'my net.pth'"
