"""Read what a pickle would do without doing it, and refuse whatever is not plain weights.

A pickle is a program. ``scan`` lists its opcodes (nothing runs) and every global that it names;
``refuse_code`` lets through only what plain weights need. ``torch.load(weights_only=True)``
checks again, with a wider list: tensor classes and ``bytearray`` on its list would allocate any
amount of memory. The globals of NumPy and of mmengine's history, which training checkpoints
hold beside the weights, are let through as inert stand-ins (``Inert``).
"""

from __future__ import annotations

import io
import pickletools
import re
import struct
from dataclasses import dataclass
from typing import Any, BinaryIO

from hrnet_deploy.errors import InputError, Subject

MAX_OPCODES = 5_000_000
"""A W48 training checkpoint has about 200,000."""

_PLAIN = {
    "collections.OrderedDict",
    "collections.Counter",
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
    "torch.nn.parameter.Parameter",
    "torch.Size",
    "torch.device",
    "torch.storage.UntypedStorage",
    "_codecs.encode",
    "builtins.set",
    "builtins.complex",
}
_PLAIN_PATTERN = re.compile(
    r"torch\.(cuda\.)?[A-Z][A-Za-z0-9]*Storage|torch\.(bfloat16|float\d+|u?int\d+|bool|complex\d+)"
)
INERT = {
    "numpy.core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy._core.multiarray._reconstruct",
    "numpy.ndarray",
    "numpy.dtype",
    "mmengine.logging.history_buffer.HistoryBuffer",
}
"""Globals of training checkpoints; a stand-in that only remembers its arguments replaces them."""

_HISTORY = "mmengine.logging.history_buffer.HistoryBuffer"
_GETATTR = "builtins.getattr"
"""How protocol 2 writes ``HistoryBuffer.min``; inert like the rest, and only beside it."""

_GROWING_CODECS = {"hex", "base64", "uu", "quopri", "quotedprintable"}
"""Codecs from bytes to more bytes: applied forty times they make a terabyte of a kilobyte."""

_STRING_OPCODES = {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING"}
_STRING_OPCODES |= {"BINSTRING", "SHORT_BINSTRING"}
_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg", "commands": "subprocess"}
"""Protocol 2 writes some modules under their names of Python 2."""

_WHOLE_MODEL = re.compile(r"torch\.nn\.(modules|quantized|intrinsic)\.|torch\.fx\.")


class Inert:
    """Takes the place of a class or function in a pickle: remembers its arguments, runs nothing."""

    arguments: tuple[Any, ...]
    state: Any

    def __new__(cls, *arguments: Any) -> Inert:
        self = super().__new__(cls)
        self.arguments = arguments
        self.state = None
        return self

    def __init__(self, *arguments: Any) -> None:
        """``__new__`` has taken the arguments, since pickles may call it alone."""

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def numbers(self) -> tuple[float, ...] | None:
        """The values of a one-dimensional float array that NumPy pickled; None if another thing."""
        state = (
            self.state if isinstance(self.state, tuple) and len(self.state) == 5 else (None,) * 5
        )
        dtype, content = state[2], state[4]
        if not isinstance(dtype, Inert) or not isinstance(content, bytes):
            return None
        letter = {"f4": "f", "f8": "d"}.get(str(dtype.arguments[0]) if dtype.arguments else "")
        if letter is None or len(content) % struct.calcsize(letter):
            return None
        return struct.unpack(f"<{len(content) // struct.calcsize(letter)}{letter}", content)


@dataclass(frozen=True)
class PickleFacts:
    """The globals that a pickle names, in order, and the codec names among its strings."""

    globals: tuple[str, ...]
    codecs: frozenset[str]

    def __or__(self, other: PickleFacts) -> PickleFacts:
        names = dict.fromkeys((*self.globals, *other.globals))
        return PickleFacts(tuple(names), self.codecs | other.codecs)


NOTHING = PickleFacts((), frozenset())


def scan(stream: BinaryIO) -> PickleFacts:
    """List what one pickle names, leaving ``stream`` behind its STOP; nothing is executed.

    Raises ValueError where the bytes are not a pickle, end early or are implausibly many.
    """
    names: dict[str, None] = {}
    codecs: set[str] = set()
    memo: dict[int, str] = {}
    recent: list[str] = []  # what the last opcodes pushed, as far as it is text
    for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        if count > MAX_OPCODES:
            raise ValueError("too many opcodes")
        name = opcode.name
        if name in _STRING_OPCODES:
            recent.append(text := str(argument))
            if len(text) < 24 and (codec := re.sub(r"[-_ ]|codec", "", text.lower())):
                codecs.update({codec} & _GROWING_CODECS)
        elif name in ("GLOBAL", "INST"):
            names[_qualified(*str(argument).split(" ", 1))] = None
        elif name == "STACK_GLOBAL":
            names[_qualified(*recent[-2:]) if len(recent) > 1 else "an unnamed global"] = None
        elif name.startswith("EXT"):
            names[f"copyreg extension {argument}"] = None
        elif name == "MEMOIZE":
            memo[len(memo)] = recent[-1] if recent else ""
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[int(str(argument))] = recent[-1] if recent else ""
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            recent.append(memo.get(int(str(argument)), ""))
        del recent[:-4]
    return PickleFacts(tuple(names), frozenset(codecs))


def scan_bytes(content: bytes) -> PickleFacts:
    """``scan`` of the pickle at the start of ``content``."""
    return scan(io.BytesIO(content))


def _qualified(module: str, name: str = "") -> str:
    return f"{_PYTHON_2.get(module, module)}.{name}"


def refuse_code(path: Subject, facts: PickleFacts) -> None:
    """Raise InputError naming the first global that plain weights do not need."""
    allowed = _PLAIN | INERT
    if _HISTORY in facts.globals:
        allowed = allowed | {_GETATTR}
    strange = [
        name for name in facts.globals if name not in allowed and not _PLAIN_PATTERN.fullmatch(name)
    ]
    if "_codecs.encode" in facts.globals and facts.codecs:
        raise _contains_code(path, f"_codecs.encode to {min(facts.codecs)}")
    if not strange:
        return
    if any(map(_WHOLE_MODEL.match, strange)) and not _dangerous(strange):
        raise InputError(
            path,
            "contains a whole model, not weights",
            "In the code that made it, save model.state_dict() with torch.save",
        )
    named = [name for name in strange if _dangerous([name])] or strange
    if all(name.startswith("torch.") for name in strange):
        problem = f"holds {named[0]}, which is not plain weights, and was not loaded"
        raise InputError(path, problem, "Save model.state_dict() with torch.save")
    raise _contains_code(path, named[0])


def _contains_code(path: Subject, name: str) -> InputError:
    return InputError(
        path,
        f"contains code ({name}) and was not loaded",
        "Get the file from a source that you trust, saved as model.state_dict()",
    )


_DANGEROUS_MODULES = {
    *("os", "posix", "nt", "sys", "subprocess", "builtins", "runpy", "importlib", "shutil"),
    *("socket", "ctypes", "pty", "pickle", "_pickle", "marshal", "types", "operator", "code"),
    *("webbrowser", "asyncio", "multiprocessing", "threading", "timeit", "pdb", "bdb", "cProfile"),
}


def _dangerous(names: list[str]) -> bool:
    """Whether a global belongs to a module that a model has no use for: named first."""
    harmless = {"builtins.set", "builtins.dict", "builtins.list", "builtins.object"}
    return any(n.split(".")[0] in _DANGEROUS_MODULES and n not in harmless for n in names)
