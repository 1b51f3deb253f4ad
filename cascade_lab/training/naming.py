"""What a trained network is named after, besides its settings: the code that trains it, without its prose.

A change to a step, a loss or the way in which photos are cut gives new names, so nothing stale is loaded. A change to
a comment, a docstring, a drawing or a table gives none, because days of training may lie there.
"""

import ast
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor

CODE = ("cascade_core", "cascade_lab/data", "cascade_lab/devices.py", "cascade_lab/training", "cascade_lab/variants.py")
"""The packages and modules that decide what every training comes to."""

ROOT = Path(__file__).parents[2]


def short_hash(content: Any) -> str:
    """Eight hex digits over what JSON can hold, whatever the order of its names."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def hash_of(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over a network's weights, wherever they were read from."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(state[name].float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def without_prose(source: str, name: str = "<module>") -> str:
    """A module's code without its comments and docstrings: two modules with the same one compute the same.

    Example:
        >>> without_prose('x = 1  # one') == without_prose('"Numbers."\\nx = 1')
        True
    """
    tree = ast.parse(source, name)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            body[:] = [part for part in body if not _is_prose(part)]
    return ast.unparse(tree)


def _is_prose(statement: ast.stmt) -> bool:
    """A text that stands by itself: a docstring, or the words below a constant."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


@cache
def code_hash(more: tuple[str, ...] = (), root: Path = ROOT) -> str:
    """Hash of the code that trains, without its prose.

    Args:
        more: modules besides ``CODE``, by their paths from ``root``.
        root: the folder in which the packages lie.
    """
    texts = {}
    for part in (*CODE, *more):
        for path in [root / part] if part.endswith(".py") else (root / part).rglob("*.py"):
            texts[path.relative_to(root).as_posix()] = without_prose(path.read_text("utf-8"), str(path))
    return short_hash(texts)
