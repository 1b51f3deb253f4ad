"""ImageNet from a local copy: verifies every photo and packs them into tar shards that training reads in one piece.

    cascade data imagenet /data/ILSVRC2012 --out data/imagenet --workers 8

The copy holds the folders train/ and val/, as `torchvision.datasets.ImageNet` unpacks them from
ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar, or as they stand below ILSVRC/Data/CLS-LOC. (ImageNet itself
must be asked for at image-net.org; Russakovsky et al., IJCV 2015; for non-commercial research.) Photos go into the
shards in one random order, so that neighbors are of many classes. Stopped and run again, the script keeps the shards
that are whole. 1.28 million photos take about 140 GB.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import signal
import sys
import tarfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from cascade_lab import cli
from cascade_lab.data.manifest import NAME, read_manifest, write_manifest
from cascade_lab.data.photos import read_photo
from data_scripts.download import DataError, file_digest, progress
from data_scripts.verify import few, is_whole, photo_files, summary

SPLITS = ("train", "val")


def prepare(copy: Path, out: Path, photos: int = 1000, workers: int = 1) -> str:
    """Writes the shards of both splits, `photos` files each, and their manifest. Returns a summary."""
    done = out / "done.jsonl"  # a line for each shard that is whole, while there is no manifest yet
    if done.exists() or not is_whole(out):
        shards = plan(copy, out, photos)
        kept = _kept(done, shards)
        todo = [shard for shard in shards if shard[0].name not in kept]
        ignore = signal.signal, (signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's affair
        with done.open("w") as log, ProcessPoolExecutor(workers, None, *ignore) as pool:
            log.writelines(json.dumps(row) + "\n" for row in kept.values())
            try:
                for row in progress(pool.map(write_shard, todo), f"packing {out}", len(todo), "shards"):
                    kept[row["file"]] = row
                    log.write(json.dumps(row) + "\n")
                    log.flush()
            except BaseException:
                pool.shutdown(cancel_futures=True)  # or Ctrl-C would wait for all of ImageNet
                raise
        rows = [kept[path.name] for path, _ in shards]
        skipped: dict[str, str] = {}
        for row in rows:
            skipped |= row.pop("skipped")
            del row["files"]
        for split in SPLITS:
            if not any(row["photos"] for row in rows if row["split"] == split):
                why = few([f"{file}: {reason}" for file, reason in skipped.items()])
                raise DataError(f"{copy / split} holds no photo that can be read ({why})")
        write_manifest(out / NAME, "ImageNet", "a local copy of ILSVRC2012", rows, skipped)
        done.unlink()
    manifest = read_manifest(out / NAME)
    return summary(out, manifest["files"], manifest["skipped"])


def plan(copy: Path, out: Path, photos: int) -> list[tuple[Path, list[tuple[str, Path]]]]:
    """Each shard's path and the files that go into it, as (name in the copy, path)."""
    missing = [split for split in SPLITS if not (copy / split).is_dir()]
    if missing:
        raise DataError(
            f"{copy} has no folder {' and no '.join(missing)}: name the one that holds train/ and val/. "
            "torchvision.datasets.ImageNet unpacks the original archives so"
        )
    shards = []
    for split in SPLITS:
        files = [(path.relative_to(copy).as_posix(), path) for path in photo_files(copy / split)]
        if not files:
            raise DataError(f"{copy / split} holds no photo")
        random.Random(0).shuffle(files)
        for number, first in enumerate(range(0, len(files), photos)):
            shards.append((out / f"{split}-{number:06d}.tar", files[first : first + photos]))
    out.mkdir(parents=True, exist_ok=True)
    return shards


def write_shard(shard: tuple[Path, list[tuple[str, Path]]]) -> dict:
    """Writes one shard, the same bytes whenever it is written; returns its row, with the files left out."""
    path, files = shard
    part = path.with_name(path.name + ".part")
    skipped, count = {}, 0
    with tarfile.open(part, "w") as tar:
        for name, file in files:
            try:
                encoded = file.read_bytes()
                read_photo(io.BytesIO(encoded))
            except (ValueError, OSError) as error:
                skipped[name] = str(error)
                continue
            # webdataset takes all after the first dot of a name for its kind
            member = tarfile.TarInfo(f"{count:06d}-{file.stem.replace('.', '_')}{file.suffix.lower() or '.jpg'}")
            member.size = len(encoded)
            tar.addfile(member, io.BytesIO(encoded))
            count += 1
    size, digest = part.stat().st_size, file_digest(part).partition(":")[2]
    os.replace(part, path)
    row = {"file": path.name, "size": size, "sha256": digest, "split": path.name.partition("-")[0]}
    return {**row, "photos": count, "files": _names_hash(files), "skipped": skipped}


def _names_hash(files: list[tuple[str, Path]]) -> str:
    return hashlib.sha256("\n".join(name for name, _ in files).encode(errors="surrogateescape")).hexdigest()


def _kept(done: Path, shards) -> dict[str, dict]:
    """Rows of the shards that an earlier run finished, of the same files."""
    wanted = {path.name: _names_hash(files) for path, files in shards}
    kept = {}
    for line in done.read_text().splitlines() if done.exists() else ():
        try:
            row = json.loads(line)
            path = done.parent / row["file"]
            whole = path.is_file() and path.stat().st_size == row["size"]
            if whole and row["photos"] and wanted.get(row["file"]) == row["files"]:
                kept[row["file"]] = row
        except (ValueError, KeyError, TypeError):  # the line that the earlier run was writing when it was stopped
            continue
    return kept


if __name__ == "__main__":  # python -m data_scripts.imagenet
    cli.main(["data", "imagenet", *sys.argv[1:]])
