"""Reading photos of every kind, and cutting squares out of them.

Gray, palette, CMYK and 16 bit become 8 bit RGB, transparent pixels are laid over white, a camera's rotation
(EXIF) is undone, and of an animation the first frame is taken. What cannot be read is left out, by name and reason,
in `Photos.skipped`.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import hashlib
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from tqdm import tqdm

# What Pillow may open. Left to itself, it would start Ghostscript for a file that claims to be PostScript.
FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "PPM", "JPEG2000")
CACHE = 2 * 2**30  # bytes of decoded photos that a process keeps; Pillow holds RGB in 4 bytes a pixel


def read_photo(file: str | Path | BinaryIO) -> Image.Image:
    """Decode one photo to 8 bit RGB, upright.

    Args:
        file: a path, or a file that is open for reading bytes.

    Raises:
        ValueError: it is not a photo or not a regular file, is empty, truncated or of too many pixels (a decompression
            bomb); the message says which.
    """
    with _opened(file) as image:
        image.load()
        with contextlib.suppress(Exception):  # an unreadable EXIF block says nothing about the pixels, which did decode
            ImageOps.exif_transpose(image, in_place=True)
        if image.mode in ("I", "F") or image.mode.startswith("I;16"):
            # Integers are taken as 16 bit and floats as [0, 1]; Pillow's own convert() would clip both at 255.
            values, top = np.asarray(image, dtype=np.float64), 1 if image.mode == "F" else 65535
            if not (values.min() >= 0 and values.max() <= top):
                raise ValueError(f"gray values from {values.min():g} to {values.max():g}, expected 0 to {top}")
            return Image.fromarray(np.round(values * (255 / top)).astype(np.uint8)).convert("RGB")
        if image.has_transparency_data:
            image = image.convert("RGBA")
            return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
        return image if image.mode == "RGB" else image.convert("RGB")  # convert() would copy it


@contextlib.contextmanager
def _opened(file: str | Path | BinaryIO) -> Iterator[Image.Image]:
    """An image of which only the header is read yet; whatever goes wrong with it becomes a ``ValueError``."""
    try:
        if isinstance(file, str | Path) and os.path.exists(file) and not os.path.isfile(file):
            raise ValueError("a folder, a pipe or a device, not a file")  # opening a pipe would wait for its writer
        with Image.open(file, formats=FORMATS) as image:
            yield image
    except Image.DecompressionBombError as error:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        raise ValueError(f"more than {most} million pixels: make it smaller if you trust it") from error
    except Image.UnidentifiedImageError as error:
        raise ValueError(f"not a photo that can be read ({', '.join(FORMATS)})") from error
    except Exception as error:  # a broken file raises nearly anything: OSError, SyntaxError, struct.error
        raise ValueError(f"cannot be read: {error or type(error).__name__}") from error


class Photos(Sequence[Image.Image]):
    """Usable photos in the order of their names; each is decoded when it is asked for, to a PIL image in RGB.

    Args:
        source: where they come from, for messages and records.
        paths, skipped: name -> path, and name -> reason of files that were left out before.
        digests: name -> SHA-256, where a manifest knows it.
        repeats: how often an epoch visits each photo.
        decode: read each photo whole on the way in, so that a broken one is known before training (1 to 3 ms for
            0.2 million pixels); else its header. A warning counts what is left out.

    Attributes:
        names, paths, skipped: the name of each photo; name -> path; and name -> reason of all that was left out.

    Raises:
        ValueError: none can be read.
    """

    def __init__(
        self,
        source: str,
        paths: Mapping[str, Path],
        skipped: Mapping[str, str] | None = None,
        digests: Mapping[str, str] | None = None,
        repeats: int = 1,
        decode: bool = False,
    ) -> None:
        self.source, self.skipped, self.repeats = source, dict(skipped or {}), repeats
        self.paths, self._digests = dict(sorted(paths.items())), digests or {}
        self._cache: dict[Path, Image.Image] = {}
        self._room = CACHE
        for name, path in tqdm(list(self.paths.items()), "reading photos", leave=False, delay=5):
            try:
                if decode:
                    self._read(path)
                else:
                    with _opened(path):
                        pass
            except ValueError as error:
                self.skipped[name] = str(error)
                del self.paths[name]
        self.names = list(self.paths)
        if self.skipped:
            first = "; ".join(f"{name}: {why}" for name, why in list(self.skipped.items())[:3])
            warnings.warn(f"{source}: {len(self.skipped)} files left out ({first})", stacklevel=3)
        if not self.names:
            raise ValueError(f"no photo in {source} can be read ({len(self.skipped)} files left out)")

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Image.Image: ...
    @overload
    def __getitem__(self, index: slice) -> Photos: ...
    def __getitem__(self, index: int | slice) -> Image.Image | Photos:
        if isinstance(index, slice):
            return self.only(self.names[index])
        return self._read(self.paths[self.names[index]])

    def items(self) -> Iterator[tuple[str, Image.Image]]:
        """The name of each photo, and the photo."""
        return zip(self.names, self, strict=True)

    def only(self, names: Iterable[str]) -> Photos:
        """Those of the photos that have these names."""
        part = copy.copy(self)
        part.__dict__.pop("hash", None)
        part.paths = {name: self.paths[name] for name in names}
        part.names = list(part.paths)
        part._cache, part._room = {}, CACHE
        for path in self._cache.keys() & part.paths.values():
            part._keep(path, self._cache[path])
        return part

    def _read(self, path: Path) -> Image.Image:
        return self._cache[path] if path in self._cache else self._keep(path, read_photo(path))

    def _keep(self, path: Path, photo: Image.Image) -> Image.Image:
        if (size := 4 * photo.width * photo.height) <= self._room:
            self._cache[path] = photo
            self._room -= size
        return photo

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": {}, "_room": CACHE}  # a worker that is not forked decodes for itself

    @functools.cached_property
    def hash(self) -> str:
        """SHA-256 over a line `sha256  name` a photo: the same photos have it, whatever folder they stand in."""
        return hash_lines(zip(self.file_digests(), self.names, strict=True))

    def file_digests(self) -> list[str]:
        """SHA-256 of each photo's file."""
        known = self._digests.get
        return [known(name) or hashlib.sha256(path.read_bytes()).hexdigest() for name, path in self.paths.items()]


def hash_lines(pairs: Iterable[tuple[str, str]]) -> str:
    """SHA-256 over the text that `sha256sum` would print for (digest, name) pairs."""
    text = "".join(f"{digest}  {name}\n" for digest, name in pairs)
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def square(
    photo: Image.Image, left: int, top: int, side: int, size: int, reducing_gap: float | None = None
) -> NDArray[np.uint8]:
    """The square of `side` pixels at (left, top) as bytes ``(size, size, 3)``: copied at 1:1, else resized, bicubic.

    With Pillow's `reducing_gap` a box filter takes the first whole-number step of a large reduction.
    """
    crop = photo.crop((left, top, left + side, top + side))  # first: resize(box=...) looks at pixels around the box
    if side != size:
        crop = crop.resize((size, size), Image.Resampling.BICUBIC, reducing_gap=reducing_gap)
    return np.asarray(crop)


def random_square(
    photo: Image.Image,
    size: int,
    scale: tuple[float, float],
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """A random crop as bytes ``(size, size, 3)``, mirrored half the time.

    The side of the square that is cut lies between `size` pixels (1:1) and the
    photo's whole short side, at a share of that way drawn evenly from `scale`. It is
    a whole number, so that a crop at 1:1 is not resampled. Of a photo smaller than
    `size`, a square of its short side is enlarged.
    """
    share, across, down, mirror = rng.random(4)
    low, high = scale
    side = short = min(photo.size)
    if short > size:
        side = min(short, round(size + (low + share * (high - low)) * (short - size)))
    left = int(across * (photo.width - side + 1))
    top = int(down * (photo.height - side + 1))
    # the box filter of reducing_gap is 2.7 times as fast, and 0.6 of 255 away (RMS)
    pixels = square(photo, left, top, side, size, reducing_gap=2)
    return pixels[:, ::-1] if mirror < 0.5 else pixels


@functools.lru_cache(maxsize=2)
def shuffled(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """The order of ``count`` photos or shards in an epoch."""
    return np.random.default_rng((seed, 0, epoch)).permutation(count)
