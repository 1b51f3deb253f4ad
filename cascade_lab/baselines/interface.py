"""What every baseline takes and gives, and the checks and conversions that they share.

An inpainter is called as ``fill(images, masks)``, a restorer as ``restore(images, kernels=None, sigma=None)``;
both return images of the same shape, on the same device.
"""

import importlib
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from cascade_core.conventions import check_tensor
from cascade_core.fills import hide

Inpainter = Callable[[Tensor, Tensor], Tensor]


class Restorer(Protocol):
    """Removes blur, noise or both from images that have no hole."""

    def __call__(
        self, images: Tensor, kernels: Tensor | None = None, sigma: float | Tensor | None = None
    ) -> Tensor: ...


def optional(module: str) -> ModuleType:
    """Import a package that only some baselines need, or say how to get it.

    Raises:
        ImportError: if the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        message = f'this baseline needs {module}, which is not installed: pip install "cascade-core[baselines]"'
        raise ImportError(message) from error


def to_arrays(images: Tensor) -> np.ndarray:
    """(N, C, H, W) tensor, any device -> (N, H, W, C) float64 array, as scikit-image wants it."""
    return images.detach().permute(0, 2, 3, 1).cpu().double().numpy()


def to_tensor(arrays: Sequence[np.ndarray], like: Tensor) -> Tensor:
    """N arrays (H, W, 3) -> (N, 3, H, W) tensor with the type and on the device of `like`."""
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).to(like).contiguous()


def to_bytes(array: np.ndarray) -> np.ndarray:
    """Range [0, 1] -> uint8, rounded and clipped."""
    return np.rint(array.clip(0, 1) * 255).astype(np.uint8)


def fill_each(images: Tensor, masks: Tensor, fill: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Tensor:
    """Fill one image after the other with a function of arrays, and leave the known pixels as they were.

    Args:
        images: (N, 3, H, W) in [0, 1].
        masks: (N, 1, H, W), 1 where pixels are missing.
        fill: (H, W, 3) image with a black hole, (H, W) bool mask -> (H, W, 3) image.

    Returns:
        (N, 3, H, W).
    """
    known, missing = hide(images, masks)
    holes = missing[:, 0].cpu().numpy()
    filled = [fill(image, hole) if hole.any() else image for image, hole in zip(to_arrays(known), holes, strict=True)]
    return torch.where(missing, to_tensor(filled, images), images) if filled else images.clone()


def kernel_arrays(images: Tensor, kernels: Tensor | None) -> np.ndarray:
    """One blur kernel an image, (N, k, k) float64.

    Raises:
        ValueError: if there are none, or their shape is neither (N, 1, k, k) nor (1, 1, k, k) with k odd.
    """
    if kernels is None:
        raise ValueError("this method is non-blind: give it the kernels that the images were blurred with")
    n, k = len(images), kernels.shape[-1]
    if tuple(kernels.shape) not in ((n, 1, k, k), (1, 1, k, k)) or k % 2 == 0:
        raise ValueError(f"{n} images need kernels ({n}, 1, k, k) with k odd, got {tuple(kernels.shape)}")
    return kernels[:, 0].expand(n, k, k).detach().cpu().double().numpy()


def noise_levels(images: Tensor, sigma: float | Tensor | None) -> np.ndarray:
    """One noise level an image, in the images' own range [0, 1].

    Args:
        images: (N, 3, H, W).
        sigma: noise level on the 0-255 scale, one for all or (N,); None: estimated from the images.

    Returns:
        (N,) float64.

    Raises:
        ValueError: if sigma is negative, not finite, or not one an image.
    """
    if sigma is None:
        sigma = estimate_sigma(images)
    levels = torch.as_tensor(sigma, dtype=torch.float64).cpu()
    if levels.ndim > 1 or (levels.ndim == 1 and len(levels) != len(images)):
        raise ValueError(f"sigma must be one number or one for each of {len(images)} images, got {tuple(levels.shape)}")
    if not (levels.isfinite() & (levels >= 0)).all():
        raise ValueError(f"sigma must be 0 or more, got {levels.tolist()}")
    return (levels / 255).expand(len(images)).numpy()


def estimate_sigma(images: Tensor, masks: Tensor | None = None) -> Tensor:
    """Noise level of each image from the median of its finest diagonal wavelet coefficients.

    Blur before the noise does no harm: the noise added after it is still white. A hole in black leaves
    coefficients of exactly 0, which scikit-image leaves out, so the estimate is the context's.

    Args:
        images: (N, 3, H, W) in [0, 1].
        masks: (N, 1, H, W), 1 where pixels are missing; None: nothing is.

    Returns:
        (N,) on the 0-255 scale, the mean over the channels.

    Source: Donoho and Johnstone, Biometrika 81 (1994), section 4.2, as in scikit-image.
    """
    from skimage.restoration import estimate_sigma

    optional("pywt")
    if masks is None:
        check_tensor(images, "images", ("N", 3, "H", "W"))
    else:
        images, _ = hide(images, masks)
    planes = images.detach().flatten(0, 1).cpu().double().numpy()
    levels = [estimate_sigma(plane) if plane.any() else 0.0 for plane in planes]  # a black plane: no median
    return 255 * torch.tensor(levels, dtype=images.dtype, device=images.device).view(-1, 3).mean(dim=1)


def restore_each(images: Tensor, restore: Callable[..., np.ndarray], *values: np.ndarray) -> Tensor:
    """Restore one image after the other with a function of arrays; the result is clipped to [0, 1].

    Args:
        images: (N, 3, H, W).
        restore: (H, W, 3) image and its own item of each of `values` -> (H, W, 3) image.
        values: what else goes with each image, N items each.

    Returns:
        (N, 3, H, W) in [0, 1].
    """
    check_tensor(images, "images", ("N", 3, "H", "W"))
    restored = [restore(*items) for items in zip(to_arrays(images), *values, strict=True)]
    return to_tensor(restored, images).clamp(0, 1) if restored else images.clone()
