"""Tar shards of photos, from a disk or an address, through webdataset: the way to train on ImageNet.

`python -m data_scripts.imagenet` writes them from a local copy, about a thousand photos in random order each, and a
manifest.json beside them; training reads shards in one piece each, which disks and networks like, and never seeks::

    epoch  ->  its own order of the shards  ->  every world-th for a rank  ->  every W-th for a worker
           ->  photos, mixed in a buffer of `BUFFER`  ->  batches; step k comes from worker k % W

So each photo is seen once an epoch by one rank. The stream is determined by (seed, world, workers). A resumed run
therefore sees the batches that it would have seen if it keeps both numbers; it reads its place in the current epoch
anew, without decoding, which takes up to an epoch's reading (epochs before that are skipped by counting).
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

from cascade_lab.data.manifest import NAME, pick_split, read_manifest
from cascade_lab.data.photos import hash_lines, shuffled

BUFFER = 1000  # photos as they lie in the tar that are mixed with each other, about 110 MB of ImageNet a worker
Sample = tuple[int, str, bytes]  # epoch, key and encoded photo
IMAGES = ("jpg", "jpeg", "png", "webp", "tif", "tiff", "bmp", "gif", "ppm", "jp2")


@dataclass(frozen=True)
class Readers:
    """The processes that share the reading; ``ValueError`` for numbers that cannot be.

    Args:
        workers: how many prepare batches ahead on each rank; with 0, each batch is prepared when it is asked for.
        rank, world: which of the processes that train together this one is, and how many they are.
    """

    workers: int = 0
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        if self.workers < 0 or not 0 <= self.rank < self.world:
            raise ValueError(f"workers must be at least 0 and rank one of 0 ... world - 1, got {self}")


class Shards:
    """The shards of one split; their length is the number of photos.

    Attributes:
        source, skipped: where they come from; name -> reason of the photos that were left out when they were written.
        names, counts, urls: of each shard its file, how many photos it holds, and its full path or address.
        hash: SHA-256 over a line `sha256  name` a shard, by the manifest.
    """

    repeats = 1

    def __init__(self, source: str, base: str, rows: list[dict[str, Any]], skipped: dict[str, str]) -> None:
        self.source, self.skipped = source, skipped
        self.names = [row["file"] for row in rows]
        self.counts = [row["photos"] for row in rows]
        self.urls = [base + name for name in self.names]
        self.hash = hash_lines((row["sha256"], row["file"]) for row in rows)

    def __len__(self) -> int:
        return sum(self.counts)

    def samples(self, seed: int, readers: Readers, slot: int, workers: int, skip: int) -> Iterator[Sample]:
        """What one of a rank's `workers`, number `slot`, reads without end, from its sample number `skip` on."""
        import webdataset

        for epoch in count():
            order = shuffled(seed, epoch, len(self.urls))
            mine = order[readers.rank :: readers.world][slot::workers]
            total = sum(self.counts[i] for i in mine)
            if skip < total:
                rng = random.Random(f"{seed} {epoch} {readers.rank} {slot}")
                mixed = webdataset.shuffle(BUFFER, initial=BUFFER, rng=rng)(self._read(mine))
                yield from ((epoch, *sample) for sample in islice(mixed, skip, None))
            skip = max(0, skip - total)

    def _read(self, shards: Iterable[int]) -> Iterator[tuple[str, bytes]]:
        from webdataset.tariterators import tarfile_samples

        for index in shards:
            url, expected, found = self.urls[index], self.counts[index], 0
            try:
                for sample in tarfile_samples(iter([{"url": url}])):
                    photo = next((sample[kind] for kind in IMAGES if kind in sample), None)
                    if photo is not None:
                        found += 1
                        yield sample["__key__"], photo
            except Exception as error:
                raise ValueError(f"{url} breaks off after {found} photos ({error})") from error
            if found != expected:
                raise ValueError(f"{url} holds {found} photos, {expected} by its manifest")


def open_shards(source: str, split: str) -> Shards:
    """Open the shards of a split, "train", "val" or "test", that the manifest.json beside them lists.

    Args:
        source: a folder, a pattern of tar files in it, `/data/imagenet/train-{000000..001281}.tar`, or the address of
            either (https://...; webdataset then reads through the program curl).
        split: as in the manifest.

    Raises:
        ValueError: the manifest is missing or lists no such shard, a file differs in size from it, or the address is
            of another kind.
        ImportError: webdataset is not installed.
    """
    try:
        import braceexpand
        import webdataset  # noqa: F401
    except ImportError as error:
        raise ImportError("tar shards need webdataset: pip install 'cascade-core[shards]'") from error
    remote = "://" in source
    if remote and not source.startswith(("https://", "http://")):
        raise ValueError(f"shards are read from a folder or from https:// and http://, got {source}")
    base, _, pattern = source.rpartition("/") if source.endswith(".tar") else (source.rstrip("/"), "", "")
    base = f"{base}/" if remote else f"{Path(base or '.').resolve()}/"
    manifest = read_manifest(base + NAME)
    rows = [row for row in manifest["files"] if row["file"].endswith(".tar")]
    name = pick_split({row["split"] for row in rows}, split, source)
    rows = [row for row in rows if row["split"] == name]
    if pattern:
        wanted = set(braceexpand.braceexpand(pattern))
        if missing := wanted - {row["file"] for row in rows}:
            raise ValueError(f"{base}{NAME} lists no {min(missing)} ({len(missing)} missing) as {name}")
        rows = [row for row in rows if row["file"] in wanted]
    for row in () if remote else rows:
        path = Path(base, row["file"])
        if not path.is_file() or path.stat().st_size != row["size"]:
            raise ValueError(f"{path} is missing or not {row['size']} bytes long: run data_scripts.imagenet again")
    return Shards(source, base, rows, manifest["skipped"])
