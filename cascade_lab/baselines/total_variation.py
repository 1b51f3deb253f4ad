"""Total variation: the image near the noisy one with the least sum of slopes."""

from skimage import restoration
from torch import Tensor

from cascade_lab.baselines.interface import Array, Sigma, denoise_each


def total_variation(
    images: Tensor, kernels: Tensor | None = None, sigma: Sigma = None, strength: float = 0.8
) -> Tensor:
    """A `Restorer` of noise: scikit-image's total variation denoising (Chambolle's algorithm).

    Args:
        images, kernels, sigma: as for every `Restorer`.
        strength: weight of the total variation as a multiple of the noise level.

    Source: Rudin, Osher and Fatemi (1992); Chambolle, An algorithm for total variation minimization (2004).
    """

    def denoise(image: Array, level: float) -> Array:
        return restoration.denoise_tv_chambolle(image, weight=strength * level, channel_axis=-1)

    return denoise_each(images, sigma, denoise)
