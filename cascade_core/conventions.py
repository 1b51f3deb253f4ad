"""What all modules agree on: the shapes and ranges of tensors, and how images become pixels and come back.

Images are float32 ``(N, 3, H, W)`` in [0, 1]; masks ``(N, 1, H, W)``, 1 where pixels are MISSING; kernels
``(N, 1, k, k)`` that sum to 1; noise levels ``sigma`` on the 0-255 scale. Randomness comes from a `torch.Generator`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FILLS = ("color", "laplace", "laplace and mask")
"""What a generator finds in the hole; `cascade_core.fills` puts it there. The first is the paper's."""


def check_tensor(tensor: Tensor, name: str, shape: Sequence[int | str]) -> None:
    """Raise ``ValueError`` unless a tensor holds floats and has a shape; a letter stands for any size.

    Example:
        >>> check_tensor(torch.zeros(2, 1, 8, 8), "images", ("N", 3, "H", "W"))
        Traceback (most recent call last):
        ValueError: images must be floats of shape (N, 3, H, W), got (2, 1, 8, 8) of torch.float32
    """
    sizes = tuple(tensor.shape)
    fits = len(sizes) == len(shape) and all(
        isinstance(n, str) or n == size for n, size in zip(shape, sizes, strict=True)
    )
    if not (fits and tensor.is_floating_point()):
        wanted = f"({', '.join(map(str, shape))}{',' * (len(shape) == 1)})"
        raise ValueError(f"{name} must be floats of shape {wanted}, got {sizes} of {tensor.dtype}")


def to_pixels(images: Tensor) -> NDArray[np.uint8]:
    """Images ``(N, C, H, W)`` in [0, 1], on any device, to bytes ``(N, H, W, C)``.

    This is the one place where the output of a network is clipped to [0, 1].

    Raises:
        ValueError: the shape is another, or a value is not finite.
    """
    check_tensor(images, "images", ("N", "C", "H", "W"))
    if not images.isfinite().all():
        raise ValueError("an image holds values that are not finite: the network that made it has diverged")
    pixels = images.detach().float().clamp(0, 1).mul(255).round().byte().permute(0, 2, 3, 1)
    return pixels.cpu().numpy()


def from_pixels(pixels: NDArray[Any]) -> Tensor:
    """Pixels ``(N, H, W, C)``, or one image's ``(H, W, C)``, from 0 to 255 to images ``(N, C, H, W)`` in [0, 1].

    Example:
        >>> from_pixels(np.full((2, 2, 3), 255, np.uint8)).shape
        torch.Size([1, 3, 2, 2])
    """
    images = torch.from_numpy(np.array(pixels, order="C")).float() / 255
    return (images if images.ndim == 4 else images[None]).permute(0, 3, 1, 2)
