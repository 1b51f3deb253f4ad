"""Richardson-Lucy: blurs its guess, compares, corrects, again and again."""

import numpy as np
from skimage import restoration
from torch import Tensor

from cascade_lab.baselines.interface import Array, Sigma, kernel_arrays, restore_each


def richardson_lucy(images: Tensor, kernels: Tensor | None = None, sigma: Sigma = None, steps: int = 10) -> Tensor:
    """A `Restorer` of blur: scikit-image's Richardson-Lucy iteration, given the true kernels.

    Each step sharpens noise too, so the number of steps is what holds it back: tune it for the noise at hand.

    Args:
        images, kernels: as for every `Restorer`; negative values, which noise makes, are taken for 0.
        sigma: not used.
        steps: number of iterations. 10 suit an image without noise or denoised before, as in a chain; on one with
            noise of sigma 5 to 30 the best is 2.

    Source: Richardson (1972), Lucy (1974).
    """

    def restore(image: Array, kernel: Array) -> Array:
        edge = len(kernel)  # zeros beyond the border would darken it
        padded = np.pad(image.clip(0), [(edge, edge), (edge, edge), (0, 0)], mode="symmetric")
        deblurred = restoration.richardson_lucy(padded, kernel[..., None], steps, clip=False)
        return deblurred[edge:-edge, edge:-edge]

    return restore_each(images, restore, kernel_arrays(images, kernels))
