"""Telea's fast marching fill, what OpenCV's users reach for first."""

import numpy as np
from torch import Tensor

from cascade_lab.baselines.interface import Array, fill_each, optional

RADIUS = 3  # px, of the neighborhood that is averaged


def telea(images: Tensor, masks: Tensor) -> Tensor:
    """Fill each hole from its border inwards with weighted means of the known pixels near by.

    OpenCV works on bytes, so the hole has 256 levels; the known pixels do not pass through it.

    Args:
        images, masks: as for every `Inpainter`.

    Raises:
        ImportError: OpenCV is not installed.

    Source: Telea, An image inpainting technique based on the fast marching method (2004), as in OpenCV.
    """
    cv2 = optional("cv2")

    def fill(image: Array, hole: Array) -> Array:
        return cv2.inpaint(image, hole.astype(np.uint8), RADIUS, cv2.INPAINT_TELEA)

    return fill_each(images, masks, fill, as_bytes=True)
