"""What a long step tells whoever started it; the command line writes it to stderr."""

from __future__ import annotations

from collections.abc import Callable

Say = Callable[[str], None]
"""Is given one line, without its line feed."""
