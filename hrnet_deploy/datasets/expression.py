"""A small language to choose persons by: comparisons of named facts, parsed and never executed.

``area > 5000 and facing == "front" and not labelled("left_wrist")``. An expression is parsed
into Python's syntax tree, of which a closed list of nodes is interpreted here; nothing else of
Python can be reached. A fact that is not known is None: it equals only None, and no ordering holds
for it.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hrnet_deploy.errors import InputError, Subject

MAX_LENGTH = 2000
MAX_DEPTH = 50
_MAX_TEXT = 200

Facts = Mapping[str, Any]
Functions = Mapping[str, Callable[..., Any]]

_ORDER: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
}


@dataclass(frozen=True)
class Expression:
    """A parsed expression; call it with the facts and functions of one person."""

    text: str
    tree: ast.expr
    source: Subject

    def __call__(self, facts: Facts, functions: Functions) -> bool:
        """Whether the expression holds. Raises InputError where its types do not fit."""
        try:
            return bool(_value(self.tree, facts, functions))
        except (TypeError, ValueError, ZeroDivisionError, OverflowError) as error:
            who = facts.get("id")
            raise InputError(
                self.source, f"fails for annotation {who}: {error}", "Compare like with like"
            ) from None


def parse_expression(
    text: str, *, names: frozenset[str], functions: frozenset[str], source: Subject = "--where"
) -> Expression:
    """Parse and check an expression; InputError naming what is not part of the language."""
    if len(text) > MAX_LENGTH:
        problem = f"is {len(text)} characters long, more than {MAX_LENGTH}"
        raise InputError(source, problem, "Use --annotation-ids with a file instead")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = getattr(error, "msg", None) or "nested too deeply"
        problem = f"'{_short(text)}' cannot be read ({reason})"
        raise InputError(source, problem, f"Write it like: {EXAMPLE}") from None
    _check(tree, names, functions, source, depth=0)
    return Expression(text, tree, source)


EXAMPLE = 'area > 5000 and facing == "front"'


def _short(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT] + "..."


def _check(
    node: ast.AST, names: frozenset[str], functions: frozenset[str], source: Subject, *, depth: int
) -> None:
    if depth > MAX_DEPTH:
        raise InputError(source, "is nested too deeply", "Simplify it")
    parts: list[ast.expr] = []
    if isinstance(node, ast.BoolOp):
        parts = node.values
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub)):
        parts = [node.operand]
    elif isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        parts = [node.left, node.right]
    elif isinstance(node, ast.Compare) and all(_is_known(op) for op in node.ops):
        parts = [node.left, *node.comparators]
    elif isinstance(node, (ast.Tuple, ast.List)):
        parts = node.elts
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        if node.func.id not in functions:
            known = ", ".join(sorted(functions))
            raise InputError(source, f"has no function '{node.func.id}'", f"Functions: {known}")
        parts = node.args
    elif isinstance(node, ast.Name):
        if node.id not in names:
            raise InputError(
                source, f"has no fact '{node.id}'", f"Facts: {', '.join(sorted(names))}"
            )
    elif not (isinstance(node, ast.Constant) and _is_plain(node.value)):
        what = type(node).__name__
        raise InputError(
            source, f"'{_short(ast.unparse(node))}' is not allowed ({what})", _LANGUAGE
        )
    for part in parts:
        _check(part, names, functions, source, depth=depth + 1)


_LANGUAGE = (
    "Use facts, numbers, 'text', and or not, comparisons, in, + - * / %, labelled() and visible()"
)


def _is_known(op: ast.cmpop) -> bool:
    return type(op) in _ORDER or isinstance(op, (ast.Eq, ast.NotEq, ast.In, ast.NotIn))


def _is_plain(value: object) -> bool:
    return value is None or type(value) in (bool, int, float, str)


def _value(node: ast.expr, facts: Facts, functions: Functions) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return facts[node.id]
    if isinstance(node, ast.BoolOp):
        return _bool(node, facts, functions)
    if isinstance(node, ast.UnaryOp):
        operand = _value(node.operand, facts, functions)
        return not operand if isinstance(node.op, ast.Not) else -_number(operand)
    if isinstance(node, ast.BinOp):
        left, right = (_value(side, facts, functions) for side in (node.left, node.right))
        if left is None or right is None:
            return None
        return _ARITHMETIC[type(node.op)](_number(left), _number(right))
    if isinstance(node, ast.Compare):
        return _compare(node, facts, functions)
    if isinstance(node, (ast.Tuple, ast.List)):
        return [_value(part, facts, functions) for part in node.elts]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        arguments = [_value(part, facts, functions) for part in node.args]
        return functions[node.func.id](*arguments)
    raise TypeError(f"{type(node).__name__} is not part of the language")


def _number(value: Any) -> Any:
    """Only numbers take part in arithmetic: a text times a billion would fill the memory."""
    if not isinstance(value, (int, float)):
        raise TypeError(f"{value!r} is no number")
    return float(value)


def _bool(node: ast.BoolOp, facts: Facts, functions: Functions) -> bool:
    results = (bool(_value(part, facts, functions)) for part in node.values)
    return all(results) if isinstance(node.op, ast.And) else any(results)


def _compare(node: ast.Compare, facts: Facts, functions: Functions) -> bool:
    left = _value(node.left, facts, functions)
    for op, comparator in zip(node.ops, node.comparators, strict=True):
        right = _value(comparator, facts, functions)
        if not _holds(op, left, right):
            return False
        left = right
    return True


def _holds(op: ast.cmpop, left: Any, right: Any) -> bool:
    if isinstance(op, ast.Eq):
        return bool(left == right)
    if isinstance(op, ast.NotEq):
        return bool(left != right)
    if isinstance(op, (ast.In, ast.NotIn)):
        return bool(left in right) == isinstance(op, ast.In)
    if left is None or right is None:
        return False
    return _ORDER[type(op)](left, right)
