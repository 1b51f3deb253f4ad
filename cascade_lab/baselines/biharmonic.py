"""The biharmonic fill: goes on with the slope, not only with the value, of what borders the hole."""

from functools import partial

from skimage import restoration
from torch import Tensor

from cascade_lab.baselines.interface import fill_each


def biharmonic(images: Tensor, masks: Tensor) -> Tensor:
    """An `Inpainter`: scikit-image's solution of the biharmonic equation, clipped to the known pixels' range.

    Source: Damelin and Hoang, On surface completion and image inpainting by biharmonic functions (2018).
    """
    return fill_each(images, masks, partial(restoration.inpaint_biharmonic, channel_axis=-1))
