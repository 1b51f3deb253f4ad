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
from cascade_lab.restoration import as_mask, restore, strips
from cascade_lab.training import checkpoints, stages

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".jp2", ".bmp", ".ppm")  # of what can be written
LONGEST = {"JPEG": 65500, "WEBP": 16383}  # px a side
HOLDS: dict[str, set[str]] = {  # what a kind of picture holds beside the pixels, by Pillow's name of it
    "PNG": {"alpha", "icc_profile", "exif", "dpi"},
    "JPEG": {"icc_profile", "exif", "dpi"},
    "WEBP": {"alpha", "icc_profile", "exif"},
    "TIFF": {"alpha", "icc_profile", "exif", "dpi"},
    "JPEG2000": {"alpha"},
    "BMP": {"dpi"},
    "PPM": set(),
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
    """A photo's pixels ``(H, W, 3)``, white where it is fully transparent, and what goes along with them.

    ``extras`` are those of `WORDS` that it has, the opacity as bytes ``(H, W)``, the others as Pillow writes them;
    ``lost`` says what no kind of picture can keep.
    """

    pixels: np.ndarray
    extras: dict[str, Any]
    lost: list[str]


def restore_files(
    source: Path,
    mask_file: Path | None,
    out: Path,
    inpainted: Path | None,
    weights: Path,
    deblur: bool,
    device: Any,
    ensemble: bool = False,
) -> Iterator[str]:
    """Restore a photo from file to file; yields what to tell: notes of what is lost, and each file that was written.

    Raises:
        ValueError: a file cannot be read or does not fit, or the networks compute what is not a number.
        OSError: a picture cannot be written.
    """
    check_input(weights)
    settings = checkpoints.read_about(weights)["settings"]
    photo = read_photo(source)
    longest, targets = max(photo.pixels.shape), [path for path in (inpainted, out) if path]
    for path in targets:
        if longest > (most := LONGEST.get(kind := kind_of(path), longest)):
            raise ValueError(f"{path}: a {kind} has at most {most} px a side, the photo {longest}")
    mask = read_mask(mask_file, photo.pixels.shape) if mask_file else None
    if mask is not None and mask.mean() > 0.9:
        yield f"note: {mask_file} marks {mask.mean():.0%} of the photo as missing; if it is inverted, exchange the two"
    networks = {name: network.to(device) for name, network in stages.load(weights).items()}
    try:
        with tqdm(desc="restore", unit=" parts", ascii=True, disable=None, leave=False) as bar:

            def show(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            result = restore(photo.pixels, mask, networks, settings, deblur, show, not inpainted, ensemble)
    except ValueError as error:  # the photo and the mask are checked: it is the weights
        raise ValueError(f"{weights}: {error}") from error
    if "alpha" in photo.extras and mask is not None:
        photo.extras["alpha"][mask] = 255  # what was missing is there now
    for path in targets:
        if lost := write_photo(path, result.inpainted if path == inpainted else result.restored, photo):
            yield f"note: {path} has lost of the photo {', '.join(lost)}"
        yield str(path)


def read_photo(path: Path) -> Photo:
    """Read a photo of any kind, upright, as 8-bit RGB; ``ValueError`` where it is not there, no photo, or damaged."""
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
                extras |= read_alpha(image, pixels)
    except (ValueError, OSError) as error:
        raise ValueError(f"{path}: {error}") from error
    return Photo(pixels, extras, lost)


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
        dpi = tuple(map(float, image.info.get("dpi") or ()))
        if len(dpi) == 2 and 1 <= min(dpi) <= max(dpi) < 65535:
            extras["dpi"] = dpi
        if {"xmp", "XML:com.adobe.xmp", "photoshop"} & set(image.info):
            lost.append("its XMP and IPTC data")
        if getattr(image, "n_frames", 1) > 1:
            lost.append("all frames but the first")
    except Exception:  # damaged in any way: it says nothing about the pixels, which did decode
        lost.append("its EXIF data (damaged)")
    return extras, lost


def read_alpha(image: Image.Image, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """A picture's opacity, unless it is opaque; its own colors, not laid over white, go into the pixels."""
    if not image.has_transparency_data or image.mode.startswith(("I", "F")):
        return {}
    with contextlib.suppress(Exception):  # damaged EXIF data, which did not turn the pixels either
        ImageOps.exif_transpose(image, in_place=True)
    colors = np.asarray(image.convert("RGBA"))
    alpha = colors[..., 3].copy()
    np.copyto(pixels, colors[..., :3], where=alpha[..., None] > 0)
    return {"alpha": alpha} if alpha.min() < 255 else {}


def read_mask(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """A mask ``(H, W)`` for a photo of some shape: true where a picture is light, in any color, and not transparent.

    Raises:
        ValueError: it is not a picture, is of another size than the photo, or it marks nothing or everything.
    """
    picture = read_photo(path)
    light = picture.pixels.max(2)
    if "alpha" in picture.extras:
        light = (light.astype(np.uint16) * picture.extras["alpha"] // 255).astype(np.uint8)
    try:
        mask = as_mask(light, shape)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if not mask.any():
        raise ValueError(f"{path} marks nothing: what is missing must be white, the rest black")
    return mask


def check_outputs(outputs: Iterable[Path], inputs: Iterable[Path], force: bool) -> None:
    """Raise ``ValueError`` where a picture cannot be written, before any work is done."""
    taken = list(inputs)
    for path in outputs:
        for other in taken:
            if path.resolve() == other.resolve() or (path.exists() and other.exists() and path.samefile(other)):
                raise ValueError(f"{path} and {other} are the same file: name another to write to")
        taken.append(path)
        if path.suffix.lower() not in SUFFIXES:
            raise ValueError(f"{path}: unknown kind of picture {path.suffix!r}; name it {', '.join(SUFFIXES)}")
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


def kind_of(path: Path) -> str:
    """Pillow's name of the kind of picture that a file's name ends in."""
    return Image.registered_extensions()[path.suffix.lower()]


def write_photo(path: Path, pixels: np.ndarray, photo: Photo) -> list[str]:
    """Write restored pixels with what goes along with the photo; returns, in words, what does not.

    A symbolic link is followed. The file is whole, or as it was; ``OSError`` where it cannot be written.
    """
    kind, image = kind_of(path), Image.fromarray(pixels)
    if "alpha" in photo.extras:
        image.putalpha(Image.fromarray(photo.extras["alpha"]))
        if "alpha" not in HOLDS[kind]:
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    options = {name: photo.extras[name] for name in photo.extras.keys() & HOLDS[kind] - {"alpha"}}
    if kind in ("JPEG", "WEBP"):
        options["quality"] = 95
    try:
        checkpoints.write_atomically(path.resolve(), lambda file: image.save(file, kind, **options))
    except Exception as error:  # Pillow raises nearly anything
        raise OSError(f"{path} cannot be written: {error}") from error
    return photo.lost + [text for name, text in WORDS.items() if name in photo.extras.keys() - HOLDS[kind]]
