"""What degrades a photo: blur, then noise, then a hole.

Everything works on a whole batch and draws afresh for every image, from the `torch.Generator` that is passed in, on its
device: one seed gives one batch, wherever the photos are. Shapes and ranges are those of `cascade_core.conventions`,
but images may have any number of channels; kernels are odd in size, non-negative and centered. Each function raises
`ValueError` for shapes that do not fit and for values out of the range that it names.
"""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from scipy.fft import next_fast_len
from torch import Tensor

from cascade_core.conventions import check_tensor

Device = torch.device | str

HOLE_COLOR = (117 / 255, 104 / 255, 123 / 255)  # RGB of the hole in Context Encoders (Pathak et al. 2016, train.lua)
KERNEL_SIZE = 21  # px: holds the longest motion of LEVELS, and 3 standard deviations of its widest Gaussian


class Level(NamedTuple):
    """How strongly a photo is degraded: for every image each value is drawn uniformly from its range."""

    sigma: tuple[float, float]  # standard deviation of the noise, 0-255 scale
    std: tuple[float, float]  # standard deviation of a Gaussian blur along either axis, px
    length: tuple[float, float]  # extent of a motion blur's path, px


# The paper names no strengths. KAIR trains with sigma 0-50 (options/train_dpsr.json), Gaussians of variance 0.6-10
# (utils_sisr.py), and motion of 5-27 px (utils_deblur.py): here in three bands, and motion of at most 20 px.
LEVELS = {
    "none": Level((0, 0), (0, 0), (0, 0)),
    "low": Level((5, 15), (0.6, 1.0), (3, 7)),
    "medium": Level((15, 30), (1.0, 2.0), (7, 13)),
    "high": Level((30, 50), (2.0, 3.2), (13, 20)),
}


class Degraded(NamedTuple):
    """The degraded photos, and what degraded them."""

    images: Tensor  # (N, C, H, W), not clipped
    masks: Tensor  # (N, 1, H, W), 1 where pixels are missing
    kernels: Tensor  # (N, 1, k, k)
    sigma: Tensor  # (N,), 0-255 scale


def center_hole(n: int, height: int, width: int, hole: int | None = None, device: Device = "cpu") -> Tensor:
    """Masks with the same square hole in the middle; an odd margin is larger below and to the right.

    Args:
        hole: side in px; ``None`` takes 56/128 of the shorter side, what Context Encoders hide.

    Returns:
        ``(n, 1, height, width)``.
    """
    hole = round(min(height, width) * 56 / 128) if hole is None else hole
    if not 0 < hole <= min(height, width):
        raise ValueError(f"a hole of {hole}x{hole} px does not fit a photo of {height}x{width} px")
    masks = torch.zeros(n, 1, height, width, device=device)
    top, left = (height - hole) // 2, (width - hole) // 2
    masks[..., top : top + hole, left : left + hole] = 1
    return masks


def gaussian_kernels(std: Tensor, angle: Tensor, size: int) -> Tensor:
    """Anisotropic Gaussian kernels, sampled at the pixels' centers and cut off at 4 standard deviations.

    Args:
        std: ``(N, 2)``, standard deviations along a kernel's two axes in px, as in `scipy.ndimage.gaussian_filter`;
            (0, 0) is the exact delta, and much below 0.5 px a sampled Gaussian blurs less than its number says.
        angle: ``(N,)`` in radians, turns the first axis from along a row (0) to along a column (pi/2).
        size: of the kernels in px, odd.

    Returns:
        ``(N, 1, size, size)``.

    Example:
        >>> gaussian_kernels(torch.tensor([[1.0, 0.5]]), torch.zeros(1), 3)[0, 0]
        tensor([[0.0292, 0.0481, 0.0292],
                [0.2157, 0.3556, 0.2157],
                [0.0292, 0.0481, 0.0292]])
    """
    _check_size(size)
    check_tensor(std, "std", ("N", 2))
    check_tensor(angle, "angle", (len(std),))
    _check_range(std, "std", math.inf)
    x = torch.arange(size, device=std.device) - size // 2
    y = x[:, None]
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    # 1e-3 px stands in for 0: every pixel but the middle one is then beyond 4 standard deviations.
    first, second = std.clamp(min=1e-3)[:, :, None, None].unbind(1)
    squared = ((x * cos + y * sin) / first) ** 2 + ((y * cos - x * sin) / second) ** 2
    return _normalized(torch.exp(-squared / 2) * (squared <= 16))


def motion_kernels(length: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Kernels of a camera moving along a random smooth path.

    The velocity is a random constant plus seven terms of a random walk's cosine (Karhunen-Loeve) series. The path is
    centered on its mean, so the blur does not shift the photo; its points count in four pixels each, bilinearly.

    Args:
        length: ``(N,)``, twice the distance of the path's farthest point from its mean, px. 0 is the exact delta.
        size: of the kernels in px, odd and larger than each length.

    Returns:
        ``(N, 1, size, size)``.
    """
    _check_size(size)
    check_tensor(length, "length", ("N",))
    _check_range(length, "length", size - 1)
    points, terms = 256, 8  # on a path of 20 px neighboring points lie half a px apart at most
    draw = torch.randn(len(length), 2, terms, generator=generator, device=generator.device).to(length)
    time = (torch.arange(points, device=length.device) + 0.5) / points
    k = torch.arange(1, terms, device=length.device)[:, None]
    # The integrals over time of the velocities 1 and sqrt(2) cos(pi k t) / k.
    basis = torch.cat([time[None], math.sqrt(2) * (math.pi * k * time).sin() / (math.pi * k**2)]).to(length)
    path = draw @ (basis - basis.mean(1, keepdim=True))  # (N, 2, points)
    path = path * (length / 2 / path.norm(dim=1).amax(1))[:, None, None]
    pixels = torch.arange(size, device=length.device) - size // 2
    weights = (1 - (path[..., None] - pixels).abs()).clamp(min=0)  # (N, 2, points, size)
    return _normalized(weights[:, 1].mT @ weights[:, 0])


def blur(images: Tensor, kernels: Tensor) -> Tensor:
    """Convolve each photo with its kernel, mirrored beyond its border (the border not repeated).

    Args:
        images: ``(N, C, H, W)``.
        kernels: ``(N, 1, k, k)``, or ``(1, 1, k, k)`` for all.

    Returns:
        ``(N, C, H, W)``; a photo whose kernel is the exact delta comes back bit for bit.
    """
    check_tensor(images, "images", ("N", "C", "H", "W"))
    n, (height, width), size = len(images), images.shape[-2:], kernels.shape[-1]
    check_tensor(kernels, "kernels", (1 if len(kernels) == 1 else n, 1, size, size))
    _check_size(size)
    if min(height, width) <= size // 2:
        raise ValueError(f"kernels of {size} px need photos of over {size // 2} px, got {height}x{width}")
    convolve = _convolve_directly if images.device.type == "cpu" else _convolve_by_fourier
    return convolve(images, kernels.to(images).expand(n, -1, -1, -1))


def _convolve_directly(images: Tensor, kernels: Tensor) -> Tensor:
    """For a CPU: a grouped convolution takes time by the kernels' area, so photos blurred alike go together."""
    center, channels = kernels.shape[3] // 2, images.shape[1]
    offset = (torch.arange(kernels.shape[3]) - center).abs()
    reach = (torch.maximum(offset, offset[:, None]) * (kernels != 0)).amax((1, 2, 3))
    blurred = torch.empty_like(images)
    for part in reach.argsort().chunk(4):
        rim = int(reach[part].amax())
        middle = slice(center - rim, center + rim + 1)
        weights = kernels[part, :, middle, middle].flip(2, 3).repeat_interleave(channels, 0)
        padded = F.pad(images[part], (rim, rim, rim, rim), mode="reflect").flatten(0, 1)
        blurred[part] = F.conv2d(padded[None], weights, groups=len(weights)).view(-1, channels, *images.shape[2:])
    return blurred


def _convolve_by_fourier(images: Tensor, kernels: Tensor) -> Tensor:
    """For a GPU: takes the same time for any kernel, and never waits for the kernels' values."""
    rim, (height, width) = kernels.shape[3] // 2, images.shape[-2:]
    padded = F.pad(images, (rim, rim, rim, rim), mode="reflect")
    shape = [next_fast_len(side, real=True) for side in padded.shape[-2:]]
    spectrum = torch.fft.rfft2(padded, s=shape) * torch.fft.rfft2(kernels, s=shape)
    blurred = torch.fft.irfft2(spectrum, s=shape)
    blurred = blurred[..., 2 * rim : 2 * rim + height, 2 * rim : 2 * rim + width]  # before that it has wrapped around
    return torch.where(kernels.amax((2, 3), keepdim=True) < 1, blurred, images)


def add_noise(images: Tensor, sigma: float | Tensor, generator: torch.Generator) -> Tensor:
    """Add white Gaussian noise, drawn afresh for every value of every image.

    Args:
        images: ``(N, C, H, W)``.
        sigma: its standard deviation on the 0-255 scale, one for all or ``(N,)``.

    Returns:
        ``(N, C, H, W)``, not clipped, as a camera would: clipped noise is no longer Gaussian near black and white.
    """
    check_tensor(images, "images", ("N", "C", "H", "W"))
    levels = torch.as_tensor(sigma, dtype=images.dtype)
    check_tensor(levels, "sigma", (len(images),) if levels.ndim else ())
    _check_range(levels, "sigma", math.inf)
    noise = torch.randn(images.shape, generator=generator, device=generator.device, dtype=images.dtype)
    return torch.addcmul(images, noise.to(images.device), (levels.to(images.device) / 255).view(-1, 1, 1, 1))


def apply_mask(images: Tensor, masks: Tensor, color: Sequence[float] = HOLE_COLOR) -> Tensor:
    """Paint the missing pixels of ``(N, C, H, W)`` in one color, a value in [0, 1] for every channel."""
    check_tensor(images, "images", ("N", "C", "H", "W"))
    check_tensor(masks, "masks", (len(images), 1, *images.shape[2:]))
    if len(color) != images.shape[1]:
        raise ValueError(f"images of {images.shape[1]} channels need a color of as many values, got {tuple(color)}")
    paint = _constant(tuple(color), images.device).to(images.dtype)
    return torch.where(masks.to(images.device) > 0.5, paint[:, None, None], images)


def sample(
    levels: Mapping[str, float], n: int, generator: torch.Generator, device: Device = "cpu"
) -> tuple[Tensor, Tensor]:
    """Draw blur kernels and noise levels for n photos.

    Each photo gets one of `LEVELS`, its strengths, and by a fair coin a motion or a Gaussian blur (as in KAIR).

    Args:
        levels: the share of each level, by its name.

    Returns:
        Kernels ``(n, 1, KERNEL_SIZE, KERNEL_SIZE)`` and sigma ``(n,)``.
    """
    unknown = [name for name in levels if name not in LEVELS]
    if unknown:
        raise ValueError(f"no level {unknown[0]!r}; there are {', '.join(LEVELS)}")
    if min(levels.values(), default=0) < 0 or not math.isclose(sum(levels.values()), 1, abs_tol=1e-6):
        raise ValueError(f"the levels' shares must not be negative and must sum to 1, got {dict(levels)}")
    names = [name for name, share in levels.items() if share > 0]
    ends = _constant(tuple(levels[name] for name in names), device).cumsum(0)
    ranges = _constant(tuple(LEVELS[name] for name in names), device)  # (levels, 3, 2)
    which, angle, coin, *draws = torch.rand(7, n, generator=generator, device=generator.device).to(device)
    low, high = ranges[torch.bucketize(which, ends[:-1])].unbind(2)  # (n, 3) each
    sigma, first, second, length = (
        torch.lerp(low[:, i], high[:, i], draw) for i, draw in zip((0, 1, 1, 2), draws, strict=True)
    )
    gaussian = gaussian_kernels(torch.stack([first, second], 1), math.pi * angle, KERNEL_SIZE)
    motion = motion_kernels(length, KERNEL_SIZE, generator)
    return torch.where(coin[:, None, None, None] < 0.5, motion, gaussian), sigma


def degrade(
    images: Tensor,
    masks: Tensor | None,
    levels: Mapping[str, float],
    generator: torch.Generator,
    color: Sequence[float] = HOLE_COLOR,
) -> Degraded:
    """Degrade photos in the order in which a camera and then an accident do: blur, noise, hole.

    Args:
        images: ``(N, C, H, W)`` in [0, 1].
        masks: ``(N, 1, H, W)``; ``None`` makes no hole.
        levels: of blur and noise, for `sample`.
        color: of the hole.

    Example:
        >>> photos, levels = torch.rand(2, 3, 64, 64), {"low": 0.5, "high": 0.5}
        >>> degraded = degrade(photos, center_hole(2, 64, 64), levels, torch.Generator())
        >>> degraded.kernels.shape
        torch.Size([2, 1, 21, 21])
    """
    check_tensor(images, "images", ("N", "C", "H", "W"))
    if masks is None:
        masks = images.new_zeros(len(images), 1, *images.shape[2:])
    kernels, sigma = sample(levels, len(images), generator, images.device)
    noisy = add_noise(blur(images, kernels), sigma, generator)
    return Degraded(apply_mask(noisy, masks.to(images), color), masks.to(images), kernels, sigma)


def _normalized(kernels: Tensor) -> Tensor:
    """(N, k, k) to (N, 1, k, k) that sum to 1."""
    return (kernels / kernels.sum((1, 2), keepdim=True))[:, None]


@lru_cache(maxsize=64)
def _constant(values: tuple[Any, ...], device: Device) -> Tensor:
    """A small tensor that is moved to its device once: a move in each step would make the host wait for the device."""
    return torch.tensor(values, dtype=torch.float32, device=device)


def _check_size(size: int) -> None:
    if size < 1 or size % 2 == 0:
        raise ValueError(f"a kernel's size must be odd, or it has no center, got {size}")


def _check_range(values: Tensor, name: str, most: float) -> None:
    """Values from 0 to ``most``. Only the host's are looked at: those on a device were drawn there, in a training."""
    if values.device.type == "cpu" and not ((values >= 0) & (values <= most)).all():
        raise ValueError(f"{name} must be from 0 to {most:g}, got {values}")
