"""Where the generator looks: windows over a mask, what it is shown of each, and how its answers are painted.

Windows overlap and fade into each other, so there is no seam. What needs floats goes through a photo in strips.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from cascade_core.conventions import from_pixels, to_pixels
from cascade_core.fills import laplace

COARSE = 1024  # px, side of the copy on which the shape of the mask is looked at
STRIP = 64  # rows that are in memory as floats


class Window(NamedTuple):
    """A square part of the photo in pixels, which may reach beyond its border, and the square hole in its center."""

    top: int
    left: int
    side: int
    hole: int

    @property
    def corner(self) -> tuple[int, int]:
        """Top and left of the hole."""
        margin = (self.side - self.hole) // 2
        return self.top + margin, self.left + margin


class Part(NamedTuple):
    """The rectangle around a connected part of a mask, and how wide the part is at its widest."""

    top: int
    bottom: int
    left: int
    right: int
    width: float

    @property
    def longest(self) -> int:
        return max(self.bottom - self.top, self.right - self.left)


def cover(holes: np.ndarray, size: int, hole: int) -> Iterator[Window]:
    """Windows whose square holes cover the mask.

    Parts of the mask that fit into one square together share a window. A part that is too wide for the square gets a
    larger window, one that is long and thin a row of them, each half over the one before.

    Args:
        holes: ``(H, W)`` bool, true where pixels are missing.
        size: side of the generator's images.
        hole: side of the hole in them.
    """
    for part in shared(list(parts(holes)), hole):
        compact = part.longest <= max(hole, 2 * part.width)  # one square, rather than many along something thin
        square = max(hole, part.longest if compact else round(1.25 * part.width))
        side = round(size * square / hole)
        margin = (side - square) // 2
        for y in centers(part.top, part.bottom, square):
            for x in centers(part.left, part.right, square):
                window = Window(y - square // 2 - margin, x - square // 2 - margin, side, square)
                if holes[hole_of(window, *holes.shape)].any():
                    yield window


def parts(holes: np.ndarray) -> Iterator[Part]:
    """The connected parts of a mask, from above. A large mask is looked at on a copy of at most ``COARSE`` px."""
    if not holes.any():
        return
    factor = max(1, -(-max(holes.shape) // COARSE))
    coarse = shrink(holes, factor) > 0
    labels, count = ndimage.label(coarse, np.ones((3, 3)))
    depth = ndimage.distance_transform_edt(np.pad(coarse, 1))[1:-1, 1:-1]
    widths = factor * (2 * ndimage.maximum(depth, labels, range(1, count + 1)) - 1)
    for place, width in zip(ndimage.find_objects(labels), widths, strict=True):
        rows, columns = (slice(factor * line.start, factor * line.stop) for line in place)
        used = holes[rows, columns]  # to the pixel: the blocks of the copy are coarse
        tops, lefts = (np.flatnonzero(used.any(axis)) for axis in (1, 0))
        top, bottom = rows.start + int(tops[0]), rows.start + int(tops[-1]) + 1
        left, right = columns.start + int(lefts[0]), columns.start + int(lefts[-1]) + 1
        yield Part(top, bottom, left, right, width)


def shared(found: list[Part], hole: int) -> list[Part]:
    """The parts of a mask, those that fit into one square of side ``hole`` together as one; in the order of the first.

    Example:
        >>> shared([Part(0, 9, 0, 9, 9), Part(2, 90, 60, 90, 30), Part(5, 12, 20, 30, 7)], hole=32)[0]
        Part(top=0, bottom=12, left=0, right=30, width=9)
    """
    small = [i for i, part in enumerate(found) if part.longest <= hole]
    together = {i: part for i, part in enumerate(found) if part.longest > hole}
    top, bottom, left, right = np.array([found[i] for i in small], int).reshape(-1, 5).T[:4]
    rest = np.argsort(top, kind="stable")
    while rest.size:  # a band of rows as high as the square, from the topmost part that is left
        inside = bottom[rest] <= top[rest[0]] + hole
        band, rest = rest[inside], rest[~inside]
        band = band[np.argsort(left[band], kind="stable")]
        while band.size:
            inside = right[band] <= left[band[0]] + hole
            one, band = band[inside], band[~inside]
            first = small[one.min()]
            corner, end = (top[one].min(), left[one].min()), (bottom[one].max(), right[one].max())
            together[first] = Part(int(corner[0]), int(end[0]), int(corner[1]), int(end[1]), found[first].width)
    return [together[i] for i in sorted(together)]


def centers(low: int, high: int, square: int) -> list[int]:
    """Where to put squares so that they cover low ... high - 1, each over half of the one before.

    Example:
        >>> centers(0, 50, 56), centers(0, 112, 56)
        ([25], [28, 56, 84])
    """
    if high - low <= square:
        return [(low + high) // 2]
    count = -(-(high - low - square) // (square // 2)) + 1
    first, last = low + square // 2, high - square + square // 2
    return [round(first + (last - first) * i / (count - 1)) for i in range(count)]


def hole_of(window: Window, height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns of a window's hole in a photo, clipped to it."""
    top, left = window.corner
    return slice(max(0, top), min(height, top + window.hole)), slice(max(0, left), min(width, left + window.hole))


def with_earlier(windows: Sequence[Window]) -> Iterator[tuple[Window, list[Window]]]:
    """Each window, and those before it whose holes overlap its own."""
    places = np.array([(*window.corner, window.hole) for window in windows])
    for number, window in enumerate(windows):
        before, own = places[:number], places[number]
        apart = np.abs(2 * (before[:, :2] - own[:2]) + before[:, 2:] - own[2])  # twice the distance of the centers
        near = (apart < before[:, 2:] + own[2]).all(1)
        yield window, [windows[int(i)] for i in np.flatnonzero(near)]


def cut(photo: np.ndarray, window: Window, size: int) -> Tensor:
    """A window as ``(1, 3, size, size)`` in [0, 1]; beyond the photo's border its last pixels go on."""
    return from_pixels(small_copy(photo, window, size))


def missing(holes: np.ndarray, window: Window, size: int) -> Tensor:
    """A window's mask ``(1, 1, size, size)``, 1 where any pixel of the photo is missing."""
    return torch.from_numpy(small_copy(holes, window, size) > 0)[None, None].float()


def small_copy(array: np.ndarray, window: Window, size: int) -> np.ndarray:
    """A window of a photo, or of a mask as 0 and 255, as bytes ``(size, size, ...)``."""
    rows, columns = (
        np.arange(start, start + window.side).clip(0, length - 1)
        for start, length in zip(window[:2], array.shape[:2], strict=True)
    )
    step = max(1, window.side // (2 * size))  # a box filter for the first whole-number step, as in training crops
    height = step * max(1, STRIP // step)
    strips = (array[np.ix_(rows[i : i + height], columns)] for i in range(0, window.side, height))
    pictures = (Image.fromarray(strip * np.uint8(255) if strip.dtype == bool else strip) for strip in strips)
    reduced = [np.asarray(picture.reduce(step)) for picture in pictures]
    box = (0, 0, window.side / step, window.side / step)
    return np.asarray(Image.fromarray(np.concatenate(reduced)).resize((size, size), Image.Resampling.BICUBIC, box))


def paint(image: Tensor, photo: np.ndarray, window: Window, before: Sequence[Window], holes: np.ndarray) -> None:
    """Paint a window's hole into the photo where the mask is: over earlier windows, as the mean by their weights."""
    rows, columns = hole_of(window, *holes.shape)
    small = Image.fromarray(to_pixels(image)[0])
    scale = small.width / window.side
    for part in strips(rows.start, rows.stop):
        box = (columns.start, part.start, columns.stop, part.stop)
        box = tuple(scale * (v - start) for v, start in zip(box, 2 * (window.left, window.top), strict=True))
        size = columns.stop - columns.start, part.stop - part.start
        pixels = np.asarray(small.resize(size, Image.Resampling.BICUBIC, box))
        own, others = weight(window, part, columns), sum(weight(w, part, columns) for w in before)
        share = (own / (own + others))[..., None]
        mixed = photo[part, columns] + share * (pixels.astype(float) - photo[part, columns])
        np.copyto(photo[part, columns], np.rint(mixed).astype(np.uint8), where=holes[part, columns][..., None])


def weight(window: Window, rows: slice, columns: slice) -> np.ndarray:
    """A window's weight at some of the photo's pixels: 1 in the middle of its hole, falling evenly to 0 at its rim."""
    tents = (
        1 - np.abs(np.arange(part.start, part.stop) - start - (window.hole - 1) / 2) / (window.hole / 2)
        for start, part in zip(window.corner, (rows, columns), strict=True)
    )
    return np.outer(*(tent.clip(0) for tent in tents))


def smooth_fill(photo: np.ndarray, holes: np.ndarray) -> None:
    """Lay a smooth surface over the photo's holes, for the windows that see more of the mask than they fill.

    It is the Laplace fill of a small copy, so it costs no more for a large photo.
    """
    factor = max(1, -(-max(holes.shape) // 256))
    np.copyto(photo, 0, where=holes[..., None])
    known = 1 - shrink(holes, factor)[..., None]
    colors = shrink(photo, factor) / np.where(known > 0, known, 1)
    small = laplace(from_pixels(colors), torch.from_numpy(known == 0).permute(2, 0, 1)[None].float())
    image, width = Image.fromarray(to_pixels(small)[0]), holes.shape[1]
    for rows in strips(0, len(holes)):
        box = 0, rows.start / factor, width / factor, rows.stop / factor
        part = image.resize((width, rows.stop - rows.start), Image.Resampling.BILINEAR, box)
        np.copyto(photo[rows], np.asarray(part), where=holes[rows][..., None])


def shrink(array: np.ndarray, factor: int) -> np.ndarray:
    """Means over blocks of ``factor`` x ``factor``; the blocks at the lower and right border may be smaller."""
    height, width = array.shape[:2]
    lefts = np.arange(0, width, factor)
    blocks = [
        np.add.reduceat(array[top : top + factor].mean(0, dtype=np.float32), lefts) for top in range(0, height, factor)
    ]
    widths = np.diff([*lefts, width]).reshape(-1, *[1] * (array.ndim - 2))
    return np.stack(blocks) / widths


def strips(low: int, high: int) -> Iterator[slice]:
    """Low ... high - 1 in slices of at most ``STRIP``."""
    for start in range(low, high, STRIP):
        yield slice(start, min(high, start + STRIP))
