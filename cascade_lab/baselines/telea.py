"""Telea's fast marching fill, what OpenCV's users reach for first."""

import numpy as np
from torch import Tensor

from cascade_lab.baselines.interface import fill_each, optional, to_bytes


def telea(images: Tensor, masks: Tensor, radius: float = 3) -> Tensor:
    """Fill each hole from its border inwards with weighted means of the known pixels near by.

    OpenCV works on 8-bit values, so the hole has 256 levels; the known pixels do not pass through it.

    Args:
        images: (N, 3, H, W) in [0, 1].
        masks: (N, 1, H, W), 1 where pixels are missing.
        radius: of the neighborhood that is averaged, in pixels.

    Returns:
        (N, 3, H, W); known pixels as they were.

    Raises:
        ImportError: if OpenCV is not installed.

    Source: Telea, An image inpainting technique based on the fast marching method (2004), as in OpenCV.
    """
    cv2 = optional("cv2")

    def fill(image: np.ndarray, hole: np.ndarray) -> np.ndarray:
        return cv2.inpaint(to_bytes(image), hole.astype(np.uint8), radius, cv2.INPAINT_TELEA) / 255

    return fill_each(images, masks, fill)
