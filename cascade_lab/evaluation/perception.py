"""Measures of what an eye sees in a filled hole, beside PSNR, which prefers a blur; none was trained on here.

Images are ``(N, 3, H, W)`` in [0, 1], masks ``(N, 1, H, W)``, 1 where pixels are missing. PSNR and these pull apart:
Blau and Michaeli, The perception-distortion tradeoff (2018).
"""

import torch
from scipy.linalg import sqrtm
from torch import Tensor, nn
from torch.nn import functional as F

from cascade_core.conventions import check_tensor
from cascade_core.losses import PerceptualLoss
from cascade_lab import devices

RELU3_1 = 11  # index in VGG-16's `features`: a layer that the perceptual loss does not compare


def detail(images: Tensor, masks: Tensor) -> Tensor:
    """Gradient energy inside the hole: the mean square of the differences between neighboring pixels of the hole.

    Returns:
        ``(N,)``. A fill's over the photo's is its share of the true detail: about 0.05 for a mean of what is likely.

    Example:
        >>> stripes = torch.tensor([0.0, 1.0]).repeat(4).expand(1, 3, 8, 8)
        >>> detail(stripes, torch.ones(1, 1, 8, 8))
        tensor([0.5000])
    """
    check_tensor(images, "images", ("N", 3, "H", "W"))
    check_tensor(masks, "masks", (len(images), 1, *images.shape[2:]))
    total, count = images.new_zeros(len(images)), images.new_zeros(len(images))
    for dim in (2, 3):
        size = images.shape[dim] - 1
        inside = masks.narrow(dim, 0, size) * masks.narrow(dim, 1, size)
        total += (images.diff(dim=dim).square() * inside).mean(1).sum((1, 2))
        count += inside.sum((1, 2, 3))
    return total / count


def detail_share(filled: Tensor, photos: Tensor, masks: Tensor) -> float:
    """A method's share of the true detail: mean `detail` of its fills over that of the photos. 1 is right."""
    return (detail(filled, masks).mean() / detail(photos, masks).mean()).item()


def radial_spectrum(squares: Tensor) -> Tensor:
    """Mean power of square images by spatial frequency, under a Hann window, their mean taken off.

    Returns:
        ``(side // 2,)``: entry k is the mean over the frequencies of k to k + 1 periods a side, channels and images.
    """
    n, _, side, width = squares.shape
    if side != width:
        raise ValueError(f"the spectrum is taken of squares, got {side}x{width} px")
    window = torch.hann_window(side, periodic=False, device=squares.device)
    centered = squares - squares.mean((2, 3), keepdim=True)
    power = torch.fft.fft2(centered * window * window[:, None]).abs().square().mean((0, 1))
    along = torch.fft.fftfreq(side, 1 / side, device=squares.device)
    radius = torch.hypot(along, along[:, None]).long().flatten()
    sums = torch.zeros(side, device=squares.device).index_add_(0, radius, power.flatten())
    return (sums / radius.bincount(minlength=side))[: side // 2]


@torch.no_grad()
def feature_distance(features: PerceptualLoss, filled: Tensor, photos: Tensor) -> Tensor:
    """Squared distance of VGG-16's relu3_1 maps over the mean square of the photo's, ``(N,)``: 0 is a perfect copy.

    Args:
        features: with trained weights; the loss compares other layers.
        filled, photos: the part to compare, the hole and a rim say.
    """
    (a,), (b,) = features.maps(filled, (RELU3_1,)), features.maps(photos, (RELU3_1,))
    return (a - b).square().mean((1, 2, 3)) / b.square().mean((1, 2, 3))


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Distance of the Gaussians through two sets of features ``(N, D)`` and ``(M, D)`` (Heusel et al. 2017).

    It is biased: two sets of N from one source are apart, by less the more there are. So show it beside that of two
    halves of the photos, and refuse fewer samples than dimensions.
    """
    for name, rows in (("first", a), ("second", b)):
        if len(rows) <= rows.shape[1]:
            raise ValueError(f"the {name} set has {len(rows)} samples of {rows.shape[1]} features: more are needed")
    a, b = a.double(), b.double()
    root = sqrtm((a.T.cov() @ b.T.cov()).cpu().numpy()).real.trace()
    return ((a.mean(0) - b.mean(0)).square().sum() + a.T.cov().trace() + b.T.cov().trace() - 2 * root).item()


@torch.no_grad()
def patch_features(features: PerceptualLoss, images: Tensor, side: int = 4) -> Tensor:
    """VGG-16's relu3_1 maps, averaged over ``side`` x ``side`` cells of each image: ``(N * side^2, 256)``.

    Many small samples make a `frechet_distance` of some hundred images possible.
    """
    (maps,) = features.maps(images, (RELU3_1,))
    return F.adaptive_avg_pool2d(maps, side).flatten(2).transpose(1, 2).flatten(0, 1)


def told_apart(
    train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], steps: int = 400, batch: int = 32, seed: int = 0
) -> float:
    """How often a small network says rightly which of two methods filled a hole, on photos that it never saw.

    Three convolutions and a mean, under Adam, on the same photos filled by both methods, mirrored by chance. An eye
    that has seen many examples can do as well at best; 0.5 is a guess.

    Args:
        train: the same photos filled by the one method and by the other, ``(N, 3, H, W)`` each: the hole and a rim.
        test: other photos, likewise.
        steps, batch: of the training; a batch takes so many of either method.

    Returns:
        The share of the test images that are named rightly.
    """
    rng = devices.random_for("cpu", seed, "told apart")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.initial_seed())
        widths, layers = (3, 16, 32, 64), list[nn.Module]()
        for before, after in zip(widths[:-1], widths[1:], strict=True):
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 1))
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    truth = torch.cat([torch.zeros(batch, 1), torch.ones(batch, 1)])
    for _ in range(steps):
        index = torch.randint(len(train[0]), (batch,), generator=rng)
        images = torch.cat([fills[index] for fills in train])
        images = torch.where(torch.rand(2 * batch, 1, 1, 1, generator=rng) < 0.5, images.flip(3), images)
        loss = F.binary_cross_entropy_with_logits(network(images - 0.5), truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        first, second = (network(fills - 0.5) > 0 for fills in test)
    return (torch.cat([~first, second]).double().mean()).item()
