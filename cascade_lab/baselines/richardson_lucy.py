"""Richardson-Lucy: blurs its guess, compares, corrects, again and again."""

import numpy as np
from torch import Tensor

from cascade_lab.baselines.interface import kernel_arrays, restore_each


def richardson_lucy(
    images: Tensor,
    kernels: Tensor | None = None,
    sigma: float | Tensor | None = None,
    steps: int = 10,
) -> Tensor:
    """Remove blur by scikit-image's Richardson-Lucy iteration, given the true kernels.

    Non-blind: no network of this project is told the kernel, so the comparison is generous to this method.
    Each step sharpens noise too, so the number of steps is what holds it back: tune it for the noise at hand.

    Args:
        images: (N, 3, H, W); negative values, which noise makes, are taken for 0.
        kernels: (N, 1, k, k) with k odd, or (1, 1, k, k) for all: the kernels that ``degradations.blur`` was given.
        sigma: not used.
        steps: number of iterations. 10 suit an image without noise or denoised before, as in a chain; on one with
            noise of sigma 5 to 30 the best is 2.

    Returns:
        (N, 3, H, W) in [0, 1].

    Raises:
        ValueError: if there are no kernels, or not one an image.

    Source: Richardson (1972), Lucy (1974), as in ``skimage.restoration.richardson_lucy``.
    """
    from skimage.restoration import richardson_lucy as deconvolve

    def restore(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        edge = len(kernel)  # zeros beyond the border would darken it
        padded = np.pad(image.clip(0), [(edge, edge), (edge, edge), (0, 0)], mode="symmetric")
        return deconvolve(padded, kernel[..., None], steps, clip=False)[edge:-edge, edge:-edge]

    return restore_each(images, restore, kernel_arrays(images, kernels))
