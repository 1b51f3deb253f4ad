"""Squares that are cut from photos: random ones to train on, the same in every run, and fixed ones to test on."""

from __future__ import annotations

import io
import warnings
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from cascade_lab.data.photos import Photos, random_square, read_photo, shuffled, square
from cascade_lab.data.shards import Readers, Shards


def training_batches(
    photos: Photos | Shards,
    size: int,
    batch: int,
    seed: int,
    start: int,
    stop: int,
    scale: tuple[float, float] = (0.0, 1.0),
    readers: Readers = Readers(),  # noqa: B008 (frozen)
) -> Iterator[torch.Tensor]:
    """Random square crops for the steps `start` to `stop` - 1.

    Each epoch visits all photos in an order of its own, and the scale, place and mirroring of crop number i come from
    a generator seeded by (seed, i). So a resumed run sees the batches it would have seen, with any number of workers,
    and `world` ranks see between them what one rank would with batches `world` times as large. Shards are a stream
    instead: see `cascade_lab.data.shards`.

    Args:
        photos: from `open_photos`.
        size: side of the crops in pixels.
        batch: crops a step, on each rank.
        seed, start, stop: of the order and the crops; the first step, and the one behind the last; 0 or more.
        scale: range from which the extent of each crop is drawn evenly: 0 is `size` pixels at 1:1, 1 is the
            photo's whole short side, resized to `size`.
        readers: the processes that share the work.

    Returns:
        An iterator over float32 tensors ``(batch, 3, size, size)`` in [0, 1], on the CPU.

    Raises:
        ValueError: before the first batch, for fewer photos than a step takes or an argument out of range.
    """
    if not 0 <= scale[0] <= scale[1] <= 1:
        raise ValueError(f"scale must be (low, high) with 0 <= low <= high <= 1, got {scale}")
    if min(size, batch) < 1 or min(seed, start) < 0:
        raise ValueError(f"{size=} and {batch=} must be at least 1; {seed=} and {start=} at least 0")
    if len(photos) * photos.repeats < batch * readers.world:
        raise ValueError(
            f"{photos.source} has {len(photos)} usable photos ({len(photos.skipped)} left out), but a step takes "
            f"{batch * readers.world}: choose a smaller batch or add photos"
        )
    workers = readers.workers
    if isinstance(photos, Shards):
        workers = min(workers, len(photos.urls) // readers.world)  # each has a shard
        if len(photos.urls) < readers.world:
            raise ValueError(f"{len(photos.urls)} shards cannot be split over {readers.world} ranks")
    steps = _Steps(photos, size, batch, seed, start, stop, scale, readers)
    loader = DataLoader(steps, None, num_workers=workers, prefetch_factor=4 if workers else None)
    return (crops.float().div_(255) for crops in loader)  # bytes travel between processes, not floats


Batches = Iterator[tuple[Iterable[Image.Image], Iterable[tuple[int, ...]]]]  # each photo, and the seed of its crop


@dataclass(eq=False)
class _Steps(IterableDataset[torch.Tensor]):
    """The crops of a worker's steps, as bytes ``(batch, 3, size, size)``."""

    photos: Photos | Shards
    size: int
    batch: int
    seed: int
    start: int
    stop: int
    scale: tuple[float, float]
    readers: Readers

    def __iter__(self) -> Iterator[torch.Tensor]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        steps = range(self.start + worker, self.stop, workers)  # the loader asks worker 0 first
        source = self.photos
        batches = self._from_shards(source, steps) if isinstance(source, Shards) else self._from_photos(source, steps)
        for photos, seeds in batches:
            pairs = zip(photos, map(np.random.default_rng, seeds), strict=True)
            crops = np.stack([random_square(photo, self.size, self.scale, rng) for photo, rng in pairs])
            yield torch.from_numpy(crops).permute(0, 3, 1, 2).contiguous()

    def _from_photos(self, photos: Photos, steps: range) -> Batches:
        for step in steps:
            places = range(step * self.batch, (step + 1) * self.batch)
            numbers = [place * self.readers.world + self.readers.rank for place in places]
            yield (self._photo(photos, number) for number in numbers), [(self.seed, 1, number) for number in numbers]

    def _photo(self, photos: Photos, number: int) -> Image.Image:
        """The photo of a crop. A large set is not decoded when it is opened: the one after a broken one stands in."""
        count = len(photos)
        epoch, place = divmod(number, count * photos.repeats)
        first = int(shuffled(self.seed, epoch, count * photos.repeats)[place])
        for index in range(first, first + count):
            try:
                return photos[index % count]
            except ValueError as error:
                warnings.warn(f"{photos.names[index % count]}: {error}; the next photo stands in", stacklevel=2)
        raise ValueError(f"no photo of {photos.source} can be read any more")

    def _from_shards(self, shards: Shards, steps: range) -> Batches:
        before, slot = divmod(steps.start, steps.step)
        samples = shards.samples(self.seed, self.readers, slot, steps.step, before * self.batch)
        for _ in steps:
            photos, seeds = [], []
            for epoch, key, encoded in islice(samples, self.batch):
                seeds.append((self.seed, 2, epoch, zlib.crc32(key.encode())))
                try:
                    photos.append(read_photo(io.BytesIO(encoded)))
                except ValueError as error:
                    warnings.warn(f"{key} in {shards.source}: {error}; another photo stands in", stacklevel=2)
            if not photos:
                raise ValueError(f"no photo of a whole batch of {shards.source} can be read")
            yield islice(cycle(photos), self.batch), seeds


def test_crops(photos: Sequence[Image.Image], size: int, mode: str) -> torch.Tensor:
    """The fixed crops of a test set, photo after photo; `crop_names` names the rows.

    Args:
        photos: from `open_photos`, some of them, or any list of PIL images in RGB.
        size: side of the crops in pixels.
        mode: "crop" is the central square at 1:1 (of a smaller photo, all of its short side, enlarged); "resize"
            the largest central square, resized to `size`; "grid", for a few large photos, cuts that square into
            3 x 3 and resizes each part, or into fewer where parts would have to be enlarged.

    Returns:
        float32 tensor ``(N, 3, size, size)`` in [0, 1]; N = len(photos), but for "grid".

    Raises:
        ValueError: the mode is unknown, or the photos are shards.

    Example:
        >>> from cascade_lab.data import open_photos
        >>> photos = open_photos(None, "test")
        >>> test_crops(photos, 64, "resize").shape
        torch.Size([5, 3, 64, 64])
        >>> crop_names(photos, 128, "grid")[8:13]
        ['astronaut.png 3,3', 'chelsea.png 1,1', 'chelsea.png 1,2', 'chelsea.png 2,1', 'chelsea.png 2,2']
    """
    if isinstance(photos, Shards):
        raise ValueError(f"{photos.source} is a stream of shards: take test crops from a folder of photos")
    crops = [square(photo, *place, size) for photo in photos for place in _places(*photo.size, size, mode).values()]
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float().div_(255)


def crop_names(photos: Photos, size: int, mode: str) -> list[str]:
    """The name of each row of `test_crops`: its photo's, and in a grid its row and column."""
    return [f"{name} {part}".strip() for name, photo in photos.items() for part in _places(*photo.size, size, mode)]


def _places(width: int, height: int, size: int, mode: str) -> dict[str, tuple[int, int, int]]:
    """Part -> (left, top, side) of the squares that `test_crops` cuts from one photo."""
    if mode not in ("crop", "resize", "grid"):
        raise ValueError(f"mode must be crop, resize or grid, got {mode!r}")
    short = min(width, height)
    parts = min(3, max(1, short // size)) if mode == "grid" else 1
    side = min(size, short) if mode == "crop" else short // parts
    left, top = (width - parts * side) // 2, (height - parts * side) // 2
    return {
        f"{row + 1},{column + 1}" if mode == "grid" else "": (left + column * side, top + row * side, side)
        for row in range(parts)
        for column in range(parts)
    }
