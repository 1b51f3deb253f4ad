"""The color that costs least when nothing is known about the hole: the mean of what is around it."""

from torch import Tensor

from cascade_core.fills import hide


def mean(images: Tensor, masks: Tensor) -> Tensor:
    """An `Inpainter`: the mean color of the image's known pixels.

    Example:
        >>> import torch
        >>> images = torch.tensor([0.2, 0.9, 0.4]).expand(1, 3, 1, 3)
        >>> mean(images, torch.tensor([[[[0.0, 1.0, 0.0]]]]))[0, 0, 0]
        tensor([0.2000, 0.3000, 0.4000])
    """
    known, missing = hide(images, masks)
    count = (~missing).sum(dim=(2, 3), keepdim=True)
    return known.sum(dim=(2, 3), keepdim=True).div(count).where(missing, images)
