"""Wavelet shrinkage: small coefficients are noise, so they go."""

from skimage import restoration
from torch import Tensor

from cascade_lab.baselines.interface import Array, Sigma, denoise_each, optional

WAVELET = "sym4"
LEVELS = 4  # how often the image is halved at most; scikit-image's default for 128 px, 1, costs 4.6 dB at sigma 50


def wavelets(images: Tensor, kernels: Tensor | None = None, sigma: Sigma = None, strength: float = 1.0) -> Tensor:
    """A `Restorer` of noise: scikit-image's BayesShrink, in YCbCr.

    Args:
        images, kernels, sigma: as for every `Restorer`.
        strength: the noise level is taken this many times as large as it is.

    Raises:
        ImportError: PyWavelets is not installed.

    Source: Chang, Yu and Vetterli, Adaptive wavelet thresholding for image denoising and compression (2000).
    """
    levels = min(LEVELS, optional("pywt").dwt_max_level(min(images.shape[-2:]), WAVELET))
    options = {"wavelet": WAVELET, "wavelet_levels": levels, "convert2ycbcr": True, "channel_axis": -1}

    def denoise(image: Array, level: float) -> Array:
        return restoration.denoise_wavelet(image, sigma=strength * level, **options)

    return denoise_each(images, sigma, denoise)
