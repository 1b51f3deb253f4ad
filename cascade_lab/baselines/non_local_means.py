"""Non-local means: each pixel is averaged with those whose surroundings look alike."""

import numpy as np
from torch import Tensor

from cascade_lab.baselines.interface import noise_levels, restore_each


def non_local_means(
    images: Tensor,
    kernels: Tensor | None = None,
    sigma: float | Tensor | None = None,
    strength: float = 0.6,
    patch_size: int = 5,
    patch_distance: int = 6,
) -> Tensor:
    """Remove noise by scikit-image's non-local means (its fast mode).

    Args:
        images: (N, 3, H, W).
        kernels: not used, a denoiser leaves blur alone.
        sigma: noise level on the 0-255 scale, one for all or (N,); None: estimated. At 0 nothing is done.
        strength: the filter's cut-off as a multiple of the noise level.
        patch_size: side of the patches that are compared, in pixels.
        patch_distance: how far away they may lie, in pixels.

    Returns:
        (N, 3, H, W) in [0, 1].

    Source: Buades, Coll and Morel, A non-local algorithm for image denoising (2005); the fast mode is Darbon
    et al. (2008).
    """
    from skimage.restoration import denoise_nl_means

    def restore(image: np.ndarray, level: float) -> np.ndarray:
        if level == 0:
            return image
        return denoise_nl_means(image, patch_size, patch_distance, h=strength * level, sigma=level, channel_axis=-1)

    return restore_each(images, restore, noise_levels(images, sigma))
