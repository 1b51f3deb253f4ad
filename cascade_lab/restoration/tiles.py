"""Blur and noise taken off a photo of any size.

The deblurring-denoising network sees 8 px around a pixel and no farther, so tiles that overlap by that much give
exactly what the whole photo would.
"""

import copy
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cascade_core.conventions import from_pixels, to_pixels
from cascade_core.models import DeblurDenoiseNet
from cascade_lab import devices

REACH = 8  # px around a pixel that the network sees: one for each of its 3x3 convolutions
TILE = 256  # px, side of what is deblurred at a time


def count_tiles(height: int, width: int) -> int:
    """
    >>> count_tiles(256, 257)
    2
    """
    return -(-height // TILE) * -(-width // TILE)


@torch.no_grad()
def deblurred(photo: np.ndarray, network: DeblurDenoiseNet) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Rows, columns and bytes of each tile, deblurred; the caller may write them into the photo at once."""
    height, width = photo.shape[:2]
    clean, device = quick(network), next(network.parameters()).device
    above = photo[:0]
    for top in range(0, height, TILE):
        bottom, y = min(height, top + TILE), top - len(above)
        strip = np.concatenate([above, photo[top : bottom + REACH]])  # a copy: the tiles are written over
        above = photo[bottom - REACH : bottom].copy()
        for left in range(0, width, TILE):
            right, x = min(width, left + TILE), max(0, left - REACH)
            part = from_pixels(strip[:, x : right + REACH]).to(device)
            pixels = to_pixels(clean(part))[0][top - y : bottom - y, left - x : right - x]
            yield slice(top, bottom), slice(left, right), pixels


def quick(network: DeblurDenoiseNet) -> Callable[[Tensor], Tensor]:
    """The network in eval mode, made ready to go over a photo in less time.

    Batch norm becomes a part of the convolution before it, and the channels of a pixel lie side by side. Where the
    hardware computes in bfloat16, so is what the network takes off the photo; it is taken off in 32 bits. That moves
    the result by a quarter of a gray level (root mean square) at most, as measured at the strongest blur and noise.
    """
    low = devices.best_precision("auto", next(network.parameters()).device) == "bf16-mixed"
    ready = copy.deepcopy(network).eval()
    for layer in (*ready.encoder[1:], *ready.decoder):
        layer[0], layer[1] = fuse_conv_bn_eval(layer[0], layer[1]), nn.Identity()
    ready.to(torch.bfloat16 if low else torch.float32).to(memory_format=torch.channels_last)

    def clean(images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=low):
            return ready(images.contiguous(memory_format=torch.channels_last))

    return clean
