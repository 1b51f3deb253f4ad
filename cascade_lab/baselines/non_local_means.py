"""Non-local means: each pixel is averaged with those whose surroundings look alike."""

from skimage import restoration
from torch import Tensor

from cascade_lab.baselines.interface import Array, Sigma, denoise_each

PATCH = 5  # px, side of the patches that are compared
DISTANCE = 6  # px, how far away they may lie


def non_local_means(
    images: Tensor, kernels: Tensor | None = None, sigma: Sigma = None, strength: float = 0.6
) -> Tensor:
    """A `Restorer` of noise: scikit-image's non-local means (its fast mode).

    Args:
        images, kernels, sigma: as for every `Restorer`.
        strength: the filter's cut-off as a multiple of the noise level.

    Source: Buades, Coll and Morel, A non-local algorithm for image denoising (2005); the fast mode is Darbon
    et al. (2008).
    """

    def denoise(image: Array, level: float) -> Array:
        return restoration.denoise_nl_means(image, PATCH, DISTANCE, h=strength * level, sigma=level, channel_axis=-1)

    return denoise_each(images, sigma, denoise)
