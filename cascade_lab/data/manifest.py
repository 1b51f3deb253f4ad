"""The manifest.json of a data set: file, size, SHA-256 and split of all that a script of `data_scripts` verified.

For example::

    {"name": "BSD300", "source": "https://...",
     "files": [{"file": "train/100075.jpg", "size": 123, "sha256": "...", "split": "train"}, ...],
     "skipped": {"train/broken.jpg": "cannot be read: ..."}}

Shards are listed likewise, `"file": "train-000000.tar"`, with the number of their `photos`. Their names may reach other
programs, so they hold letters, digits and a few signs alone; a photo may be called as its owner likes.
"""

from __future__ import annotations

import json
import os
import re
import urllib.request
from pathlib import Path, PurePosixPath

NAME = "manifest.json"
SPLITS = ("train", "val", "test")
SHARD = re.compile(r"[\w.@+=~][\w.@+,()=~/ -]*\.tar")


def read_manifest(place: Path | str) -> dict:
    """Read a manifest from a path or a web address; its rows are whole, and their paths stay below its folder.

    Raises:
        ValueError: there is none, it cannot be read, or it is no manifest.
    """
    try:
        if "://" in str(place):
            with urllib.request.urlopen(str(place), timeout=60) as reply:
                text = reply.read().decode()
        else:
            text = Path(place).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = "there is no file" if isinstance(error, FileNotFoundError) else error
        who = "a script of data_scripts writes it; for shards, data_scripts.imagenet writes both"
        raise ValueError(f"{place} cannot be read ({why}): {who}") from error
    try:
        manifest = json.loads(text)
        for row in manifest["files"]:
            path = PurePosixPath(row["file"])
            if path.is_absolute() or ".." in path.parts or row["split"] not in SPLITS:
                raise ValueError(f"row {row}")
            row["size"], row["sha256"] = int(row["size"]), str(row["sha256"])
            if row["file"].endswith(".tar"):
                if not SHARD.fullmatch(row["file"]):
                    raise ValueError(f"the shard {row['file']!r}: its name needs letters, digits and . _ - alone")
                row["photos"] = int(row["photos"])
        manifest["skipped"] = dict(manifest["skipped"])
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{place} is not a manifest of data_scripts ({error!r}): write it again") from error
    return manifest


def write_manifest(path: Path, name: str, source: str, files: list[dict], skipped: dict[str, str]) -> None:
    """Write a manifest, a line a file; nothing stands under `path` before it is whole."""
    rows = ",\n".join("  " + json.dumps(row) for row in sorted(files, key=lambda row: row["file"]))
    head = f'{{"name": {json.dumps(name)},\n "source": {json.dumps(source)},\n'
    part = path.with_name(path.name + ".part")
    part.write_text(f'{head} "files": [\n{rows}\n ],\n "skipped": {json.dumps(skipped)}}}\n')
    os.replace(part, path)


def pick_split(found, split: str, where: str) -> str:
    """The name under which `where` holds a split: its own, or `val` for a test set where there is no `test`.

    Raises:
        ValueError: there is no such split, or it is not among those that were found.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    name = "val" if split == "test" and "test" not in found else split
    if name not in found:
        raise ValueError(f"{where} has no split {split!r}, only {', '.join(sorted(found)) or 'none'}")
    return name
