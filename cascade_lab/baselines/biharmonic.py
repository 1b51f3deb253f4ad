"""The biharmonic fill: goes on with the slope, not only with the value, of what borders the hole."""

import numpy as np
from torch import Tensor

from cascade_lab.baselines.interface import fill_each


def biharmonic(images: Tensor, masks: Tensor) -> Tensor:
    """Fill each hole with scikit-image's solution of the biharmonic equation, channel by channel.

    Args:
        images: (N, 3, H, W) in [0, 1].
        masks: (N, 1, H, W), 1 where pixels are missing.

    Returns:
        (N, 3, H, W); known pixels as they were, the hole clipped to their range.

    Source: Damelin and Hoang, On surface completion and image inpainting by biharmonic functions (2018), as in
    ``skimage.restoration.inpaint_biharmonic``.
    """
    from skimage.restoration import inpaint_biharmonic

    def fill(image: np.ndarray, hole: np.ndarray) -> np.ndarray:
        return inpaint_biharmonic(image, hole, channel_axis=-1)

    return fill_each(images, masks, fill)
