"""Telea's fast marching fill, what OpenCV's users reach for first."""

import numpy as np
from torch import Tensor

from cascade_lab.baselines.interface import fill_each, optional

RADIUS = 3  # px, of the neighborhood that is averaged


def telea(images: Tensor, masks: Tensor) -> Tensor:
    """An `Inpainter`: weighted means of the known pixels near by, from the hole's border inwards, in 256 levels.

    Raises:
        ImportError: OpenCV is not installed.

    Source: Telea, An image inpainting technique based on the fast marching method (2004), as in OpenCV.
    """
    cv2 = optional("cv2")
    return fill_each(
        images,
        masks,
        lambda image, hole: cv2.inpaint(image, hole.astype(np.uint8), RADIUS, cv2.INPAINT_TELEA),
        as_bytes=True,
    )
