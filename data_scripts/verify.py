"""Lists the photos of a folder for its manifest, and checks a folder against one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cascade_lab.data.manifest import NAME, read_manifest
from cascade_lab.data.photos import read_photo
from cascade_lab.data.sources import find_files
from data_scripts.download import DataError, file_digest, progress


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
    for path in progress(photo_files(folder), f"reading {folder}"):
        file = path.relative_to(folder).as_posix()
        try:
            read_photo(path)
            digest = file_digest(path).partition(":")[2]
        except (ValueError, OSError) as error:
            skipped[file] = str(error)
        else:
            row = {"file": file, "size": path.stat().st_size, "sha256": digest}
            rows.append({**row, "split": split_of(file, digest)})
    return rows, skipped


def differences(folder: Path, rows: list[dict]) -> list[str]:
    """The files of a manifest's rows that are missing or have another hash."""
    wrong = []
    for row in progress(rows, f"verifying {folder}"):
        path = folder / row["file"]
        if not path.is_file():
            wrong.append(f"{row['file']} is missing")
        elif file_digest(path) != f"sha256:{row['sha256']}":
            wrong.append(f"{row['file']} is another file")
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
    wrong = differences(out, read_manifest(out / NAME)["files"])
    if wrong:
        raise DataError(f"{out} is damaged ({few(wrong)}): delete it and run the same command again")
    return True


def prepare(folder: Path) -> str:
    """Compares each file that a folder's manifest lists with its hash. Returns a summary."""
    manifest = read_manifest(folder / NAME)
    if wrong := differences(folder, manifest["files"]):
        raise DataError(f"{folder} is not what its {NAME} lists ({few(wrong)}): fetch these files again")
    return summary(folder, manifest["files"], manifest["skipped"])


def few(messages: list[str]) -> str:
    """The first three of many, and their number."""
    return "; ".join(messages[:3]) + (f"; {len(messages)} in all" if len(messages) > 3 else "")


def summary(out: Path, rows: list[dict], skipped: dict[str, str]) -> str:
    """The line that a script ends with."""
    splits = sorted({row["split"] for row in rows})
    counts = ", ".join(f"{sum(row.get('photos', 1) for row in rows if row['split'] == name)} {name}" for name in splits)
    left_out = f", {len(skipped)} files left out: {few([f'{k}: {v}' for k, v in skipped.items()])}" if skipped else ""
    return f"{out}: {counts} photos{left_out}"
