"""Any folder of photos: decodes each one and writes a manifest.json into it that holds some out for testing.

    cascade data folder ~/Pictures/holiday --test 0.1

The photos stay where they are. Each is put on a side by its content's hash: the same photo always on the same one,
copies of it too, whatever is added to the folder later. Photos below a sub-folder train, val or test are of that
split. Run it again after a change.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cascade_lab import cli
from cascade_lab.data.manifest import NAME, SPLITS, write_manifest
from data_scripts.download import DataError
from data_scripts.verify import few, list_photos, summary


def prepare(folder: Path, test: float) -> str:
    """Writes the manifest of a folder, `test` being the share that is held out. Returns a summary."""

    def split_of(file: str, digest: str) -> str:
        first, slash, _ = file.partition("/")
        if slash and first in SPLITS:
            return first
        return "test" if int(digest[:8], 16) < test * 2**32 else "train"

    if not 0 <= test <= 1:
        raise ValueError(f"--test is a share from 0 to 1, got {test}")
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}")
    rows, skipped = list_photos(folder, split_of)
    for split in ("train",) * (test < 1) + ("test",) * (test > 0):
        if not any(row["split"] == split or (split, row["split"]) == ("test", "val") for row in rows):
            why = few([f"{file}: {reason}" for file, reason in skipped.items()]) or "none was left out"
            raise DataError(f"{folder}: {len(rows)} usable photos leave none to {split} ({why})")
    try:
        write_manifest(folder / NAME, folder.resolve().name, str(folder.resolve()), rows, skipped)
    except OSError as error:
        raise DataError(f"{folder / NAME} cannot be written: {error}") from error
    return summary(folder, rows, skipped)


if __name__ == "__main__":  # python -m data_scripts.folder
    cli.main(["data", "folder", *sys.argv[1:]])
