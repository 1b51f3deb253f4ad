"""Photos and masks in files: read with what goes along with the pixels, refused before the work or written whole."""

import contextlib
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from cascade_lab.data import photos
from cascade_lab.restoration import as_mask, restore_in_place
from cascade_lab.restoration.windows import strips
from cascade_lab.training import checkpoints, stages


class Kind(NamedTuple):
    """A kind of picture that can be written: Pillow's name, its longest side in px, what it holds beside the pixels."""

    name: str
    longest: int
    holds: tuple[str, ...]


JPEG = Kind("JPEG", 65500, ("icc_profile", "exif", "dpi"))
TIFF = Kind("TIFF", 2**31 - 1, ("alpha", "icc_profile", "exif", "dpi"))
KINDS = {
    ".png": Kind("PNG", 2**31 - 1, ("alpha", "icc_profile", "exif", "dpi")),
    ".jpg": JPEG,
    ".jpeg": JPEG,
    ".webp": Kind("WEBP", 16383, ("alpha", "icc_profile", "exif")),
    ".tif": TIFF,
    ".tiff": TIFF,
    ".jp2": Kind("JPEG2000", 2**31 - 1, ("alpha",)),
    ".bmp": Kind("BMP", 2**31 - 1, ("dpi",)),
    ".ppm": Kind("PPM", 2**31 - 1, ()),
}
WORDS = {
    "alpha": "its transparency (laid over white)",
    "icc_profile": "its color profile",
    "exif": "its EXIF data",
    "dpi": "its resolution in dots per inch",
}
# EXIF that still holds: description, camera, resolution, software, date, artist, copyright, and the folders of the
# exposure and the place. Not the orientation, since the photo is upright, nor the small copy, which shows the damage.
TAGS = (0x010E, 0x010F, 0x0110, 0x011A, 0x011B, 0x0128, 0x0131, 0x0132, 0x013B, 0x8298)
FOLDERS = (0x8769, 0x8825)


class Photo(NamedTuple):
    """A photo as it is worked on, and what goes along with it.

    Attributes:
        pixels: ``(H, W, 3)`` bytes; white where the photo is fully transparent.
        alpha: ``(H, W)`` bytes, or ``None`` where the photo is opaque.
        extras: ``icc_profile``, ``exif`` and ``dpi``, those that it has, as Pillow writes them.
        lost: what cannot be kept in any kind of picture, in words.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None
    extras: dict[str, Any]
    lost: list[str]


def restore_files(
    photo_file: Path,
    mask_file: Path | None,
    out: Path,
    inpainted: Path | None,
    weights: Path,
    deblur: bool,
    device: str,
) -> Iterator[str]:
    """Restore a photo from file to file; yields what to tell: notes of what is lost, and each file that was written.

    Raises:
        ValueError: a file cannot be read or does not fit, or the networks compute what is not a number.
        OSError: a picture cannot be written.
    """
    check_input(weights)
    settings = checkpoints.read_about(weights)["settings"]
    networks = {name: network.to(device) for name, network in stages.load(weights).items()}
    photo = read_photo(photo_file)
    targets = [path for path in (inpainted, out) if path]
    for path in targets:
        check_size(path, photo.pixels)
    mask = read_mask(mask_file, photo.pixels.shape) if mask_file else None
    if mask is not None and mask.mean() > 0.9:
        yield f"note: {mask_file} marks {mask.mean():.0%} of the photo as missing; if it is inverted, exchange the two"
    between = photo.pixels.copy() if inpainted else photo.pixels
    bar = tqdm(desc="restore", unit=" parts", ascii=True, disable=None, leave=False)

    def show(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    try:
        with bar:
            restore_in_place(photo.pixels, mask, networks, settings, deblur, show, between if inpainted else None)
    except ValueError as error:  # the photo and the mask are checked: it is the weights
        raise ValueError(f"{weights}: {error}") from error
    if photo.alpha is not None and mask is not None:
        photo.alpha[mask] = 255  # what was missing is there now
    for path in targets:
        if lost := write_photo(path, between if path == inpainted else photo.pixels, photo):
            yield f"note: {path} has lost of the photo {', '.join(lost)}"
        yield str(path)


def read_photo(path: Path) -> Photo:
    """Read a photo of any kind, upright, as 8-bit RGB.

    Raises:
        ValueError: there is no such file, it is no photo, or it is damaged.
    """
    check_input(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # far larger ones are refused
            image = photos.read_photo(path)
            pixels = np.empty((image.height, image.width, 3), np.uint8)
            for rows in strips(0, image.height):
                pixels[rows] = np.asarray(image.crop((0, rows.start, image.width, rows.stop)))
            with Image.open(path, formats=photos.FORMATS) as image:
                extras, lost = metadata(image)
                alpha = read_alpha(image, pixels)
    except (ValueError, OSError) as error:
        raise ValueError(f"{path}: {error}") from error
    return Photo(pixels, alpha, extras, lost)


def check_input(path: Path) -> None:
    """Raise ``ValueError`` unless there is such a file; a pipe or a device could be waited for without end."""
    if not path.is_file():
        raise ValueError(f"{path} is {'not a file' if path.exists() else 'not there'}: name a file that can be read")


def metadata(image: Image.Image) -> tuple[dict[str, Any], list[str]]:
    """What can be written again with the restored pixels, and in words what cannot, of a picture just opened."""
    extras: dict[str, Any] = {}
    deep = image.mode.startswith("I") or image.mode == "F" or ";16" in str(getattr(image, "tile", ""))
    lost = ["the depth of 16 bits (it has 8)"] if deep else []
    if profile := image.info.get("icc_profile"):
        if profile[16:20] == b"RGB ":
            extras["icc_profile"] = profile
        else:
            lost.append(f"its color profile (it is for {profile[16:20].decode('ascii', 'replace').strip()}, not RGB)")
    try:
        before, exif = image.getexif(), Image.Exif()
        for tag in (*TAGS, *FOLDERS):
            if tag in before:
                exif[tag] = before.get_ifd(tag) if tag in FOLDERS else before[tag]
        if len(exif) and len(written := exif.tobytes()) < 65500:  # what a JPEG can hold
            extras["exif"] = written
        elif len(exif):
            lost.append("its EXIF data (too long)")
        dpi = image.info.get("dpi") or ()
        if len(dpi) == 2 and all(1 <= float(value) < 65535 for value in dpi):
            extras["dpi"] = tuple(map(float, dpi))
        if {"xmp", "XML:com.adobe.xmp", "photoshop"} & set(image.info):
            lost.append("its XMP and IPTC data")
        if getattr(image, "n_frames", 1) > 1:
            lost.append("all frames but the first")
    except Exception:  # damaged in any way: it says nothing about the pixels, which did decode
        lost.append("its EXIF data (damaged)")
    return extras, lost


def read_alpha(image: Image.Image, pixels: np.ndarray) -> np.ndarray | None:
    """The opacity ``(H, W)`` of a picture just opened; its own colors, not laid over white, go into the pixels."""
    if not image.has_transparency_data or image.mode.startswith(("I", "F")):
        return None
    with contextlib.suppress(Exception):  # damaged EXIF data, which did not turn the pixels either
        ImageOps.exif_transpose(image, in_place=True)
    colors = np.asarray(image.convert("RGBA"))
    alpha = colors[..., 3].copy()
    if alpha.min() == 255:
        return None
    np.copyto(pixels, colors[..., :3], where=alpha[..., None] > 0)
    return alpha


def read_mask(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """A mask ``(H, W)`` from a picture: true where it is light, in any color, and not transparent.

    Args:
        shape: the photo's.

    Raises:
        ValueError: it is no picture or of another size than the photo, or it marks nothing or everything.
    """
    picture = read_photo(path)
    light = picture.pixels.max(2)
    if picture.alpha is not None:
        light = (light.astype(np.uint16) * picture.alpha // 255).astype(np.uint8)
    if light.shape != shape[:2]:
        sizes = (f"{width} x {height} px" for height, width in (light.shape, shape[:2]))
        raise ValueError("{}: the mask has {}, the photo {}: they must agree".format(path, *sizes))
    try:
        mask = as_mask(light)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if not mask.any():
        raise ValueError(f"{path} marks nothing: what is missing must be white, the rest black")
    if mask.all():
        raise ValueError(f"{path} hides the whole photo: at least one pixel must be known, and black")
    return mask


def check_outputs(outputs: Iterable[Path], inputs: Iterable[Path], force: bool) -> None:
    """Raise ``ValueError`` where a picture cannot be written, before any work is done."""
    taken = list(inputs)
    for path in outputs:
        for other in taken:
            if path.resolve() == other.resolve() or (path.exists() and other.exists() and path.samefile(other)):
                raise ValueError(f"{path} and {other} are the same file: name another to write to")
        taken.append(path)
        if path.suffix.lower() not in KINDS:
            raise ValueError(f"{path}: unknown kind of picture {path.suffix!r}; name it {', '.join(KINDS)}")
        if path.exists() and not path.is_file():
            raise ValueError(f"{path} is not a file, and is not replaced: name another to write to")
        if path.exists() and not force:
            raise ValueError(f"{path} is there already; --force replaces it")
        if not path.resolve().parent.is_dir():
            raise ValueError(f"{path}: there is no folder {path.parent}")
        try:
            checkpoints.try_writing(path.resolve())
        except OSError as error:
            raise ValueError(f"{path} cannot be written: {error.strerror}") from error


def check_size(path: Path, pixels: np.ndarray) -> None:
    """Raise ``ValueError`` where a kind of picture cannot be so large as the photo."""
    kind = KINDS[path.suffix.lower()]
    if max(pixels.shape) > kind.longest:
        raise ValueError(f"{path}: a {kind.name} has at most {kind.longest} px a side, the photo {max(pixels.shape)}")


def write_photo(path: Path, pixels: np.ndarray, photo: Photo) -> list[str]:
    """Write restored pixels with what goes along with the photo; returns, in words, what does not.

    A symbolic link is followed. The file is whole, or as it was.

    Raises:
        OSError: it cannot be written.
    """
    kind = KINDS[path.suffix.lower()]
    image, extras = Image.fromarray(pixels), {name: x for name, x in photo.extras.items() if name in kind.holds}
    if photo.alpha is not None:
        image.putalpha(Image.fromarray(photo.alpha))
        if "alpha" not in kind.holds:
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    if kind.name in ("JPEG", "WEBP"):
        extras["quality"] = 95
    try:
        checkpoints.write_atomically(path.resolve(), lambda file: image.save(file, kind.name, **extras))
    except Exception as error:  # Pillow raises nearly anything
        raise OSError(f"{path} cannot be written: {error}") from error
    gone = {*photo.extras, *(["alpha"] if photo.alpha is not None else [])} - {*kind.holds}
    return photo.lost + [text for name, text in WORDS.items() if name in gone]
