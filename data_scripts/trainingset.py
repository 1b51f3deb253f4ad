"""The training photos and the ImageNet test set, made again from public files on GitHub.

    cascade data trainingset --out data/trainingset

OUT/train holds the photos to train on: photos8k (8,349 of Flickr8k, ImageNet, Caltech-101, COCO and Pexels, short side
at most 176 px), imagenet (800, short side at most 192 px) and bsds (the 200 of BSDS500 that are not in BSD300).
OUT/imagenet holds the 100 of ImageNet that are never trained on. trainingset.tsv.xz beside this file says of each photo
which file of which repository and commit it is made from and how, with the SHA-256 of both. photos8k is in random
order, so `--first 3000` takes a fair sample of it. Stopped and run again, the script keeps what is right; a photo that
is gone from its address ends no run.
"""

from __future__ import annotations

import csv
import functools
import lzma
import os
import shutil
import sys
import urllib.parse
from collections import Counter
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import PIL
from PIL import Image

from cascade_lab import cli
from cascade_lab.data.manifest import NAME, read_manifest, write_manifest
from data_scripts.download import DataError, Gone, fetch, file_digest, progress
from data_scripts.verify import few, photo_files, summary

URL = "https://raw.githubusercontent.com"
MANIFEST = Path(__file__).with_name("trainingset.tsv.xz")
TITLE = "training set"
SAMPLED = "train/photos8k/"
ORIGINALS = ".originals"  # folder of the downloads; with a dot, what is in it is never taken for photos
TRIES = 8  # the last waits take minutes: GitHub may want a pause (429) from who asks for many files


def prepare(out: Path, url: str = URL, first: int | None = None, workers: int = 8, manifest: Path = MANIFEST) -> str:
    """Makes what is not there yet: `first` photos of photos8k (default: all) and the others. Returns a summary.

    Raises:
        DataError: some photos are gone, and all others made; or the connection failed; or `out` holds other photos.
    """
    rows = read_rows(manifest, first)
    known = _known(out, rows)
    out.mkdir(parents=True, exist_ok=True)
    (out / "LICENCES").write_text(licences(rows), "utf-8")
    print(licences(rows), flush=True)
    made: dict[str, dict] = {}
    gone: dict[str, str] = {}
    try:
        with ThreadPool(workers) as pool:  # its threads do not hold up the end of a run that is stopped
            results = pool.imap_unordered(functools.partial(make, out=out, url=url, known=known), rows)
            for file, digest, why in progress(results, f"making {out}", len(rows)):
                if why:
                    gone[file] = why
                    continue
                split = "train" if file.startswith("train/") else "test"
                made[file] = {"file": file, "size": (out / file).stat().st_size, "sha256": digest, "split": split}
    finally:  # a run that was stopped does not pass for whole, and the next one learns what it made
        left = {row["file"]: gone.get(row["file"], "not made yet") for row in rows if row["file"] not in made}
        write_manifest(out / NAME, TITLE, url, list(made.values()), left)
    shutil.rmtree(out / ORIGINALS, ignore_errors=True)
    other = sum(made[row["file"]]["sha256"] != row["sha256"] for row in rows if row["file"] in made)
    note = f"; {other} are not the listed bytes, as Pillow {PIL.__version__} rounds otherwise than the 13.0 of the list"
    end = summary(out, list(made.values()), {}) + note * bool(other)
    if gone:
        print(*(f"{file}: {why}" for file, why in gone.items()), sep="\n", file=sys.stderr)
        raise DataError(f"{end}; {len(gone)} are gone, listed above and in {NAME}: run it again to try these again")
    return end


def read_rows(manifest: Path, first: int | None) -> list[dict[str, str]]:
    """What the manifest says of each photo, of photos8k's only the first ones."""
    with lzma.open(manifest, "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    sampled = [row for row in rows if row["file"].startswith(SAMPLED)]
    return sampled[:first] + [row for row in rows if not row["file"].startswith(SAMPLED)]


def licences(rows: list[dict[str, str]]) -> str:
    """The licence and the origin of the photos, two lines a source."""
    counts = Counter((row["licence"], row["repository"], row["commit"]) for row in rows)
    return "".join(
        f"{count:,} photos: {licence}\n    from https://github.com/{repository} at {commit}\n"
        for (licence, repository, commit), count in counts.items()
    )


def _known(out: Path, rows: list[dict[str, str]]) -> dict[str, str]:
    """SHA-256 by file of what an earlier run made; refuses a folder that holds other photos."""
    listed: dict[str, Any] = {"name": TITLE, "files": []}
    if (out / NAME).exists():
        listed = read_manifest(out / NAME)
    if listed.get("name") != TITLE:
        raise DataError(f"{out} holds another data set: choose another --out")
    wanted = {out / row["file"] for row in rows}
    others = [str(path) for part in ("train", "imagenet") for path in photo_files(out / part) if path not in wanted]
    if others:
        raise DataError(f"{out} holds what was not asked for ({few(others)}): choose another --out, or delete it")
    return {row["file"]: row["sha256"] for row in listed["files"]}


def make(row: dict[str, str], out: Path, url: str, known: dict[str, str]) -> tuple[str, str, str]:
    """Makes one photo where it is not there; returns its name, its SHA-256, and why it is gone if it is."""
    path = out / row["file"]
    if path.is_file():
        found = file_digest(path).partition(":")[2]
        if found in (row["sha256"], known.get(row["file"])):
            return row["file"], found, ""
    address = "/".join((url.rstrip("/"), row["repository"], row["commit"], urllib.parse.quote(row["path"])))
    digest = f"sha256:{row['original_sha256']}"
    try:
        original = fetch(address, out / ORIGINALS / row["file"], digest, TRIES, shown=False)
    except Gone as error:
        return row["file"], "", str(error)
    ready = original
    if quality := int(row["quality"]):  # 0: the photo is the original itself
        ready = original.with_name(original.name + ".ready")
        with Image.open(original) as image:
            photo = image.convert("RGB").resize((int(row["width"]), int(row["height"])), Image.Resampling.LANCZOS)
        photo.save(ready, "JPEG", quality=quality, optimize=row["optimize"] == "1")
        original.unlink()
    path.parent.mkdir(parents=True, exist_ok=True)
    os.replace(ready, path)
    return row["file"], file_digest(path).partition(":")[2], ""


if __name__ == "__main__":  # python -m data_scripts.trainingset
    cli.main(["data", "trainingset", *sys.argv[1:]])
