"""The biharmonic fill: goes on with the slope, not only with the value, of what borders the hole."""

from skimage import restoration
from torch import Tensor

from cascade_lab.baselines.interface import Array, fill_each


def biharmonic(images: Tensor, masks: Tensor) -> Tensor:
    """Fill each hole with scikit-image's solution of the biharmonic equation, clipped to the known pixels' range.

    Args:
        images, masks: as for every `Inpainter`.

    Source: Damelin and Hoang, On surface completion and image inpainting by biharmonic functions (2018).
    """

    def fill(image: Array, hole: Array) -> Array:
        return restoration.inpaint_biharmonic(image, hole, channel_axis=-1)

    return fill_each(images, masks, fill)
