"""One classical method after the other: what stands against the cascade when a photo has all three faults."""

from collections.abc import Callable

from torch import Tensor

from cascade_lab.baselines.interface import Inpainter, Restorer, Sigma, estimate_sigma


def chain(fill: Inpainter, *restorers: Restorer) -> Callable[..., Tensor]:
    """Fill the hole, then restore the whole image, step by step.

    The fill comes first because a denoiser and a deconvolution need a whole image: the edge of an empty hole would
    ring into its surroundings. Then denoise, then deblur, which amplifies what noise is left; the faults are undone
    from the last to the first. On 24 crops of BSDS500 photos outside BSD300, at the three degraded levels of
    ``degradations.LEVELS``, with non-local means or wavelets this order was up to 0.3 dB better over the known pixels
    than deblurring first; with total variation up to 0.2 dB worse. A second fill, from the restored context, moved
    the whole image by at most 0.04 dB. The best at every level was ``chain(laplace, non_local_means, wiener)``.

    Args:
        fill: an inpainter.
        restorers: denoisers before deblurring methods, each called with the kernels and with the noise level of
            the INPUT; what an earlier step leaves of the noise is for the later one's tuned parameters.

    Returns:
        A function that takes the fields of ``degradations.Degraded`` by name, kernels and sigma as for every
        `Restorer`; without sigma, it is estimated once, from the known pixels. These are restored too, so they change.
    """

    def run(images: Tensor, masks: Tensor, kernels: Tensor | None = None, sigma: Sigma = None) -> Tensor:
        if sigma is None and restorers:
            sigma = estimate_sigma(images, masks)
        output = fill(images, masks)
        for restore in restorers:
            output = restore(output, kernels, sigma)
        return output

    return run
