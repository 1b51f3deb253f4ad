"""Reading photos of every kind, and cutting squares out of them.

Gray, palette, CMYK and 16 bit become 8 bit RGB, transparent pixels are laid over white, a camera's rotation
(EXIF) is undone, of an animation the first frame is taken, and a photo smaller than the crop is enlarged
(`Photos.smaller` names those). What cannot be read is left out, by name and reason, in `Photos.skipped`.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

# What Pillow may open. Left to itself, it would start Ghostscript for a file that claims to be PostScript.
FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "PPM", "JPEG2000")
VERIFY = 5000  # photos; a set of up to so many is decoded once when it is opened (1 to 3 ms each)
CACHE = 2 * 2**30  # bytes of decoded photos that a process keeps; Pillow holds RGB in 4 bytes a pixel


def read_photo(file: str | Path | BinaryIO) -> Image.Image:
    """Decodes one photo to 8 bit RGB, upright.

    Args:
        file: a path, or a file that is open for reading bytes.

    Raises:
        ValueError: it is no photo, empty, cut short or of too many pixels (a decompression bomb); the message
            says which.
    """
    try:
        with Image.open(file, formats=FORMATS) as image:
            image.load()
            _turn_upright(image)
            if image.mode in ("I", "F") or image.mode.startswith("I;16"):
                return _eight_bits(image).convert("RGB")
            if image.has_transparency_data:
                image = image.convert("RGBA")
                return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
            return image if image.mode == "RGB" else image.convert("RGB")  # convert() would copy it
    except Exception as error:  # a broken file raises nearly anything: OSError, SyntaxError, struct.error
        raise ValueError(_reason(error)) from error


def photo_size(file: str | Path) -> tuple[int, int]:
    """Width and height by the header alone, before any rotation; raises ValueError like `read_photo`."""
    try:
        with Image.open(file, formats=FORMATS) as image:
            return image.size
    except Exception as error:
        raise ValueError(_reason(error)) from error


def _turn_upright(image: Image.Image) -> None:
    # An unreadable EXIF block says nothing about the pixels, which did decode.
    with contextlib.suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Integers are taken as 16 bit and floats as [0, 1]; Pillow's own convert() would clip both at 255."""
    values = np.asarray(image, dtype=np.float64)
    top = 1 if image.mode == "F" else 65535
    if not (values.min() >= 0 and values.max() <= top):
        raise ValueError(f"gray values from {values.min():g} to {values.max():g}, expected 0 to {top}")
    return Image.fromarray(np.round(values * (255 / top)).astype(np.uint8))


def _reason(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {2 * Image.MAX_IMAGE_PIXELS // 10**6} million pixels: shrink it if you trust it"
    if isinstance(error, Image.UnidentifiedImageError):
        return f"not a photo that can be read ({', '.join(FORMATS)})"
    return f"cannot be read: {error or type(error).__name__}"


class Photos(Sequence):
    """Usable photos in the order of their names; `photos[i]` is decoded, a PIL image in RGB.

    Up to `VERIFY` photos are decoded once on the way in, so that a broken one is known before training; of more,
    and of those that `digests` vouches for, only the header is read.

    Args:
        source: where they come from, for messages and records.
        paths: name -> path.
        skipped: name -> reason, of files that were left out before.
        digests: name -> SHA-256, from the manifest of a script that decoded every photo.
        repeats: how often an epoch visits each photo.

    Attributes:
        names: the name of each photo.
        skipped: name -> reason, of the files that were left out.
    """

    def __init__(
        self,
        source: str,
        paths: dict[str, Path],
        skipped: dict[str, str] | None = None,
        digests: dict[str, str] | None = None,
        repeats: int = 1,
    ):
        self.source, self.skipped, self.repeats = source, dict(skipped or {}), repeats
        self.names: list[str] = []
        self._paths, self._digests, self._cache, self._cached = [], digests or {}, {}, 0
        self._short_sides = []
        decode = not digests and len(paths) <= VERIFY
        for name in sorted(paths):
            self._paths.append(paths[name])
            try:
                size = self[-1].size if decode else photo_size(paths[name])
            except ValueError as error:
                self._paths.pop()
                self.skipped[name] = str(error)
            else:
                self.names.append(name)
                self._short_sides.append(min(size))

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Image.Image:
        path = self._paths[index]
        if path in self._cache:
            return self._cache[path]
        photo = read_photo(path)
        weight = 4 * photo.width * photo.height
        if self._cached + weight <= CACHE:
            self._cache[path] = photo
            self._cached += weight
        return photo

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_cache": {}, "_cached": 0}  # a worker that is not forked decodes for itself

    @functools.cached_property
    def hash(self) -> str:
        """SHA-256 over a line `sha256  name` a photo: the same photos have it, whatever folder they stand in."""
        return hash_lines(zip(self.file_digests(), self.names, strict=True))

    def paths(self) -> dict[str, Path]:
        """The file of each photo by its name."""
        return dict(zip(self.names, self._paths, strict=True))

    def file_digests(self) -> list[str]:
        """SHA-256 of each photo's file."""
        return [
            self._digests.get(name) or hashlib.sha256(path.read_bytes()).hexdigest()
            for name, path in self.paths().items()
        ]

    def smaller(self, size: int) -> list[str]:
        """Names of the photos with a short side under `size` pixels: their crops are enlarged."""
        return [name for name, short in zip(self.names, self._short_sides, strict=True) if short < size]


def hash_lines(pairs) -> str:
    """SHA-256 over the text that `sha256sum` would print for (digest, name) pairs."""
    text = "".join(f"{digest}  {name}\n" for digest, name in pairs)
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def square(
    photo: Image.Image, left: int, top: int, side: int, size: int, reducing_gap: float | None = None
) -> np.ndarray:
    """The square of `side` pixels at (left, top) as bytes (size, size, 3): copied at 1:1, otherwise bicubic and
    anti-aliased. `reducing_gap` is Pillow's: a box filter takes the first whole-number step of a large one."""
    crop = photo.crop((left, top, left + side, top + side))  # first: resize(box=...) looks at pixels around the box
    if side != size:
        crop = crop.resize((size, size), Image.Resampling.BICUBIC, reducing_gap=reducing_gap)
    return np.asarray(crop)


def random_square(photo: Image.Image, size: int, scale: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """A random crop as bytes (size, size, 3), mirrored half the time.

    The side of the square that is cut lies between `size` pixels (1:1) and the photo's whole short side, at a
    share of that way drawn evenly from `scale`. It is a whole number, so that a crop at 1:1 is not resampled. Of a
    photo smaller than `size`, a square of its short side is enlarged.
    """
    share, across, down, mirror = rng.random(4)
    low, high = scale
    short = min(photo.size)
    side = min(short, round(size + (low + share * (high - low)) * (short - size))) if short > size else short
    left, top = int(across * (photo.width - side + 1)), int(down * (photo.height - side + 1))
    pixels = square(photo, left, top, side, size, reducing_gap=2)  # 2.7 times as fast, 0.6 of 255 away (RMS)
    return pixels[:, ::-1] if mirror < 0.5 else pixels
