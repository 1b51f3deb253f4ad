"""What the generator finds in the hole: the paper's constant color, or the Laplace fill, which says more.

Each function raises `ValueError` for shapes that do not fit, and as `hide` says.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import LaplacianNd, SuperLU, splu
from torch import Tensor

from cascade_core.conventions import FILLS, check_tensor

Solver = Callable[[Tensor, Tensor], Tensor]


def generator_input(images: Tensor, masks: Tensor, fill: str, solve: Solver | None = None) -> Tensor:
    """Put into the hole what a generator was trained to find there.

    Args:
        images: ``(N, 3, H, W)``, a color in the holes.
        masks: ``(N, 1, H, W)``, 1 where pixels are missing.
        fill: ``"color"`` leaves the images as they are; ``"laplace"`` puts the Laplace fill into the holes;
            ``"laplace and mask"`` also adds the masks as a fourth channel.
        solve: what computes the Laplace fill, instead of `laplace`.

    Returns:
        ``(N, 3, H, W)``, or with the mask ``(N, 4, H, W)``.
    """
    if fill not in FILLS:
        raise ValueError(f"unknown fill {fill!r}; the fills are {', '.join(FILLS)}")
    if fill == "color":
        return images
    filled = (solve or laplace)(images, masks)
    return filled if fill == "laplace" else torch.cat([filled, masks.to(filled)], dim=1)


def laplace(images: Tensor, masks: Tensor) -> Tensor:
    """Fill each hole with the exact solution of the discrete Laplace equation, channel by channel.

    Each missing pixel becomes the mean of its neighbors: four, or fewer at the photo's own border (a Neumann condition:
    no slope across it), which the hole may touch. The fill has no parameter.

    Args:
        images: ``(N, 3, H, W)`` in [0, 1].
        masks: ``(N, 1, H, W)``, 1 where pixels are missing; any shape of hole.

    Returns:
        ``(N, 3, H, W)``; known pixels as they were, the hole within their range.

    Example:
        >>> images = torch.linspace(0, 1, 5).expand(1, 3, 5, 5)
        >>> masks = torch.zeros(1, 1, 5, 5)
        >>> masks[..., 1:4, 1:4] = 1
        >>> torch.allclose(laplace(images, masks), images)
        True
    """
    known, missing = hide(images, masks)
    pixels = known.detach().flatten(2).cpu().double().numpy()  # (N, 3, HW)
    distinct, of_image = torch.unique(missing.flatten(1).cpu(), dim=0, return_inverse=True)
    for index, hole in enumerate(distinct.numpy()):
        if hole.any():
            factor, border = _equations(hole.tobytes(), *images.shape[2:])
            filled = pixels[of_image.numpy() == index].reshape(-1, hole.size)  # (images and channels, HW)
            filled[:, hole] = factor.solve(border @ filled[:, ~hole].T).T
            pixels[of_image.numpy() == index] = filled.reshape(-1, images.shape[1], hole.size)
    return torch.where(missing, torch.from_numpy(pixels).view(images.shape).to(images), images)


def hide(images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Black out the hole, so that no method can read what lies under it.

    Args:
        images: ``(N, 3, H, W)``; what lies under the mask may be anything, NaN included.
        masks: ``(N, 1, H, W)``, 1 where pixels are missing, else 0.

    Returns:
        The images with zeros in the hole, and the masks as bool.

    Raises:
        ValueError: the shapes do not fit, a mask has values other than 0 and 1, or nothing is known.
    """
    check_tensor(images, "images", ("N", 3, "H", "W"))
    check_tensor(masks, "masks", (len(images), 1, *images.shape[2:]))
    missing = masks == 1
    if not (missing | (masks == 0)).all():
        raise ValueError(f"masks must hold 1 (missing) and 0 (known) only, got {masks.min():g} to {masks.max():g}")
    if missing.flatten(1).all(dim=1).any():
        raise ValueError("a mask hides the whole image: at least one pixel must be known")
    return torch.where(missing, 0, images), missing


@lru_cache(maxsize=8)
def _equations(hole: bytes, height: int, width: int) -> tuple[SuperLU, sparse.csr_array]:
    """The factorized matrix between the hole's pixels, and what the known pixels contribute.

    Both depend on the mask alone, so images that share it, in a batch or in a training, share them.
    """
    missing: NDArray[np.bool_] = np.frombuffer(hole, bool)
    shape = (height, width) if min(height, width) > 1 else (height * width,)  # SciPy errs along an axis of one px
    rows = sparse.csr_array(LaplacianNd(shape, boundary_conditions="neumann", dtype=float).tosparse())[missing]
    # The negative matrix is symmetric and positive definite: an order made for such matrices, and no pivoting.
    factor = splu(-rows[:, missing].tocsc(), permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})
    return factor, rows[:, ~missing]
