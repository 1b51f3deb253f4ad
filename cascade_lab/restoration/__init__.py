"""Restore one's own photo, of any size: fill what a mask marks as missing, and remove blur and noise if asked.

The generator was trained on one hole, a square in the center of a small photo. So a mask is filled through windows of
that size, each centered on a part of the mask; where the mask is too wide for the square, through a smaller copy of the
photo. A generator that is given the mask sees all that is known in its window; from any other the whole square is
hidden. Blur and noise are removed in tiles.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cascade_core.degradations import apply_mask, center_hole
from cascade_core.fills import generator_input
from cascade_core.models import Cascade, Restoration
from cascade_lab.restoration.tiles import count_tiles, deblurred
from cascade_lab.restoration.windows import Window, cover, cut, missing, paint, smooth_fill, with_earlier

__all__ = ["as_mask", "restore", "restore_in_place"]

Networks = Mapping[str, Any]  # "generator" and "deblur_denoise", either or both


def restore(
    photo: np.ndarray,
    mask: np.ndarray | None,
    networks: Networks,
    settings: Mapping[str, Any],
    deblur: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Restoration[np.ndarray]:
    """Restore a photo.

    Args:
        photo: ``(H, W, 3)`` bytes. What it holds under the mask is not read.
        mask: ``(H, W)``, as `as_mask` reads it: true or light where pixels are missing; ``None``: nothing is.
        networks: of `stages.load`, in eval mode: a generator, a deblurring-denoising network, or both.
        settings: of the weights' header: ``size``, ``hole`` and ``hole_color`` that the generator was trained on.
        deblur: remove blur and noise from the whole photo; otherwise the known pixels come back as they were.
        progress: called with the windows and tiles that are done, and their number.

    Returns:
        The generator's image and the final one, bytes ``(H, W, 3)``.

    Raises:
        ValueError: the mask does not fit or hides everything, a network that is needed is not among them, or one
            computes what is not a number.
    """
    result = Restoration(photo.copy(), photo.copy())
    restore_in_place(result.restored, mask, networks, settings, deblur, progress, result.inpainted)
    return result


def restore_in_place(
    photo: np.ndarray,
    mask: np.ndarray | None,
    networks: Networks,
    settings: Mapping[str, Any],
    deblur: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
    inpainted: np.ndarray | None = None,
) -> None:
    """`restore` in the memory of the photo itself; a copy of it, if given, becomes the generator's image."""
    if photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8:
        raise ValueError(f"the photo must be (H, W, 3) bytes, got {photo.shape} of {photo.dtype}")
    nothing = np.broadcast_to(np.False_, photo.shape[:2])  # no memory of its own
    holes = nothing if mask is None else as_mask(mask)
    if holes.shape != photo.shape[:2]:
        sizes = " x ".join(map(str, holes.shape[::-1])), " x ".join(map(str, photo.shape[1::-1]))
        raise ValueError(f"the mask has {sizes[0]} px, the photo {sizes[1]}: they must agree")
    if holes.all():
        raise ValueError("the mask hides the whole photo: at least one pixel must be known")
    for name, wanted in (("generator", holes.any()), ("deblur_denoise", deblur)):
        if wanted and name not in networks:
            raise ValueError(f"these weights hold {', '.join(networks)}, but no {name}: use those of stage 4")
    windows = list(cover(holes, settings["size"], settings["hole"]))
    total = len(windows) + (count_tiles(*holes.shape) if deblur else 0)

    if windows:
        smooth_fill(photo, holes)
    for done, (window, before) in enumerate(with_earlier(windows), 1):
        images = look(photo, holes, window, networks, settings)
        for image, target in zip(images, (inpainted, photo), strict=True):
            if target is not None:
                paint(image, target, window, before, holes)
        progress(done, total)
    rest = deblurred(photo, networks["deblur_denoise"]) if deblur else ()
    for done, (rows, columns, clean) in enumerate(rest, len(windows) + 1):
        known = ~holes[rows, columns]  # the holes went through it already, window by window
        np.copyto(photo[rows, columns], clean, where=known[..., None])
        progress(done, total)


def as_mask(values: np.ndarray) -> np.ndarray:
    """A mask of any kind as bool: true where pixels are missing, which is where a value is above half of the range.

    Args:
        values: bool; bytes from 0 to 255; or floats from 0 to 1.

    Raises:
        ValueError: values of another type, or bytes of 0 and 1 alone.

    Example:
        >>> as_mask(np.array([0, 127, 128, 255], np.uint8)).tolist()
        [False, False, True, True]
    """
    if values.dtype == bool:
        return values
    if values.dtype != np.uint8 and values.dtype.kind != "f":
        raise ValueError(f"the mask must hold bools, bytes from 0 to 255 or floats from 0 to 1, got {values.dtype}")
    if values.dtype == np.uint8 and values.max(initial=0) == 1:
        raise ValueError("the mask holds bytes of 0 and 1 alone, where white is 255: multiply them, or give bools")
    return values > (127 if values.dtype == np.uint8 else 0.5)


def look(
    photo: np.ndarray, holes: np.ndarray, window: Window, networks: Networks, settings: Mapping[str, Any]
) -> tuple[Tensor, Tensor]:
    """What the networks make of one window: the generator's image and the final one, ``(1, 3, size, size)``."""
    size, fill = settings["size"], networks["generator"].fill
    masks = center_hole(1, size, size, settings["hole"])
    if fill == "laplace and mask" and not (seen := missing(holes, window, size)).all():
        masks = seen  # it is not blind: nothing is hidden that is known, wherever it lies
    images = apply_mask(cut(photo, window, size), masks, settings["hole_color"])
    return run(networks, generator_input(images, masks, fill))


@torch.no_grad()
def run(networks: Networks, images: Tensor) -> tuple[Tensor, Tensor]:
    """The generator's image and the final one, which are the same where there is no second network."""
    network = Cascade(networks["generator"], networks.get("deblur_denoise")).eval()
    return network(images.to(next(network.parameters()).device))
