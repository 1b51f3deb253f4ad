"""The Wiener filter: divides by the blur where it left a signal, holds back where only noise is left."""

import numpy as np
from skimage import restoration
from torch import Tensor

from cascade_lab.baselines.interface import Array, Sigma, kernel_arrays, noise_levels, restore_each

ROUNDING = 1 / 12  # variance of rounding to 8 bits, on the 0-255 scale: the least noise that a photo has


def wiener(images: Tensor, kernels: Tensor | None = None, sigma: Sigma = None, strength: float = 100.0) -> Tensor:
    """A `Restorer` of blur and noise: scikit-image's Wiener filter, given the true kernels.

    The filter takes a photo for periodic, so the image is first padded by the kernel's size, its border fading into
    its mean color: without that, the seam rings through the whole image.

    Args:
        images, kernels, sigma: as for every `Restorer`.
        strength: weight of the Laplacian's energy as a multiple of the noise's variance; 60 to 200 are best on noisy
            images, 10 to 30 on denoised ones.

    Source: Hunt, The application of constrained least squares estimation to image restoration (1973).
    """

    def restore(image: Array, kernel: Array, level: float) -> Array:
        size, balance = len(kernel), strength * (level**2 + ROUNDING / 255**2)
        channels = np.moveaxis(image, -1, 0)
        padded = [np.pad(values, size, mode="linear_ramp", end_values=values.mean()) for values in channels]
        deblurred = [restoration.wiener(values, kernel, balance, clip=False) for values in padded]
        return np.stack(deblurred, axis=-1)[size:-size, size:-size]

    return restore_each(images, restore, kernel_arrays(images, kernels), noise_levels(images, sigma))
