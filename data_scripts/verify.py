"""Lists the photos of a folder for its manifest, and checks a folder against one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cascade_lab.data.manifest import NAME, parse_manifest
from cascade_lab.data.photos import read_photo
from cascade_lab.data.sources import find_files
from data_scripts.download import DataError, Progress, file_digest


def photo_files(folder: Path) -> list[Path]:
    """All files below a folder that may be photos, by name: what `open_photos` would read, but no manifest."""
    paths, _ = find_files(folder)
    return sorted(path for path in paths.values() if path.is_file() and path.name not in (NAME, NAME + ".part"))


def list_photos(folder: Path, split_of: Callable[[str, str], str]) -> tuple[list[dict], dict[str, str]]:
    """Decodes and hashes every photo.

    Args:
        split_of: (file, SHA-256) -> split.

    Returns:
        The manifest's rows, and file -> reason for what cannot be read.
    """
    rows, skipped = [], {}
    files = photo_files(folder)
    progress = Progress(f"reading {folder}", len(files), "files")
    for path in files:
        file = path.relative_to(folder).as_posix()
        try:
            read_photo(path)
        except ValueError as error:
            skipped[file] = str(error)
        else:
            digest = file_digest(path).partition(":")[2]
            row = {"file": file, "size": path.stat().st_size, "sha256": digest}
            rows.append({**row, "split": split_of(file, digest)})
        progress.add(1)
    return rows, skipped


def differences(folder: Path, rows: list[dict]) -> list[str]:
    """The files of a manifest's rows that are missing or have another hash."""
    progress = Progress(f"verifying {folder}", len(rows), "files")
    wrong = []
    for row in rows:
        path = folder / row["file"]
        if not path.is_file():
            wrong.append(f"{row['file']} is missing")
        elif file_digest(path) != f"sha256:{row['sha256']}":
            wrong.append(f"{row['file']} is another file")
        progress.add(1)
    return wrong


def is_whole(out: Path) -> bool:
    """Whether `out` holds what its manifest lists; False where there is no `out` or it is empty.

    Raises:
        DataError: there is one, but it has no manifest or differs from it.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    if not (out / NAME).is_file():
        raise DataError(f"{out} is there already, without a {NAME}: choose another --out, or delete it")
    wrong = differences(out, parse_manifest((out / NAME).read_text(), str(out / NAME))["files"])
    if wrong:
        raise DataError(f"{out} is damaged ({few(wrong)}): delete it and run the same command again")
    return True


def few(messages: list[str]) -> str:
    """The first three of many, and their number."""
    return "; ".join(messages[:3]) + (f"; {len(messages)} in all" if len(messages) > 3 else "")


def summary(out: Path, rows: list[dict], skipped: dict[str, str]) -> str:
    """The line that a script ends with."""
    splits = sorted({row["split"] for row in rows})
    counts = ", ".join(f"{sum(row.get('photos', 1) for row in rows if row['split'] == name)} {name}" for name in splits)
    left_out = f", {len(skipped)} files left out: {few([f'{k}: {v}' for k, v in skipped.items()])}" if skipped else ""
    return f"{out}: {counts} photos{left_out}"
