"""Photos in, batches of crops in [0, 1] out: from a folder, from scikit-image's own photos or from tar shards.

For example::

    photos = open_photos("data/bsd300", "test")
    crops = test_crops(photos, 128, "crop")  # (N, 3, 128, 128)

    photos = open_photos("data/imagenet", "train")
    for crops in training_batches(photos, 128, batch=64, seed=0, start=0, stop=1000):
        ...
"""

from __future__ import annotations

import importlib.resources
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from cascade_lab.data.manifest import NAME, SPLITS, parse_manifest, pick_split
from cascade_lab.data.photos import Photos, random_square, read_photo, square
from cascade_lab.data.shards import ALONE, Readers, Shards, ShardSteps, open_shards

__all__ = ["Photos", "Readers", "Shards", "crop_names", "open_photos", "read_photo", "test_crops", "training_batches"]

# The photos in scikit-image's wheel. Both views of the motorcycle stand on one side of the split.
WHEEL = {
    "test": ("astronaut.png", "chelsea.png"),
    "train": (
        "coffee.png",
        "hubble_deep_field.jpg",
        "ihc.png",
        "motorcycle_left.png",
        "motorcycle_right.png",
        "retina.jpg",
        "rocket.jpg",
    ),
}
WHEEL_REPEATS = 64  # seven photos, each far larger than a crop: an epoch visits each so many times


def photos_record(photos: Photos | Shards) -> dict[str, Any]:
    """Which photos they were, for the record of a run."""
    return {
        "source": photos.source,
        "count": len(photos),
        "left_out": len(photos.skipped),
        "hash": photos.hash,
    }


def open_photos(source: str | Path | None = None, split: str = "train") -> Photos | Shards:
    """Opens a set of photos.

    Args:
        source: one of
            None: the photos in scikit-image's wheel; astronaut and chelsea are the test set, seven others train.
            A folder with a manifest.json (`data_scripts` writes it): the files that it lists for the split.
            A folder with sub-folders train, val or test: everything below the one named by `split`.
            Any other folder: everything below it, whatever `split` is. `data_scripts.folder` holds photos out.
            Tar shards: a pattern such as "/data/train-{000000..000099}.tar", an address, or their folder.
        split: "train", "val" or "test"; where there is no "test", "val" is taken for it.

    Raises:
        ValueError: there is no such folder or split, or no photo in it that can be read.
    """
    if source is None:
        wheel = Path(str(importlib.resources.files("skimage"))) / "data"
        names = WHEEL["test" if pick_split(SPLITS, split, "scikit-image") != "train" else "train"]
        return Photos("scikit-image", {name: wheel / name for name in names}, repeats=WHEEL_REPEATS)
    if "://" in str(source) or str(source).endswith(".tar"):
        return open_shards(str(source), split)
    folder = Path(source)
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}; None takes scikit-image's photos")
    if (folder / NAME).is_file():
        photos = _listed_photos(folder, split)
        if isinstance(photos, Shards):
            return photos
    else:
        found = [name for name in SPLITS if (folder / name).is_dir()]
        if found:
            folder = folder / pick_split(found, split, str(folder))
        paths = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
        photos = Photos(str(folder), {path.relative_to(folder).as_posix(): path for path in paths})
    if photos.skipped:
        first = "; ".join(f"{name}: {why}" for name, why in list(photos.skipped.items())[:3])
        warnings.warn(f"{folder}: {len(photos.skipped)} files left out ({first})", stacklevel=2)
    if not photos:
        raise ValueError(f"no photo in {folder} can be read ({len(photos.skipped)} files left out)")
    return photos


def _listed_photos(folder: Path, split: str) -> Photos | Shards:
    manifest = parse_manifest((folder / NAME).read_text(), str(folder / NAME))
    if any(row["file"].endswith(".tar") for row in manifest["files"]):
        return open_shards(str(folder), split)
    name = pick_split({row["split"] for row in manifest["files"]}, split, str(folder / NAME))
    paths, digests = {}, {}
    others = set(SPLITS) - {name}
    left_out = {file: why for file, why in manifest["skipped"].items() if file.split("/")[0] not in others}
    skipped = {file.removeprefix(f"{name}/"): why for file, why in left_out.items()}
    for row in manifest["files"]:
        path = folder / row["file"]
        short = row["file"].removeprefix(f"{name}/")  # the same name that the split's folder alone would give
        if row["split"] != name:
            continue
        if not path.is_file():
            skipped[short] = "listed in the manifest but missing"
        elif path.stat().st_size != row["size"]:
            skipped[short] = f"{path.stat().st_size} bytes long, {row['size']} by the manifest"
        else:
            paths[short], digests[short] = path, row["sha256"]
    return Photos(str(folder), paths, skipped, digests)


def training_batches(
    photos: Photos | Shards,
    size: int,
    batch: int,
    seed: int,
    start: int,
    stop: int,
    scale: tuple[float, float] = (0.0, 1.0),
    readers: Readers = ALONE,
) -> Iterator[torch.Tensor]:
    """Random square crops for the steps `start` to `stop` - 1.

    Crop number i is determined by (seed, i) alone: each epoch visits all photos in an order of its own, and the
    crop's scale, place and mirroring come from a generator seeded by (seed, i). So a resumed run sees what it would
    have seen, with any number of workers, and all ranks together see what one would with batches as many times as
    large. Shards are a stream instead: see `cascade_lab.data.shards`.

    Args:
        size: side of the crops in pixels.
        batch: crops a step, on each rank.
        scale: range of the crops' extent: 0 is `size` pixels at 1:1, 1 the whole short side, resized to `size`.
        readers: the workers of this rank, and its place among the ranks.

    Returns:
        An iterator over float32 tensors (batch, 3, size, size) in [0, 1], on the CPU.

    Raises:
        ValueError: before the first batch, for fewer photos than a step takes or an argument out of range.
    """
    workers, world = readers.workers, readers.world
    if not 0 <= scale[0] <= scale[1] <= 1:
        raise ValueError(f"scale must be (low, high) with 0 <= low <= high <= 1, got {scale}")
    if not 0 <= readers.rank < world:
        raise ValueError(f"the readers' rank must be one of 0 ... world - 1, got rank {readers.rank} of {world}")
    if min(size, batch) < 1 or min(seed, start, workers) < 0:
        raise ValueError(f"{size=} and {batch=} must be at least 1; {seed=}, {start=} and {workers=} at least 0")
    if len(photos) * photos.repeats < batch * world:
        raise ValueError(
            f"{photos.source} has {len(photos)} usable photos ({len(photos.skipped)} left out), but a step takes "
            f"{batch * world}: choose a smaller batch or add photos"
        )
    if isinstance(photos, Shards):
        steps = ShardSteps(photos, size, batch, seed, range(start, stop), scale, readers)
        order, workers = None, min(workers, steps.most_workers())
    else:
        steps, order = _Steps(photos, size, batch, seed, scale, readers), range(start, stop)
    loader = DataLoader(
        steps, batch_size=None, sampler=order, num_workers=workers, prefetch_factor=4 if workers else None
    )
    return (crops.float().div_(255) for crops in loader)  # bytes travel between processes, not floats


class _Steps:
    """Step -> its crops as bytes (batch, 3, size, size): the map that a DataLoader's workers look up."""

    def __init__(self, photos, size, batch, seed, scale, readers):
        self.photos, self.size, self.batch, self.seed, self.scale = photos, size, batch, seed, scale
        self.rank, self.world, self._epoch, self._order = readers.rank, readers.world, -1, None

    def __getitem__(self, step: int) -> torch.Tensor:
        first = step * self.batch * self.world + self.rank
        crops = [self._crop(first + j * self.world) for j in range(self.batch)]
        return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).contiguous()

    def _crop(self, number: int) -> np.ndarray:
        total = len(self.photos) * self.photos.repeats
        epoch, place = divmod(number, total)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, np.random.default_rng((self.seed, 0, epoch)).permutation(total)
        photo = self._readable(int(self._order[place]) % len(self.photos))
        return random_square(photo, self.size, self.scale, np.random.default_rng((self.seed, 1, number)))

    def _readable(self, index: int) -> Image.Image:
        """A large set is not decoded when it is opened: the photo after a broken one stands in for it."""
        for other in range(len(self.photos)):
            place = (index + other) % len(self.photos)
            try:
                return self.photos[place]
            except ValueError as error:
                warnings.warn(f"{self.photos.names[place]}: {error}; the next photo stands in", stacklevel=2)
        raise ValueError(f"no photo of {self.photos.source} can be read any more")


def test_crops(photos: Photos, size: int, mode: str) -> torch.Tensor:
    """The fixed crops of a test set, photo after photo; `crop_names` names the rows.

    Args:
        size: side of the crops in pixels.
        mode: "crop" is the central square at 1:1 (of a smaller photo, all of its short side, enlarged); "shrink"
            the largest central square, shrunk to `size`; "grid", for a few large photos, cuts that square into
            3 x 3 and shrinks each part, or into fewer where parts would have to be enlarged.

    Returns:
        float32 tensor (N, 3, size, size) in [0, 1]; N = len(photos), but for "grid".

    Example:
        >>> photos = open_photos(None, "test")
        >>> test_crops(photos, 64, "shrink").shape
        torch.Size([2, 3, 64, 64])
        >>> crop_names(photos, 128, "grid")[8:]
        ['astronaut.png 3,3', 'chelsea.png 1,1', 'chelsea.png 1,2', 'chelsea.png 2,1', 'chelsea.png 2,2']
    """
    if isinstance(photos, Shards):
        raise ValueError(f"{photos.source} is a stream of shards: take test crops from a folder of photos")
    crops = [square(photo, *place, size) for photo in photos for place in _places(*photo.size, size, mode).values()]
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float().div_(255)


test_crops.__test__ = False  # its name does not make it one of pytest's


def crop_names(photos: Photos, size: int, mode: str) -> list[str]:
    """The name of each row of `test_crops`: its photo's, and in a grid its row and column."""
    return [
        f"{name} {part}".strip()
        for name, photo in zip(photos.names, photos, strict=True)
        for part in _places(*photo.size, size, mode)
    ]


def _places(width: int, height: int, size: int, mode: str) -> dict[str, tuple[int, int, int]]:
    """Part -> (left, top, side) of the squares that `test_crops` cuts from one photo."""
    if mode not in ("crop", "shrink", "grid"):
        raise ValueError(f"mode must be crop, shrink or grid, got {mode!r}")
    short = min(width, height)
    parts = min(3, max(1, short // size)) if mode == "grid" else 1
    side = min(size, short) if mode == "crop" else short // parts
    left, top = (width - parts * side) // 2, (height - parts * side) // 2
    return {
        f"{row + 1},{column + 1}" if mode == "grid" else "": (left + column * side, top + row * side, side)
        for row in range(parts)
        for column in range(parts)
    }
