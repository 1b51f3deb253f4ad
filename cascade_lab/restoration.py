"""Restore one's own photo, of any size: fill what a mask marks as missing, and remove blur and noise if asked.

From the shell::

    python -m cascade_lab.restoration photo.jpg --mask mask.png --out restored.png

The generator was trained on one hole, a square in the center of a small photo. So a mask is filled through windows of
that size, each centered on a part of the mask; where the mask is too wide for the square, through a smaller copy of the
photo. Windows overlap and fade into each other, so there is no seam. A generator that is given the mask sees all that
is known in its window; from any other the whole square is hidden. The deblurring-denoising network sees 8 px around a
pixel and no farther, so tiles that overlap by that much give exactly what the whole photo would.
"""

import argparse
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cascade_core.conventions import from_pixels, to_pixels
from cascade_core.degradations import apply_mask, center_hole
from cascade_core.fills import generator_input
from cascade_core.models import Cascade, DeblurDenoiseNet, Restoration
from cascade_lab import devices, published
from cascade_lab.baselines import laplace
from cascade_lab.data import read_photo
from cascade_lab.data.photos import FORMATS
from cascade_lab.progress import Progress
from cascade_lab.training import checkpoints, stages

REACH = 8  # px around a pixel that the deblurring-denoising network sees: one for each of its 3x3 convolutions
TILE = 256  # px, side of what is deblurred at a time
COARSE = 1024  # px, side of the copy on which the shape of the mask is looked at
STRIP = 64  # rows that are in memory as floats


class Window(NamedTuple):
    """A square part of the photo in pixels, which may reach beyond its border, and the square hole in its center."""

    top: int
    left: int
    side: int
    hole: int


def restore(
    photo: np.ndarray,
    mask: np.ndarray | None,
    networks: Mapping[str, nn.Module],
    settings: Mapping[str, Any],
    deblur: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Restoration[np.ndarray]:
    """Restore a photo.

    Args:
        photo: ``(H, W, 3)`` bytes. What it holds under the mask is not read.
        mask: ``(H, W)`` bool, true where pixels are missing; ``None``: nothing is.
        networks: of `stages.load`, in eval mode: a generator, a refiner, or both.
        settings: of the weights' header: ``size``, ``hole`` and ``hole_color`` that the generator was trained on.
        deblur: remove blur and noise from the whole photo; otherwise the known pixels come back as they were.
        progress: called with the windows and tiles that are done, and their number.

    Raises:
        ValueError: the mask does not fit or hides everything, or a network that is needed is not among them.
    """
    result = Restoration(photo.copy(), photo.copy())
    restore_in_place(result.restored, mask, networks, settings, deblur, progress, result.inpainted)
    return result


def restore_in_place(
    photo: np.ndarray,
    mask: np.ndarray | None,
    networks: Mapping[str, nn.Module],
    settings: Mapping[str, Any],
    deblur: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
    inpainted: np.ndarray | None = None,
) -> None:
    """`restore` in the memory of the photo itself; a copy of it, if given, becomes the generator's image."""
    if photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8:
        raise ValueError(f"the photo must be (H, W, 3) bytes, got {photo.shape} of {photo.dtype}")
    nothing = np.broadcast_to(np.False_, photo.shape[:2])  # no memory of its own
    holes = nothing if mask is None else mask.astype(bool, copy=False)
    if holes.shape != photo.shape[:2]:
        sizes = " x ".join(map(str, holes.shape[::-1])), " x ".join(map(str, photo.shape[1::-1]))
        raise ValueError(f"the mask has {sizes[0]} px, the photo {sizes[1]}: they must agree")
    if holes.all():
        raise ValueError("the mask hides the whole photo: at least one pixel must be known")
    for name, wanted in (("generator", holes.any()), ("deblur_denoise", deblur)):
        if wanted and name not in networks:
            raise ValueError(f"these weights hold {', '.join(networks)}, but no {name}: use those of stage 4")
    size, hole, color = settings["size"], settings["hole"], settings["hole_color"]
    windows = list(cover(holes, size, hole))
    total = len(windows) + (count_tiles(*holes.shape) if deblur else 0)

    if windows:
        smooth_fill(photo, holes)
    for done, (window, before) in enumerate(with_earlier(windows), 1):
        fill = networks["generator"].fill
        told = fill == "laplace and mask"  # then nothing is hidden that is known, wherever it lies
        masks = missing(holes, window, size) if told else center_hole(1, size, size, hole)
        images = run(networks, generator_input(apply_mask(cut(photo, window, size), masks, color), masks, fill))
        for image, target in zip(images, (inpainted, photo), strict=True):
            if target is not None:
                paint(image, target, window, before, holes)
        progress(done, total)
    deblurred = tiles(photo, networks["deblur_denoise"]) if deblur else ()
    for done, (rows, columns, clean) in enumerate(deblurred, len(windows) + 1):
        known = ~holes[rows, columns]  # the holes went through it already, window by window
        np.copyto(photo[rows, columns], clean, where=known[..., None])
        progress(done, total)


def cover(holes: np.ndarray, size: int, hole: int) -> Iterator[Window]:
    """Windows whose square holes cover the mask, half overlapping; one alone where a part of the mask fits into it."""
    if not holes.any():
        return
    factor = max(1, -(-max(holes.shape) // COARSE))
    coarse = shrink(holes, factor) > 0
    parts, count = ndimage.label(coarse, np.ones((3, 3)))
    depth = ndimage.distance_transform_edt(np.pad(coarse, 1))[1:-1, 1:-1]
    for number, (rows, columns) in enumerate(ndimage.find_objects(parts, count), 1):
        width = factor * (2 * depth[rows, columns][parts[rows, columns] == number].max() - 1)
        box = [slice(factor * part.start, factor * part.stop) for part in (rows, columns)]
        top, bottom = extent(holes[*box].any(1), box[0].start)  # to the pixel: the blocks of the copy are coarse
        left, right = extent(holes[*box].any(0), box[1].start)
        longest = max(bottom - top, right - left)
        compact = longest <= max(hole, 2 * width)  # one square, rather than many along something long and thin
        square = max(hole, longest if compact else round(1.25 * width))
        side = round(size * square / hole)
        margin = (side - square) // 2
        for y in centers(top, bottom, square):
            for x in centers(left, right, square):
                window = Window(y - square // 2 - margin, x - square // 2 - margin, side, square)
                if holes[hole_of(window, *holes.shape)].any():
                    yield window


def extent(used: np.ndarray, start: int) -> tuple[int, int]:
    """Where the true values of a line that begins at ``start`` begin and end."""
    places = np.flatnonzero(used)
    return start + int(places[0]), start + int(places[-1]) + 1


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


def hole_of(window: Window, height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns of a window's hole in a photo, clipped to it."""
    margin = (window.side - window.hole) // 2
    top, left = window.top + margin, window.left + margin
    return slice(max(0, top), min(height, top + window.hole)), slice(max(0, left), min(width, left + window.hole))


def with_earlier(windows: Sequence[Window]) -> Iterator[tuple[Window, list[Window]]]:
    """Each window, and those before it whose holes overlap its own."""
    places = np.array([(w.top + (w.side - w.hole) // 2, w.left + (w.side - w.hole) // 2, w.hole) for w in windows])
    for number, window in enumerate(windows):
        before, own = places[:number], places[number]
        apart = np.abs(2 * (before[:, :2] - own[:2]) + before[:, 2:] - own[2])  # twice the distance of the centers
        near = (apart < before[:, 2:] + own[2]).all(1)
        yield window, [windows[i] for i in np.flatnonzero(near)]


def weight(window: Window, rows: slice, columns: slice) -> np.ndarray:
    """A window's weight at some of the photo's pixels: 1 in the middle of its hole, falling evenly to 0 at its rim."""
    margin = (window.side - window.hole) // 2
    tents = (
        1 - np.abs(np.arange(part.start, part.stop) - start - margin - (window.hole - 1) / 2) / (window.hole / 2)
        for start, part in ((window.top, rows), (window.left, columns))
    )
    return np.outer(*(tent.clip(0) for tent in tents))


def strips(low: int, high: int) -> Iterator[slice]:
    """Low ... high - 1 in slices of at most ``STRIP``: what needs floats goes through a photo strip by strip."""
    for start in range(low, high, STRIP):
        yield slice(start, min(high, start + STRIP))


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
    parts = (array[np.ix_(rows[i : i + height], columns)] for i in range(0, window.side, height))
    pictures = (Image.fromarray(part * np.uint8(255) if part.dtype == bool else part) for part in parts)
    reduced = [np.asarray(picture.reduce(step)) for picture in pictures]
    box = (0, 0, window.side / step, window.side / step)
    return np.asarray(Image.fromarray(np.concatenate(reduced)).resize((size, size), Image.Resampling.BICUBIC, box))


@torch.no_grad()
def run(networks: Mapping[str, nn.Module], images: Tensor) -> tuple[Tensor, Tensor]:
    """The generator's image and the final one, which are the same where there is no second network."""
    network = Cascade(networks["generator"], networks.get("deblur_denoise")).eval()
    return network(images.to(device_of(network)))


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


def count_tiles(height: int, width: int) -> int:
    """
    >>> count_tiles(256, 257)
    2
    """
    return -(-height // TILE) * -(-width // TILE)


def quick(network: DeblurDenoiseNet) -> Callable[[Tensor], Tensor]:
    """The network in eval mode, made ready to go over a photo in less time.

    Batch norm becomes a part of the convolution before it, and the channels of a pixel lie side by side. Where the
    hardware computes in bfloat16, so is what the network takes off the photo; it is taken off in 32 bits. That moves
    the result by a quarter of a gray level (root mean square) at most, as measured at the strongest blur and noise.
    """
    low = devices.best_precision("auto", device_of(network)) == "bf16-mixed"
    ready = copy.deepcopy(network).eval()
    for layer in (*ready.encoder[1:], *ready.decoder):
        layer[0], layer[1] = fuse_conv_bn_eval(layer[0], layer[1]), nn.Identity()
    ready.to(dtype=torch.bfloat16 if low else torch.float32, memory_format=torch.channels_last)

    def clean(images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=low):
            return ready(images.contiguous(memory_format=torch.channels_last))

    return clean


@torch.no_grad()
def tiles(photo: np.ndarray, network: DeblurDenoiseNet) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Rows, columns and bytes of each tile, deblurred; the caller may write them into the photo at once."""
    height, width = photo.shape[:2]
    clean, device = quick(network), device_of(network)
    above = photo[:0]
    for top in range(0, height, TILE):
        bottom, y = min(height, top + TILE), top - len(above)
        strip = np.concatenate([above, photo[top : bottom + REACH]])  # a copy: the tiles are written over
        above = photo[bottom - REACH : bottom].copy()
        for left in range(0, width, TILE):
            right, x = min(width, left + TILE), max(0, left - REACH)
            part = from_pixels(strip[:, x : right + REACH]).to(device)
            pixels = to_pixels(clean(part))[0][top - y : bottom - y, left - x : right - x]
            yield slice(top, bottom), slice(left, right), pixels


def device_of(network: nn.Module) -> torch.device:
    return next(network.parameters()).device


def read_pixels(path: Path) -> tuple[np.ndarray, bytes | None]:
    """A photo's pixels ``(H, W, 3)``, and its color profile where they are still the pixels that it speaks of.

    Raises:
        ValueError: it is no photo, or damaged.
    """
    try:
        image = read_photo(path)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for rows in strips(0, image.height):
        pixels[rows] = np.asarray(image.crop((0, rows.start, image.width, rows.stop)))
    profile = image.info.get("icc_profile")
    return pixels, profile if profile and profile[16:20] == b"RGB " else None


def read_mask(path: Path) -> np.ndarray:
    """A mask ``(H, W)`` from a picture: true where it is light, in any color.

    Raises:
        ValueError: it is no picture, or marks nothing.
    """
    mask = read_pixels(path)[0].max(2) > 127
    if not mask.any():
        raise ValueError(f"{path} marks nothing: what is missing must be white, the rest black")
    return mask


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m cascade_lab.restoration", description="Restore a photo.")
    parser.add_argument("photo", type=Path)
    parser.add_argument("--mask", type=Path, help="a picture of the photo's size, white where pixels are missing")
    parser.add_argument("--weights", type=Path, help="trained weights of stage 4 (default: the package's cascade+)")
    parser.add_argument("--out", type=Path, required=True, help="where the restored photo goes (.png, .jpg, ...)")
    parser.add_argument("--inpainted", type=Path, help="where the image between the two networks goes, if wanted")
    parser.add_argument("--deblur", action="store_true", help="remove blur and noise from the whole photo")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--force", action="store_true", help="overwrite files that are there")
    args = parser.parse_args(arguments)
    try:
        if not (args.mask or args.deblur):
            raise ValueError("nothing to do: give a --mask of what is missing, --deblur, or both")
        if args.inpainted == args.out:
            raise ValueError(f"--inpainted and --out are the same file, {args.out}")
        for path in filter(None, (args.inpainted, args.out)):
            check_output(path, args.force)
        weights = args.weights or published.weights("cascade+")
        settings = checkpoints.read_about(weights)["settings"]
        networks = {name: network.to(args.device) for name, network in stages.load(weights).items()}
        mask = read_mask(args.mask) if args.mask else None
        photo, profile = read_pixels(args.photo)
        bar: list[Progress] = []

        def show(done: int, total: int) -> None:
            bar[:] = bar or [Progress("restore", total)]
            bar[0].update(done, {})

        inpainted = photo.copy() if args.inpainted else None
        restore_in_place(photo, mask, networks, settings, args.deblur, show, inpainted)
        for path, pixels in ((args.inpainted, inpainted), (args.out, photo)):
            if path:
                write_photo(path, pixels, profile)
                print(path)
    except (ValueError, RuntimeError, OSError, AssertionError) as error:  # AssertionError: torch has no such device
        parser.exit(1, f"error: {str(error).splitlines()[0]}\n")


def check_output(path: Path, force: bool) -> None:
    """Raise ``ValueError`` where a photo cannot be written, before any work is done."""
    if kind_of(path) not in FORMATS:
        raise ValueError(f"{path}: unknown kind of picture {path.suffix!r}; name it .png or .jpg")
    if not path.parent.is_dir():
        raise ValueError(f"{path}: there is no folder {path.parent}")
    if path.exists() and not force:
        raise ValueError(f"{path} is there already; --force overwrites it")


def kind_of(path: Path) -> str | None:
    """Pillow's name for a kind of picture that it can write, by the file's suffix."""
    kind = Image.registered_extensions().get(path.suffix.lower())
    return kind if kind in Image.SAVE else None


def write_photo(path: Path, pixels: np.ndarray, profile: bytes | None = None) -> None:
    options = {"quality": 95} if kind_of(path) in ("JPEG", "WEBP") else {}
    image = Image.fromarray(pixels)
    checkpoints.write_atomically(path, lambda file: image.save(file, kind_of(path), icc_profile=profile, **options))


if __name__ == "__main__":
    main()
