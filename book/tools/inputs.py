"""What the book consists of, and what each result depends on, as short hashes: it is made again only when one of them
has changed.

Hashes are taken of contents, never of the time of a file, so that a fresh clone or a `touch` runs nothing again. A data
folder may hold a million photos; there the listing is hashed.
"""

import hashlib
import json
import os
from importlib.metadata import version
from pathlib import Path

from sphinx_external_toc.parsing import MalformedError, parse_toc_yaml

PACKAGES = ("cascade_core", "cascade_lab")


def short_hash(*parts: bytes) -> str:
    """Twelve hex digits over the parts; where one ends and the next begins counts.

    >>> short_hash(b"ab", b"c") == short_hash(b"a", b"bc")
    False
    """
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:12]


def folder_hash(folder: Path, *patterns: str) -> str:
    """Hash of the names and the bytes of the folder's files that fit a pattern, whatever the order of the disk."""
    files = sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
    return short_hash(*(part for path in files for part in (os.fsencode(path.relative_to(folder)), path.read_bytes())))


def package_hash(root: Path) -> str:
    """Hash of both packages' sources and data and of the version of torch. Comments count, too: chapters show them."""
    patterns = [f"{package}/**/*.{end}" for package in PACKAGES for end in ("py", "toml", "json", "html", "svg")]
    return short_hash(folder_hash(root, *patterns).encode(), version("torch").encode())


def data_folder(text: str | None) -> Path | None:
    """The folder of photos that a person has named; None stands for the photos of scikit-image."""
    if not text:
        return None
    folder = Path(os.path.expanduser(text)).resolve()
    if not folder.is_dir():
        raise ValueError(f"data folder {text!r}: there is no such folder; give DATA the path of one, or leave it out")
    return folder


def data_hash(folder: Path | None) -> str:
    """Hash of a data folder's listing (names, sizes, times); without a folder, scikit-image's version."""
    if folder is None:
        return f"scikit-image {version('scikit-image')}"
    listing = []
    for path in (os.path.join(parent, name) for parent, _, files in os.walk(folder) for name in files):
        if os.path.exists(path):  # a link that points nowhere is not data
            stat = os.stat(path)
            listing.append(f"{os.path.relpath(path, folder)} {stat.st_size} {stat.st_mtime_ns}")
    return short_hash(*map(os.fsencode, sorted(listing)))


def toc_entries(toc: Path) -> list[str]:
    """The pages that the table of contents names, in its order."""
    try:
        return list(parse_toc_yaml(toc))
    except MalformedError as error:
        raise ValueError(f"{toc}: {error}") from error


def chapters(book: Path) -> list[str]:
    """The notebooks among the pages; raises ValueError if a page of the contents does not exist."""
    entries = toc_entries(book / "_toc.yml")
    for entry in entries:
        if not any((book / f"{entry}.{end}").exists() for end in ("md", "ipynb")):
            raise ValueError(f"_toc.yml names {entry!r}: there is no such page or chapter in {book}")
    return [entry for entry in entries if (book / f"{entry}.ipynb").exists()]


def ask(build: Path, name: str, content: dict, result: str) -> None:
    """Writes what a result depends on, and takes away the mark of one that was made from something else or is gone.
    So the marks alone decide. Snakemake by itself would also go by the time of files, and would not miss the executed
    copy of a chapter in the middle."""
    path, text = build / "inputs" / f"{name}.json", json.dumps(content, indent=1)
    known = path.exists() and path.read_text("utf-8") == text
    if not known or not (build / result).exists():
        (build / "done" / name).unlink(missing_ok=True)
    if not known:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
