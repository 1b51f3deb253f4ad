"""PSNR and SSIM over named regions, and bootstrap intervals.

Both are taken on 8-bit values, as an image file would hold them (clipped to [0, 1], times 255, rounded), and equal
scikit-image's on uint8 images. Values are one an image, ``(N,)`` float64, on the images' device.

Each function raises `ValueError` for shapes that do not fit, for images that are not floats in [0, 1], and where there
is no pixel to measure.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import bootstrap
from torch import Tensor

from cascade_core.conventions import check_tensor

# The primary protocol's, on 128 px center crops with a 56 px hole. Only SSIM differs between raw and composited.
PRIMARY = ("psnr_hole", "ssim_whole", "ssim_whole_composited")

RADIUS = 5  # of the SSIM window: 11 taps, as in Wang et al. (2004)
_GAUSSIAN = [math.exp(-(offset**2) / (2 * 1.5**2)) for offset in range(-RADIUS, RADIUS + 1)]
WINDOW = [weight / sum(_GAUSSIAN) for weight in _GAUSSIAN]
RESAMPLES = 10_000  # of the bootstrap
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def regions(masks: Tensor, rim: int = 7) -> dict[str, Tensor]:
    """The named regions of a batch of holes: "hole", "rim", "context" (the known pixels) and "whole".

    The rim is the hole's pixels with a known pixel at most ``rim`` rows and columns away: an SSIM window centered there
    mostly straddles the hole's border, where a seam shows. 7 px is Context Encoders' overlap (Pathak et al. 2016).

    Args:
        masks: ``(N, 1, H, W)``, 1 where pixels are missing.
        rim: width in px.

    Returns:
        For each region ``(N, 1, H, W)``, 1 where a pixel belongs to it.
    """
    hole = masks.float()
    check_tensor(hole, "masks", ("N", 1, "H", "W"))
    near_known = F.max_pool2d(1 - hole, 2 * rim + 1, stride=1, padding=rim)  # beyond the image nothing is known
    return {"hole": hole, "rim": hole * near_known, "context": 1 - hole, "whole": torch.ones_like(hole)}


def composite(output: Tensor, known: Tensor, masks: Tensor) -> Tensor:
    """``output`` inside the hole, ``known`` outside it; images ``(N, 3, H, W)``, masks ``(N, 1, H, W)``."""
    return torch.where(masks > 0.5, output, known)


@torch.no_grad()
def psnr(output: Tensor, target: Tensor, region: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio in dB: 10 log10(255^2 / MSE) over region and channels.

    Args:
        output, target: ``(N, 3, H, W)`` in [0, 1]; what lies outside is clipped.
        region: ``(N, 1, H, W)``, 1 inside; ``None`` for the whole image.

    Returns:
        ``(N,)``; infinite for two images that are equal in the region.

    Example:
        >>> gray = torch.full((1, 3, 8, 8), 0.5)
        >>> round(psnr(gray + 0.1, gray).item(), 2)  # 153 and 128 of 255
        20.17
    """
    _check(output, target)
    return _decibels(_average(_squared_error(output, target), region))


@torch.no_grad()
def ssim(output: Tensor, target: Tensor, region: Tensor | None = None) -> Tensor:
    """Structural similarity (Wang et al. 2004): the mean of `ssim_map` over the windows centered in a region.

    It equals scikit-image's ``structural_similarity(..., gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False, data_range=255, channel_axis=...)`` on uint8 images. The outermost 5 px are not the
    center of a window and do not count; torchmetrics and kornia's "same" mirror the image there and read higher.

    Args and Returns are those of `psnr`; images smaller than the window are refused, too.
    """
    return _average(ssim_map(output, target), region)


@torch.no_grad()
def ssim_map(output: Tensor, target: Tensor) -> Tensor:
    """Structural similarity of each 11 px Gaussian window (sigma 1.5), mean of the channels.

    The moments are float64: in float32, E[x^2] - E[x]^2 of 8-bit values errs by up to 1e-5.
    Args are those of `psnr`.

    Returns:
        ``(N, H - 10, W - 10)``.
    """
    _check(output, target)
    if min(output.shape[-2:]) <= 2 * RADIUS:
        raise ValueError(f"SSIM's window is 11 px; these are {tuple(output.shape[-2:])}: give larger ones")
    # Four 128 px images at a time suit a processor's cache; a GPU wants more.
    pixels = 2**16 if output.device.type == "cpu" else 2**20
    count = max(1, pixels // (output.shape[-2] * output.shape[-1]))
    if len(output) > count:
        pairs = zip(torch.split(output, count), torch.split(target, count), strict=True)
        return torch.cat([ssim_map(*pair) for pair in pairs])
    x, y = _eight_bit(output), _eight_bit(target)
    # The two variances only occur as their sum, so four maps are enough.
    squares, product = (x * x).addcmul_(y, y), x * y
    x, y, squares, product = (_window_means(moment) for moment in (x, y, squares, product))
    means, mean_squares = x * y, x.square_().addcmul_(y, y)
    covariance, variances = product.sub_(means), squares.sub_(mean_squares)
    luminance = means.mul_(2).add_(C1).div_(mean_squares.add_(C1))
    structure = covariance.mul_(2).add_(C2).div_(variances.add_(C2))
    return luminance.mul_(structure).mean(1)


@torch.no_grad()
def measure(output: Tensor, target: Tensor, masks: Tensor) -> dict[str, Tensor]:
    """PSNR and SSIM over each of the four `regions`, of the output as it is and composited with the true context.

    Args:
        output, target: ``(N, 3, H, W)`` in [0, 1].
        masks: ``(N, 1, H, W)``, 1 where pixels are missing.

    Returns:
        ``(N,)`` for psnr_hole, ssim_hole, psnr_rim, ... ssim_whole, and for each with the suffix ``_composited``.
        psnr_whole_composited is psnr_hole plus 7.18 dB for 56 px in 128 px; psnr_context_composited is infinite.
    """
    _check(output, target)
    named, result = regions(masks), {}
    for suffix, image in (("", output), ("_composited", composite(output, target, masks))):
        error, similarity = _squared_error(image, target), ssim_map(image, target)
        for name, region in named.items():
            result[f"psnr_{name}{suffix}"] = _decibels(_average(error, region))
            result[f"ssim_{name}{suffix}"] = _average(similarity, region)
    return result


class Interval(NamedTuple):
    """A mean over n images with its 95 % interval; format it as a float: ``f"{interval:.2f}"``."""

    mean: float
    low: float
    high: float
    n: int

    def __format__(self, spec: str) -> str:
        if math.isnan(self.low):
            return format(self.mean, spec)
        return f"{self.mean:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


def mean_interval(values: Tensor | Sequence[float], seed: int = 0) -> Interval:
    """The mean and its 95 % bootstrap interval over images (bias-corrected and accelerated, BCa; Efron 1987).

    It says how far the mean would move with other images of the same kind, not with another training run. It is NaN
    for a single value, and where a value is infinite or NaN.

    Args:
        values: ``(N,)``, N at least 1.
        seed: of the resamples.

    Example:
        >>> print(f"{mean_interval([18.1, 17.4, 19.0, 18.3, 16.9]):.3f}")
        17.940 [17.280, 18.540]
    """
    sample = torch.as_tensor(values, dtype=torch.float64).cpu().numpy()
    if sample.ndim != 1 or sample.size == 0:
        raise ValueError(f"values must be (N,) with N at least 1, not {sample.shape}")
    low = high = mean = float(sample.mean())
    if sample.size == 1 or not np.isfinite(mean):
        low = high = math.nan
    elif np.ptp(sample) > 0:  # BCa is undefined for a constant, whose mean is certain
        rng = np.random.default_rng(seed)
        low, high = bootstrap((sample,), np.mean, n_resamples=RESAMPLES, batch=1000, rng=rng).confidence_interval
    return Interval(mean, float(low), float(high), int(sample.size))


def paired_interval(a: Tensor, b: Tensor, seed: int = 0) -> Interval:
    """The mean of a - b and its interval, image by image: both ``(N,)``, of the same images in the same order.

    Images differ more than methods do: two separate intervals may overlap while this one excludes zero.
    """
    if a.shape != b.shape:
        raise ValueError(f"paired values must be of the same images: got {tuple(a.shape)} and {tuple(b.shape)}")
    return mean_interval(a - b, seed)


def _check(output: Tensor, target: Tensor) -> None:
    check_tensor(target, "the target", ("N", "C", "H", "W"))
    check_tensor(output, "the output", target.shape)
    for name, images in (("output", output), ("target", target)):
        if images.numel() and images.abs().max() > 8:  # noise overshoots [0, 1], but never by so much
            raise ValueError(f"the {name} has values up to {images.max():g}: images are in [0, 1], divide by 255")


def _eight_bit(images: Tensor) -> Tensor:
    return images.clamp(0, 1).to(torch.float64, memory_format=torch.contiguous_format).mul_(255).round_()


def _squared_error(output: Tensor, target: Tensor) -> Tensor:
    return (_eight_bit(output) - _eight_bit(target)).square_().mean(1)


def _decibels(error: Tensor) -> Tensor:
    return 10 * torch.log10(255**2 / error)


def _average(maps: Tensor, region: Tensor | None) -> Tensor:
    """The mean of maps (N, H', W') over a region (N, 1, H, W), cut down to the maps' center."""
    if region is None:
        return maps.mean((1, 2))
    margin = (region.shape[-1] - maps.shape[-1]) // 2
    inside = F.pad(region.double(), [-margin] * 4)[:, 0]
    if inside.shape != maps.shape:
        raise ValueError(f"the region's shape {tuple(region.shape)} is not that of the images with one channel")
    pixels = inside.sum((1, 2))
    if (pixels == 0).any():
        raise ValueError(f"no pixel to measure in the region of images {(pixels == 0).nonzero()[:, 0].tolist()}")
    return (maps * inside).sum((1, 2)) / pixels


def _window_means(maps: Tensor) -> Tensor:
    """Gaussian means (N, 3, H - 10, W - 10) of maps (N, 3, H, W)."""
    for dim in (-2, -1):
        size = maps.shape[dim] - 2 * RADIUS
        means = maps.narrow(dim, 0, size) * WINDOW[0]
        for tap in range(1, len(WINDOW)):  # torch's float64 convolution takes nearly twice as long
            means.add_(maps.narrow(dim, tap, size), alpha=WINDOW[tap])
        maps = means
    return maps
