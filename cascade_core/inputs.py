"""What the generator finds in the hole: the paper's constant color, or a start that says more."""

import torch
from torch import Tensor

from .baselines.laplace import laplace
from .models import STARTS


def started(images: Tensor, masks: Tensor, start: str) -> Tensor:
    """The generator's input.

    Args:
        images: ``(N, 3, H, W)``, a color in the holes.
        masks: ``(N, 1, H, W)``, 1 where pixels are missing.
        start: ``"color"`` leaves the images as they are; ``"laplace"`` puts the Laplace fill into the holes;
            ``"laplace and mask"`` also lays the masks behind the colors, as a fourth channel.

    Returns:
        ``(N, 3, H, W)``, or with the mask ``(N, 4, H, W)``.

    Raises:
        ValueError: no such start.

    Example:
        >>> started(torch.rand(1, 3, 8, 8), torch.zeros(1, 1, 8, 8), "laplace and mask").shape
        torch.Size([1, 4, 8, 8])
    """
    if start not in STARTS:
        raise ValueError(f"unknown start {start!r}; the starts are {', '.join(STARTS)}")
    if start == "color":
        return images
    filled = laplace(images, masks)
    return filled if start == "laplace" else torch.cat([filled, masks.to(filled)], dim=1)
