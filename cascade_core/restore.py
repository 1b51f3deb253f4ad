"""Restore one's own photo, of any size: fill what a mask marks as missing, and remove blur and noise if asked.

    python -m cascade_core.restore photo.jpg --mask mask.png --weights weights.safetensors --out restored.png

The generator was trained on one hole, a square in the center of a small photo. So a mask is filled through windows of
that size, each centered on a part of the mask; where the mask is too wide for the square, through a smaller copy of the
photo. Windows overlap and fade into each other, so there is no seam. The deblurring-denoising network sees 8 px around
a pixel and no farther, so tiles that overlap by that much give exactly what the whole photo would.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor, nn

from . import checkpoints, stages
from .baselines import laplace
from .data import read_photo
from .degradations import center_hole, punch
from .models import Cascade
from .progress import Progress

REACH = 8  # px around a pixel that the deblurring-denoising network sees: one for each of its 3x3 convolutions
TILE = 512  # px, side of what is deblurred at a time
COARSE = 512  # px, side of the copy on which the shape of the mask is looked at


class Restored(NamedTuple):
    """The photo as the generator fills it, and the final one; arrays ``(H, W, 3)`` of bytes."""

    inpainted: np.ndarray
    restored: np.ndarray


class Window(NamedTuple):
    """A square part of the photo in pixels, which may reach beyond its border, and the square hole in its center."""

    top: int
    left: int
    side: int
    hole: int


@torch.no_grad()
def restore(
    photo: np.ndarray,
    mask: np.ndarray | None,
    networks: Mapping[str, nn.Module],
    settings: Mapping[str, Any],
    deblur: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Restored:
    """Restore a photo.

    Args:
        photo: ``(H, W, 3)`` bytes. What it holds under the mask is not read.
        mask: ``(H, W)`` bool, true where pixels are missing; ``None``: nothing is.
        networks: of `stages.load`, in eval mode: a generator, a refiner, or both.
        settings: of the weights' header: ``size``, ``hole`` and ``fill`` that the generator was trained on.
        deblur: remove blur and noise from the whole photo; otherwise the known pixels come back as they were.
        progress: called with the windows and tiles that are done, and their number.

    Raises:
        ValueError: the mask does not fit or hides everything, or a network that is needed is not among them.
    """
    if photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8:
        raise ValueError(f"the photo must be (H, W, 3) bytes, got {photo.shape} of {photo.dtype}")
    holes = np.zeros(photo.shape[:2], bool) if mask is None else mask.astype(bool)
    if holes.shape != photo.shape[:2]:
        sizes = " x ".join(map(str, holes.shape[::-1])), " x ".join(map(str, photo.shape[1::-1]))
        raise ValueError(f"the mask has {sizes[0]} px, the photo {sizes[1]}: they must agree")
    if holes.all():
        raise ValueError("the mask hides the whole photo: at least one pixel must be known")
    for name, wanted in (("generator", holes.any()), ("refiner", deblur)):
        if wanted and name not in networks:
            raise ValueError(f"these weights hold {', '.join(networks)}, but no {name}: use those of stage 4")
    windows = list(cover(holes, settings["size"], settings["hole"]))
    tiles = list(tiling(*holes.shape)) if deblur else []
    total = len(windows) + len(tiles)

    inpainted = smooth_fill(photo, holes) if windows else photo.copy()
    restored = inpainted.copy()
    painted = np.zeros_like(holes)
    for done, window in enumerate(windows, 1):
        part = cut(inpainted, window, settings["size"])
        hole = center_hole(1, settings["size"], settings["size"], settings["hole"])
        result = run(networks, punch(part, hole, settings["fill"]))
        for image, target in zip(result, (inpainted, restored), strict=True):
            fade_in(target, to_bytes(image, window.side), window, holes, painted)
        mark(painted, window)
        progress(done, total)
    if deblur:
        source = restored.copy()
        for done, (top, left, bottom, right) in enumerate(tiles, len(windows) + 1):
            y, x = max(0, top - REACH), max(0, left - REACH)
            part = to_tensor(source[y : bottom + REACH, x : right + REACH])
            clean = networks["refiner"](part.to(device_of(networks["refiner"])))
            clean = to_bytes(clean)[top - y : bottom - y, left - x : right - x]
            known = ~holes[top:bottom, left:right]  # the holes went through it already, window by window
            restored[top:bottom, left:right][known] = clean[known]
            progress(done, total)
    return Restored(inpainted, restored)


def cover(holes: np.ndarray, size: int, hole: int) -> Iterator[Window]:
    """Windows whose square holes cover the mask, half overlapping; one alone where a part of the mask fits into it."""
    if not holes.any():
        return
    factor = max(1, -(-max(holes.shape) // COARSE))
    coarse = shrink(holes, factor) > 0
    parts, count = ndimage.label(coarse, np.ones((3, 3)))
    depth = ndimage.distance_transform_edt(np.pad(coarse, 1))[1:-1, 1:-1]
    for number, (rows, columns) in enumerate(ndimage.find_objects(parts, count), 1):
        top, bottom, left, right = (factor * v for v in (rows.start, rows.stop, columns.start, columns.stop))
        width = 2 * factor * depth[rows, columns][parts[rows, columns] == number].max()
        longest = max(bottom - top, right - left)
        compact = longest <= max(hole, 2 * width)  # one square, rather than many along something long and thin
        square = max(hole, longest if compact else round(1.25 * width))
        side = round(size * square / hole)
        for y in centers(top, bottom, square):
            for x in centers(left, right, square):
                window = Window(y - side // 2, x - side // 2, side, square)
                if inside(holes, window).any():
                    yield window


def centers(low: int, high: int, square: int) -> list[int]:
    """Where to put squares so that they cover low ... high - 1, each over half of the one before.

    >>> centers(0, 50, 56), centers(0, 112, 56)
    ([25], [28, 56, 84])
    """
    if high - low <= square:
        return [(low + high) // 2]
    count = -(-(high - low - square) // (square // 2)) + 1
    first, last = low + square // 2, high - square + square // 2
    return [round(first + (last - first) * i / (count - 1)) for i in range(count)]


def hole_of(window: Window, height: int, width: int) -> tuple[slice, slice, slice, slice]:
    """The window's hole, clipped to the photo: rows and columns in the photo, and in the window."""
    offset = (window.side - window.hole) // 2
    slices = []
    for start, length in ((window.top, height), (window.left, width)):
        low, high = max(0, start + offset), min(length, start + offset + window.hole)
        slices += [slice(low, high), slice(low - start, high - start)]
    return slices[0], slices[2], slices[1], slices[3]


def inside(array: np.ndarray, window: Window) -> np.ndarray:
    """What of an array ``(H, W, ...)`` lies in a window's hole."""
    rows, columns, _, _ = hole_of(window, *array.shape[:2])
    return array[rows, columns]


def cut(photo: np.ndarray, window: Window, size: int) -> Tensor:
    """A window as ``(1, 3, size, size)`` in [0, 1]; beyond the photo's border its last pixels go on."""
    rows, columns = (
        np.arange(start, start + window.side).clip(0, length - 1)
        for start, length in zip(window[:2], photo.shape[:2], strict=True)
    )
    part = Image.fromarray(photo[np.ix_(rows, columns)])
    return to_tensor(np.asarray(part.resize((size, size), Image.Resampling.BICUBIC)))


def run(networks: Mapping[str, nn.Module], images: Tensor) -> tuple[Tensor, Tensor]:
    """The generator's image and the final one, which are the same where there is no second network."""
    network = Cascade(networks["generator"], networks.get("refiner")).eval()
    return network(images.to(device_of(network)))


def fade_in(target: np.ndarray, image: np.ndarray, window: Window, holes: np.ndarray, painted: np.ndarray) -> None:
    """Paint a window's hole into the photo where the mask is; over what is painted already, strongest in its middle."""
    rows, columns, down, across = hole_of(window, *holes.shape)
    place = (np.arange(window.side) - (window.side - 1) / 2) / (window.hole / 2)
    tent = (1 - np.abs(place)).clip(0, 1)
    share = np.minimum(tent[down, None], tent[None, across])
    share = np.where(painted[rows, columns], share, 1.0) * holes[rows, columns]
    mixed = target[rows, columns] + share[..., None] * (image[down, across].astype(float) - target[rows, columns])
    target[rows, columns] = np.rint(mixed).astype(np.uint8)


def mark(painted: np.ndarray, window: Window) -> None:
    inside(painted, window)[:] = True


def smooth_fill(photo: np.ndarray, holes: np.ndarray) -> np.ndarray:
    """The photo with a smooth surface over its holes, for the windows that see more of the mask than they fill.

    It is the Laplace fill of a small copy, so it costs no more for a large photo.
    """
    factor = max(1, -(-max(holes.shape) // 256))
    share = shrink(~holes, factor)
    colors = np.stack([shrink(np.where(holes, 0, photo[..., c]), factor) for c in range(3)], -1)
    known = share > 0
    colors = np.where(known[..., None], colors / np.where(known, share, 1)[..., None], 0)
    small = laplace(to_tensor(colors), torch.from_numpy(~known)[None, None].float())
    height, width = holes.shape
    large = Image.fromarray(to_bytes(small)).resize((small.shape[3] * factor, small.shape[2] * factor), Image.BILINEAR)
    return np.where(holes[..., None], np.asarray(large)[:height, :width], photo)


def shrink(array: np.ndarray, factor: int) -> np.ndarray:
    """Means over blocks of ``factor`` x ``factor``; the blocks at the lower and right border may be smaller."""
    sums = np.add.reduceat(array, np.arange(0, array.shape[0], factor), 0, dtype=np.float32)
    sums = np.add.reduceat(sums, np.arange(0, array.shape[1], factor), 1)
    heights, widths = (np.diff([*range(0, n, factor), n]) for n in array.shape)
    return sums / np.outer(heights, widths)


def tiling(height: int, width: int) -> Iterator[tuple[int, int, int, int]]:
    """Top, left, bottom, right of the tiles of a photo."""
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            yield top, left, min(height, top + TILE), min(width, left + TILE)


def to_tensor(pixels: np.ndarray) -> Tensor:
    """``(H, W, 3)`` from 0 to 255 to ``(1, 3, H, W)`` in [0, 1]."""
    return torch.tensor(pixels).permute(2, 0, 1)[None].float() / 255


def to_bytes(images: Tensor, side: int | None = None) -> np.ndarray:
    """``(1, 3, H, W)`` in [0, 1] to ``(H, W, 3)`` bytes, enlarged to a side if asked."""
    pixels = images[0].clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
    if side is None or side == pixels.shape[0]:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC))


def device_of(network: nn.Module) -> torch.device:
    return next(network.parameters()).device


def read_mask(path: str | Path) -> np.ndarray:
    """A mask from a picture: true where it is light.

    Raises:
        ValueError: it is no picture, or marks nothing.
    """
    mask = np.asarray(read_photo(path).convert("L")) > 127
    if not mask.any():
        raise ValueError(f"{path} marks nothing: what is missing must be white, the rest black")
    return mask


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m cascade_core.restore", description="Restore a photo.")
    parser.add_argument("photo", type=Path)
    parser.add_argument("--mask", type=Path, help="a picture of the photo's size, white where pixels are missing")
    parser.add_argument("--weights", type=Path, required=True, help="trained weights, best those of stage 4")
    parser.add_argument("--out", type=Path, required=True, help="where the restored photo goes (.png, .jpg, ...)")
    parser.add_argument("--inpainted", type=Path, help="where the image between the two networks goes, if wanted")
    parser.add_argument("--deblur", action="store_true", help="remove blur and noise from the whole photo")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--force", action="store_true", help="overwrite files that are there")
    args = parser.parse_args(arguments)
    outputs = [path for path in (args.out, args.inpainted) if path]
    try:
        if not (args.mask or args.deblur):
            raise ValueError("nothing to do: give a --mask of what is missing, --deblur, or both")
        for path in outputs:
            check_output(path, args.force)
        photo = np.asarray(read_photo(args.photo))
        mask = read_mask(args.mask) if args.mask else None
        _, about = checkpoints.read_weights(args.weights)
        networks = {name: network.to(args.device) for name, network in stages.load(args.weights).items()}
        bar: list[Progress] = []

        def show(done: int, total: int) -> None:
            bar[:] = bar or [Progress("restore", total)]
            bar[0].update(done, {})

        result = restore(photo, mask, networks, about["settings"], args.deblur, show)
        for path, pixels in ((args.out, result.restored), (args.inpainted, result.inpainted)):
            if path:
                write_photo(path, pixels)
                print(path)
    except (ValueError, RuntimeError) as error:
        parser.exit(1, f"error: {error}\n")


def check_output(path: Path, force: bool) -> None:
    """Raise ``ValueError`` where a photo cannot be written, before any work is done."""
    if path.suffix.lower() not in Image.registered_extensions():
        raise ValueError(f"{path}: unknown kind of picture {path.suffix!r}; name it .png or .jpg")
    if not path.parent.is_dir():
        raise ValueError(f"{path}: there is no folder {path.parent}")
    if path.exists() and not force:
        raise ValueError(f"{path} is there already; --force overwrites it")


def write_photo(path: Path, pixels: np.ndarray) -> None:
    kind = Image.registered_extensions()[path.suffix.lower()]
    options = {"quality": 95} if kind == "JPEG" else {}
    checkpoints.write_atomically(path, lambda file: Image.fromarray(pixels).save(file, kind, **options))


if __name__ == "__main__":
    main()
