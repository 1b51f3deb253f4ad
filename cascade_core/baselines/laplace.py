"""The harmonic fill: the smoothest surface through the hole's border. It has no parameter."""

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import splu
from torch import Tensor

from .interface import hide


def laplace(images: Tensor, masks: Tensor) -> Tensor:
    """Fill each hole with the exact solution of the discrete Laplace equation, channel by channel.

    Inside the hole each pixel is the mean of its four neighbors, the known pixels are the boundary values. At
    the photo's own border the pixel has only the neighbors that exist (a Neumann condition: no slope across
    the border), so the hole may touch it. The matrix depends on the mask alone and is factorized once for all
    images of the batch that share it.

    Args:
        images: (N, 3, H, W) in [0, 1].
        masks: (N, 1, H, W), 1 where pixels are missing; any shape of hole.

    Returns:
        (N, 3, H, W); known pixels as they were, the hole within their range.

    Example:
        >>> images = torch.linspace(0, 1, 5).expand(1, 3, 5, 5)
        >>> masks = torch.zeros(1, 1, 5, 5)
        >>> masks[..., 1:4, 1:4] = 1
        >>> torch.allclose(laplace(images, masks), images)
        True
    """
    known, missing = hide(images, masks)
    n, channels, height, width = images.shape
    pixels = known.detach().flatten(2).cpu().double().numpy()  # (N, 3, HW)
    distinct, of_image = torch.unique(missing.flatten(1).cpu(), dim=0, return_inverse=True)
    graph = laplacian(height, width)
    for index, hole in enumerate(distinct.numpy()):
        if not hole.any():
            continue
        rows = graph[hole]
        # The matrix is symmetric and positive definite: an order made for such matrices, and no pivoting.
        factor = splu(rows[:, hole].tocsc(), permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})
        chosen = np.flatnonzero(of_image.numpy() == index)
        context = pixels[chosen][..., ~hole].reshape(-1, (~hole).sum())
        solution = factor.solve(-(rows[:, ~hole] @ context.T)).T
        pixels[np.ix_(chosen, range(channels), np.flatnonzero(hole))] = solution.reshape(len(chosen), channels, -1)
    return torch.where(missing, torch.from_numpy(pixels).view(images.shape).to(images), images)


def laplacian(height: int, width: int) -> sparse.csr_array:
    """Laplacian of a grid of pixels: (HW, HW), the number of neighbors less the sum over them."""

    def line(length: int) -> sparse.dia_array:
        degree = np.full(length, 2.0)
        degree[0] -= 1
        degree[-1] -= 1
        side = -np.ones(length - 1)
        return sparse.diags_array([side, degree, side], offsets=[-1, 0, 1])

    return sparse.csr_array(
        sparse.kron(sparse.eye_array(height), line(width)) + sparse.kron(line(height), sparse.eye_array(width))
    )
