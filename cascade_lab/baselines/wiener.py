"""The Wiener filter: divides by the blur where it left a signal, holds back where only noise is left."""

import numpy as np
from torch import Tensor

from cascade_lab.baselines.interface import kernel_arrays, noise_levels, restore_each

ROUNDING = 1 / 12  # variance of rounding to 8 bits, on the 0-255 scale: the least noise that a photo has


def wiener(
    images: Tensor,
    kernels: Tensor | None = None,
    sigma: float | Tensor | None = None,
    strength: float = 100.0,
) -> Tensor:
    """Remove blur and noise by scikit-image's Wiener filter, given the true kernels.

    Non-blind: no network of this project is told the kernel, so the comparison is generous to this method. The
    filter holds a photo for periodic, so the image is first padded by the kernel's size, its border fading into
    its mean color: without that, the seam rings through the whole image.

    Args:
        images: (N, 3, H, W).
        kernels: (N, 1, k, k) with k odd, or (1, 1, k, k) for all: the kernels that ``degradations.blur`` was given.
        sigma: noise level on the 0-255 scale, one for all or (N,); None: estimated.
        strength: weight of the Laplacian's energy as a multiple of the noise's variance; 60 to 200 are best on noisy
            images, 10 to 30 on denoised ones.

    Returns:
        (N, 3, H, W) in [0, 1].

    Raises:
        ValueError: if there are no kernels, or not one an image.

    Source: Hunt, The application of constrained least squares estimation to image restoration (1973), as in
    ``skimage.restoration.wiener``.
    """
    from skimage.restoration import wiener as deconvolve

    def restore(image: np.ndarray, kernel: np.ndarray, level: float) -> np.ndarray:
        size = len(kernel)
        balance = strength * (level**2 + ROUNDING / 255**2)

        def channel(values: np.ndarray) -> np.ndarray:
            padded = np.pad(values, size, mode="linear_ramp", end_values=values.mean())
            return deconvolve(padded, kernel, balance, clip=False)[size:-size, size:-size]

        return np.stack([channel(image[..., c]) for c in range(3)], axis=-1)

    return restore_each(images, restore, kernel_arrays(images, kernels), noise_levels(images, sigma))
