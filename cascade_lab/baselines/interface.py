"""What every baseline takes and gives, and the checks and conversions that they share.

Both kinds return images of the same shape and type, on the same device; see `Inpainter` and `Restorer`.
"""

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any, Protocol

import torch
from numpy.typing import NDArray
from skimage import restoration
from torch import Tensor

from cascade_core.conventions import check_tensor, from_pixels, to_pixels
from cascade_core.fills import hide

Array = NDArray[Any]
Sigma = float | Tensor | None
Inpainter = Callable[[Tensor, Tensor], Tensor]
"""Called as ``fill(images, masks)``: images ``(N, 3, H, W)`` in [0, 1], of which it never reads what lies under the
masks ``(N, 1, H, W)``, 1 where pixels are missing. It returns the known pixels as they were, and raises ``ValueError``
for what `cascade_core.fills.hide` refuses.
"""


class Restorer(Protocol):
    """Removes blur, noise or both from images that have no hole.

    Args:
        images: ``(N, 3, H, W)``; noise may take values beyond [0, 1].
        kernels: ``(N, 1, k, k)`` with k odd, or ``(1, 1, k, k)`` for all: those that ``degradations.blur`` was given.
            The deblurring methods need them: they are non-blind, which no network of this project is, so a comparison
            with them is generous to them. The denoisers leave blur alone.
        sigma: noise level on the 0-255 scale, one for all or ``(N,)``; None: estimated. At 0 a denoiser does nothing.

    Returns:
        ``(N, 3, H, W)`` in [0, 1].

    Raises:
        ValueError: the images have another shape, a noise level is negative or not a number, or the noise levels or
            the kernels are not one for all or one for each image.
    """

    def __call__(self, images: Tensor, kernels: Tensor | None = None, sigma: Sigma = None) -> Tensor: ...


def optional(module: str) -> ModuleType:
    """Import a package that only some baselines need; without it, the ``ImportError`` says how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        message = f'this baseline needs {module}, which is not installed: pip install "cascade-core[baselines]"'
        raise ImportError(message) from error


def fill_each(images: Tensor, masks: Tensor, fill: Callable[[Array, Array], Array], as_bytes: bool = False) -> Tensor:
    """An `Inpainter` from a function of an image ``(H, W, 3)`` with a black hole and a mask ``(H, W)`` of bools.

    It fills one image after the other, in float64 from 0 to 1 or, with `as_bytes`, in bytes.
    """
    known, missing = hide(images, masks)
    arrays = to_pixels(known) if as_bytes else _to_arrays(known)
    for array, hole in zip(arrays, missing[:, 0].cpu().numpy(), strict=True):
        if hole.any():
            array[:] = fill(array, hole)
    filled = from_pixels(arrays) if as_bytes else _to_tensor(arrays)
    return torch.where(missing, filled.to(images), images)


def restore_each(images: Tensor, restore: Callable[..., Array], *values: Array) -> Tensor:
    """A `Restorer` from a function of an image ``(H, W, 3)`` in float64 and its own item of each of `values`.

    It restores one image after the other, and clips the result to [0, 1].
    """
    check_tensor(images, "images", ("N", 3, "H", "W"))
    arrays = _to_arrays(images)
    for array, *own in zip(arrays, *values, strict=True):
        array[:] = restore(array, *own)
    return _to_tensor(arrays).to(images).contiguous().clamp(0, 1)


def denoise_each(images: Tensor, sigma: Sigma, denoise: Callable[[Array, float], Array]) -> Tensor:
    """`restore_each` with a function of an image and its noise level in [0, 1], where that is not 0."""
    levels = noise_levels(images, sigma)
    return restore_each(images, lambda image, level: denoise(image, level) if level else image, levels)


def _to_arrays(images: Tensor) -> Array:
    """Not `conventions.to_pixels`: scikit-image calculates with values that are neither rounded nor clipped."""
    return images.detach().permute(0, 2, 3, 1).to("cpu", torch.float64, copy=True).numpy()


def _to_tensor(arrays: Array) -> Tensor:
    return torch.from_numpy(arrays).permute(0, 3, 1, 2)


def kernel_arrays(images: Tensor, kernels: Tensor | None) -> Array:
    """One blur kernel for each image, ``(N, k, k)``, checked as `Restorer` says."""
    if kernels is None:
        raise ValueError("this method is non-blind: give it the kernels that the images were blurred with")
    n, k = len(images), kernels.shape[-1]
    if tuple(kernels.shape) not in ((n, 1, k, k), (1, 1, k, k)) or k % 2 == 0:
        raise ValueError(f"{n} images need kernels ({n}, 1, k, k) with k odd, got {tuple(kernels.shape)}")
    return kernels[:, 0].expand(n, k, k).detach().cpu().double().numpy()


def noise_levels(images: Tensor, sigma: Sigma) -> Array:
    """One noise level for each image, ``(N,)`` in the images' own range [0, 1], checked as `Restorer` says."""
    levels = torch.as_tensor(estimate_sigma(images) if sigma is None else sigma, dtype=torch.float64).cpu()
    if levels.ndim > 1 or (levels.ndim == 1 and len(levels) != len(images)):
        raise ValueError(f"sigma must be one number or one for each of {len(images)} images, got {tuple(levels.shape)}")
    if not (levels.isfinite() & (levels >= 0)).all():
        raise ValueError(f"sigma must be 0 or more, got {levels.tolist()}")
    return (levels / 255).expand(len(images)).numpy()


def estimate_sigma(images: Tensor, masks: Tensor | None = None) -> Tensor:
    """Noise level of each image from the median of its finest diagonal wavelet coefficients.

    Blur before the noise does no harm: the noise added after it is still white. A black hole leaves coefficients of
    exactly 0, which scikit-image leaves out, so the estimate is the context's.

    Args:
        images: ``(N, 3, H, W)`` in [0, 1].
        masks: ``(N, 1, H, W)``, 1 where pixels are missing; None: nothing is.

    Returns:
        ``(N,)`` on the 0-255 scale, the mean over the channels.

    Raises:
        ImportError: PyWavelets is not installed.

    Source: Donoho and Johnstone, Biometrika 81 (1994), section 4.2, as in scikit-image.
    """
    optional("pywt")
    known, _ = hide(images, torch.zeros_like(images[:, :1]) if masks is None else masks)
    planes = known.detach().flatten(0, 1).cpu().double().numpy()
    levels = [restoration.estimate_sigma(plane) if plane.any() else 0.0 for plane in planes]  # black has no median
    return 255 * torch.tensor(levels, dtype=images.dtype, device=images.device).view(-1, 3).mean(dim=1)
