"""Nearest neighbors: the hole is copied from the training crops whose context looks most alike."""

import torch
from torch import Tensor

from cascade_core.fills import hide


class KNearest:
    """Fills a hole with the mean of the same pixels of the k training crops nearest in what is known.

    Near means a small sum of squared differences over the known pixels and the three channels, crop and image
    laid on each other as they are. The paper implements its own and says no more; this is the plain reading.
    The search is exact: distances are two matrix products for each chunk of crops, on the images' device.

    Args:
        crops: (M, 3, H, W) training crops, uint8 or floats in [0, 1]. They stay as they are, where they are:
            12,000 crops of 128 px take 590 MB as uint8.
        k: how many crops are averaged.
        chunk: crops compared at once; 256 crops of 128 px take 50 MB as float32.

    Raises:
        ValueError: if the crops have another shape or type, k is not in 1 ... M, or the images are of another size.

    Example:
        >>> crops = torch.rand(8, 3, 6, 6, generator=torch.Generator().manual_seed(0))
        >>> masks = torch.zeros(1, 1, 6, 6)
        >>> masks[..., 2:4, 2:4] = 1
        >>> fill = KNearest(crops, k=1)
        >>> torch.equal(fill(crops[5:6] * (1 - masks), masks), crops[5:6])
        True
    """

    def __init__(self, crops: Tensor, k: int = 1, chunk: int = 256) -> None:
        if crops.ndim != 4 or crops.shape[1] != 3:
            raise ValueError(f"crops must have the shape (M, 3, H, W), got {tuple(crops.shape)}")
        if crops.dtype != torch.uint8 and not crops.is_floating_point():
            raise ValueError(f"crops must be uint8 or floats in [0, 1], got {crops.dtype}")
        if not 1 <= k <= len(crops):
            raise ValueError(f"k must be between 1 and the number of crops, {len(crops)}, got {k}")
        self.crops, self.k, self.chunk = crops, k, chunk

    def __call__(self, images: Tensor, masks: Tensor) -> Tensor:
        """Fill images (N, 3, H, W) in [0, 1] under masks (N, 1, H, W); known pixels stay as they were."""
        known, missing = hide(images, masks)
        if images.shape[2:] != self.crops.shape[2:]:
            raise ValueError(
                f"images must have the crops' size {tuple(self.crops.shape[2:])}, got {tuple(images.shape[2:])}"
            )
        nearest = self.search(known, missing)
        filled = images.clone()
        for index, crops in enumerate(nearest):
            filled[index] = self.as_floats(self.crops[crops.to(self.crops.device)], images).mean(dim=0)
        return torch.where(missing, filled, images)

    def search(self, known: Tensor, missing: Tensor) -> Tensor:
        """Indices (N, k) of the nearest crops, nearest first."""
        context = (~missing).float().flatten(1)  # (N, HW)
        # Gray is taken for zero: numbers nearer 0 lose less to rounding in |crop|^2 - 2 crop . image.
        target = ((known.float() - 0.5) * ~missing).flatten(1)  # (N, 3HW)
        best = target.new_full((len(target), self.k), torch.inf)
        nearest = torch.zeros(best.shape, dtype=torch.long, device=target.device)
        for start in range(0, len(self.crops), self.chunk):
            crops = self.as_floats(self.crops[start : start + self.chunk], known).float() - 0.5
            energy = crops.square().sum(dim=1).flatten(1)  # (chunk, HW)
            # |image|^2 is left out: it is the same for all crops.
            distance = context @ energy.T - 2 * target @ crops.flatten(1).T  # (N, chunk)
            index = torch.arange(start, start + len(crops), device=target.device).expand_as(distance)
            best, order = torch.cat([best, distance], dim=1).topk(self.k, dim=1, largest=False)
            nearest = torch.cat([nearest, index], dim=1).gather(1, order)
        return nearest

    @staticmethod
    def as_floats(crops: Tensor, like: Tensor) -> Tensor:
        """uint8 or float crops -> floats in [0, 1], with the type and on the device of `like`."""
        return crops.to(like) / 255 if crops.dtype == torch.uint8 else crops.to(like)
