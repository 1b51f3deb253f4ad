"""Wavelet shrinkage: small coefficients are noise, so they go."""

import numpy as np
from torch import Tensor

from cascade_lab.baselines.interface import noise_levels, optional, restore_each


def wavelets(
    images: Tensor,
    kernels: Tensor | None = None,
    sigma: float | Tensor | None = None,
    strength: float = 1.0,
    wavelet: str = "sym4",
    levels: int = 4,
) -> Tensor:
    """Remove noise by scikit-image's BayesShrink, in YCbCr.

    Args:
        images: (N, 3, H, W).
        kernels: not used, a denoiser leaves blur alone.
        sigma: noise level on the 0-255 scale, one for all or (N,); None: estimated. At 0 nothing is done.
        strength: the noise level is taken this many times as large as it is.
        wavelet: an orthogonal wavelet, by PyWavelets' name.
        levels: how many times the image is halved, fewer if it is too small. scikit-image's own default is 1
            for a 128 px image and this wavelet: at sigma 50 that costs 4.6 dB.

    Returns:
        (N, 3, H, W) in [0, 1].

    Raises:
        ImportError: if PyWavelets is not installed.

    Source: Chang, Yu and Vetterli, Adaptive wavelet thresholding for image denoising and compression (2000).
    """
    from skimage.restoration import denoise_wavelet

    most = optional("pywt").dwt_max_level(min(images.shape[-2:]), wavelet)

    def restore(image: np.ndarray, level: float) -> np.ndarray:
        if level == 0:
            return image
        return denoise_wavelet(
            image,
            sigma=strength * level,
            wavelet=wavelet,
            wavelet_levels=min(levels, most),
            convert2ycbcr=True,
            channel_axis=-1,
        )

    return restore_each(images, restore, noise_levels(images, sigma))
