"""What a chapter's result depends on, as short hashes: it runs again only when one of them has changed.

Everything is told by content, never by the time of a file, so that a fresh clone or a `touch` runs nothing again;
only a data folder, which may hold a million photos, is told by its listing.
"""

import ast
import hashlib
import os
from importlib.metadata import version
from pathlib import Path


def short_hash(*parts: bytes) -> str:
    """Twelve hex digits over the parts; where one ends and the next begins counts.

    >>> short_hash(b"ab", b"c") == short_hash(b"a", b"bc")
    False
    """
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:12]


def folder_hash(folder: Path, pattern: str) -> str:
    """Hash of the names and the bytes of the folder's files that fit the pattern, whatever the order of the disk."""
    files = sorted(path for path in folder.glob(pattern) if path.is_file())
    return short_hash(
        *(part for path in files for part in (path.relative_to(folder).as_posix().encode(), path.read_bytes()))
    )


def without_prose(source: str, name: str = "<module>") -> str:
    """The syntax tree of a module without its comments and docstrings: two modules with the same one train the same.

    >>> without_prose('x = 1  # one') == without_prose('"Numbers."\\nx = 1')
    True
    """
    tree = ast.parse(source, name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)


def package_hash(packages: list[Path]) -> str:
    """Hash of the packages' sources and of the version of torch, for a chapter shows those sources too."""
    return short_hash(*(folder_hash(package, "**/*.py").encode() for package in packages), version("torch").encode())


def runs_key(packages: list[Path]) -> str:
    """Names the folder of trained networks: a change to what the package does gets a new one, so nothing stale is
    loaded; a change to its prose does not, because days of training may lie there."""
    modules = sorted((path, package) for package in packages for path in package.glob("**/*.py"))
    return short_hash(
        version("torch").encode(),
        *(
            part.encode()
            for path, package in modules
            for part in (path.relative_to(package).as_posix(), without_prose(path.read_text("utf-8"), str(path)))
        ),
    )


def data_hash(folder: Path | None) -> str:
    """Hash of a data folder's listing (names, sizes, times); without a folder, scikit-image's version."""
    if folder is None:
        return f"scikit-image {version('scikit-image')}"
    if not folder.is_dir():
        raise ValueError(f"data folder {str(folder)!r}: no such folder; give DATA the path of one, or leave it out")
    listing = []
    for parent, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            path = os.path.join(parent, name)
            if os.path.exists(path):  # a link that points nowhere is not data
                stat = os.stat(path)
                listing.append(f"{os.path.relpath(path, folder)} {stat.st_size} {stat.st_mtime_ns}")
    return short_hash(*(os.fsencode(line) for line in listing))
