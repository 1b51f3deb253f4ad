"""Total variation: the image near the noisy one with the least sum of slopes."""

import numpy as np
from torch import Tensor

from cascade_lab.baselines.interface import noise_levels, restore_each


def total_variation(
    images: Tensor,
    kernels: Tensor | None = None,
    sigma: float | Tensor | None = None,
    strength: float = 0.8,
) -> Tensor:
    """Remove noise by scikit-image's total variation denoising (Chambolle's algorithm).

    Args:
        images: (N, 3, H, W).
        kernels: not used, a denoiser leaves blur alone.
        sigma: noise level on the 0-255 scale, one for all or (N,); None: estimated. At 0 nothing is done.
        strength: weight of the total variation as a multiple of the noise level.

    Returns:
        (N, 3, H, W) in [0, 1].

    Source: Rudin, Osher and Fatemi (1992); Chambolle, An algorithm for total variation minimization (2004).
    """
    from skimage.restoration import denoise_tv_chambolle

    def restore(image: np.ndarray, level: float) -> np.ndarray:
        if level == 0:
            return image
        return denoise_tv_chambolle(image, weight=strength * level, channel_axis=-1)

    return restore_each(images, restore, noise_levels(images, sigma))
