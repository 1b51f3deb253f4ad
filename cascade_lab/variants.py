"""Networks that depart from the paper, for cascade+: a generator that keeps its resolution, and a critic of patches.

The paper's generator narrows an image of 128 px to 4 x 4, so what it paints into the hole is smooth, and its transposed
convolutions leave a grid. The one here stays at a quarter of the resolution, looks far by dilated convolutions, and
enlarges by nearest neighbors.
"""

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from cascade_core.conventions import check_tensor
from cascade_core.degradations import center_hole
from cascade_core.losses import Losses, PerceptualLoss
from cascade_core.steps import Training, frozen, with_all_faults, with_hole

SLOPE = 0.2  # of every LeakyReLU
DILATIONS = (1, 2, 4, 8)  # of the blocks, in turn
RESIDUAL = 0.2  # weight of a block's convolutions: at 1, without a norm, a rate of 1e-3 lets the error explode
SPREAD = 0.25  # of a photo's colors, about: inside, they are taken off 0.5 and divided by it


class DilatedBlock(nn.Module):
    """A dilated convolution, LeakyReLU, a convolution that starts at zero, plus the identity.

    Shape: ``(N, width, H, W)`` to the same.
    """

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        first = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation)
        last = nn.Conv2d(width, width, 3, padding=1)
        self.layers = nn.Sequential(first, nn.LeakyReLU(SLOPE), last)
        nn.init.kaiming_normal_(first.weight, a=SLOPE)
        nn.init.zeros_(last.weight)

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.layers(x)
        return x + RESIDUAL * residual


class DilatedGenerator(nn.Module):
    """Fills the hole at a quarter of the resolution, and leaves the context as it is.

    Two convolutions of stride 2, blocks of dilated convolutions, two enlargements with additive skips, no
    normalization. It is given the Laplace fill and the mask, and what it adds counts in the hole alone, so the mean
    squared error of the image is that of the hole.

    Args:
        widths: channels at the full resolution, at half and at a quarter of it.
        num_block: dilated blocks, of dilations 1, 2, 4, 8 in turn.

    Shape:
        - input: ``(N, 4, H, W)``, the colors and the mask, any H and W.
        - output: ``(N, 3, H, W)``. H and W are padded to multiples of 4 inside, and cropped again.

    Reference: Iizuka et al., Globally and locally consistent image completion (2017), for the dilations; Odena et al.,
    Deconvolution and checkerboard artifacts (2016), for the enlargement; Lim et al., Enhanced deep residual networks
    (2017), for the weight of the blocks.

    Example:
        >>> DilatedGenerator(widths=(8, 8, 8), num_block=1)(torch.rand(2, 4, 50, 70)).shape
        torch.Size([2, 3, 50, 70])
    """

    fill = "laplace and mask"

    def __init__(self, widths: tuple[int, ...] = (24, 48, 96), num_block: int = 8) -> None:
        super().__init__()
        if len(widths) != 3:
            raise ValueError(f"the generator has three resolutions, got {len(widths)} widths: {widths}")
        full, half, quarter = widths
        self.stem = nn.Sequential(nn.Conv2d(4, full, 5, padding=2), nn.LeakyReLU(SLOPE))
        self.to_half = nn.Sequential(nn.Conv2d(full, half, 4, stride=2, padding=1), nn.LeakyReLU(SLOPE))
        self.to_quarter = nn.Sequential(nn.Conv2d(half, quarter, 4, stride=2, padding=1), nn.LeakyReLU(SLOPE))
        self.blocks = nn.Sequential(*(DilatedBlock(quarter, DILATIONS[i % 4]) for i in range(num_block)))
        self.from_quarter = nn.Sequential(nn.Conv2d(quarter, half, 3, padding=1), nn.LeakyReLU(SLOPE))
        self.from_half = nn.Sequential(nn.Conv2d(half, full, 3, padding=1), nn.LeakyReLU(SLOPE))
        self.residual = nn.Conv2d(full, 3, 3, padding=1)
        for part in (self.stem, self.to_half, self.to_quarter, self.from_quarter, self.from_half):
            nn.init.kaiming_normal_(next(part.parameters()), a=SLOPE)
        for parameter in self.residual.parameters():
            nn.init.zeros_(parameter)

    def forward(self, images: Tensor) -> Tensor:
        check_tensor(images, "the generator's images", ("N", 4, "H", "W"))
        height, width = images.shape[-2:]
        padded = F.pad(images, (0, -width % 4, 0, -height % 4), mode="replicate")
        full = self.stem(torch.cat([(padded[:, :3] - 0.5) / SPREAD, padded[:, 3:]], 1))
        half = self.to_half(full)  # 128 -> 64
        x = self.blocks(self.to_quarter(half))  # 64 -> 32
        x = self.from_quarter(F.interpolate(x, scale_factor=2.0)) + half
        x = self.from_half(F.interpolate(x, scale_factor=2.0)) + full
        filled = padded[:, :3] + padded[:, 3:] * SPREAD * self.residual(x)
        return filled[:, :, :height, :width]


class PatchCritic(nn.Module):
    """Scores patches instead of the image: five convolutions with spectral norm, the mask as a fourth channel.

    Args:
        width: channels of the first convolution; they double twice.

    Shape: ``(N, 4, H, W)``, the colors and the mask, to ``(N, 1, H / 8, W / 8)``.

    Reference: Isola et al. 2017 for the patches, Miyato et al. 2018 for spectral norm.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        channels = (4, width, 2 * width, 4 * width, 4 * width)
        layers: list[nn.Module] = []
        for index, (before, after) in enumerate(zip(channels[:-1], channels[1:], strict=True)):
            kernel, stride = (4, 2) if index < 3 else (3, 1)
            layers += [spectral_norm(nn.Conv2d(before, after, kernel, stride, padding=1)), nn.LeakyReLU(SLOPE)]
        self.layers = nn.Sequential(*layers, spectral_norm(nn.Conv2d(channels[-1], 1, 3, padding=1)))

    def forward(self, images: Tensor) -> Tensor:
        check_tensor(images, "the critic's images", ("N", 4, "H", "W"))
        scores: Tensor = self.layers(images)
        return scores


class SelfEnsemble(nn.Module):
    """A network's mean over the eight flips and quarter turns of its input, each turned back, in eight times the time.

    What a network errs by itself turns with the photo and averages out.

    Args:
        network: maps images to images, or to a `Restoration` of them.

    Reference: Timofte et al., Seven ways to improve example-based single image super resolution (2016).
    """

    def __init__(self, network: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.network = network
        if hasattr(network, "fill"):
            self.fill = network.fill

    def forward(self, images: Tensor) -> Any:
        outputs = []
        for turns, mirrored in product(range(4), (False, True)):
            output = self.network(torch.rot90(images.flip(3) if mirrored else images, turns, (2, 3)))
            parts = [output] if isinstance(output, Tensor) else output
            back = [torch.rot90(part, -turns, (2, 3)) for part in parts]
            outputs.append([part.flip(3) if mirrored else part for part in back])
        means = [torch.stack(each).mean(0) for each in zip(*outputs, strict=True)]
        return means[0] if isinstance(output, Tensor) else type(output)(*means)


def hinge_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """What the critic minimizes: real patches above 1, filled ones below -1 (Lim and Ye 2017).

    Example:
        >>> hinge_loss(real_scores=torch.tensor([3.0, 0.0]), fake_scores=torch.tensor([-2.0, -2.0]))
        tensor(0.5000)
    """
    return F.relu(1 - real_scores).mean() + F.relu(1 + fake_scores).mean()


class HoleLoss(nn.Module):
    """Absolute error in the hole, relative distance of VGG-16 features, and the critic's mean score of the patches.

    A feature map's squared distance is divided by the mean square of the true one, so that the four maps, which differ
    by orders of magnitude, count alike.

    Args:
        reconstruction, perceptual, adversarial: the three weights.
        features: the perceptual loss whose maps are compared; ``None`` only if its weight is 0.
    """

    def __init__(
        self, reconstruction: float, perceptual: float, adversarial: float, features: PerceptualLoss | None
    ) -> None:
        super().__init__()
        self.weights = {"l1": reconstruction, "perceptual": perceptual, "adversarial": adversarial}
        self.features = features

    def forward(self, filled: Tensor, photo: Tensor, masks: Tensor, scores: Tensor) -> tuple[Tensor, Losses]:
        """The weighted sum, and its parts by name; images and masks are those that the critic saw."""
        parts = {"l1": _absolute_error(filled, photo, masks), "adversarial": -scores.mean()}
        if self.features is not None and self.weights["perceptual"]:
            with torch.no_grad():
                wanted = self.features.maps(photo)
            pairs = zip(self.features.maps(filled), wanted, strict=True)
            parts["perceptual"] = torch.stack([F.mse_loss(a, b) / b.square().mean() for a, b in pairs]).mean()
        return torch.stack([self.weights[name] * part for name, part in parts.items()]).sum(), parts


def hinge_step(t: Training, photos: Iterator[Tensor], rng: torch.Generator) -> Losses:
    """Stage 2 of cascade+: one step of the critic and one of the generator on the same photos."""
    photo = next(photos)
    masks = _masks(t, photo, rng)
    filled = t.modules["generator"](with_hole(photo, t.settings, masks, t.laplace)).float()
    total, parts = _play(t, filled, photo, masks)
    t.update("generator", total)
    return parts


def joint_hinge_step(t: Training, photos: Iterator[Tensor], rng: torch.Generator) -> Losses:
    """Stage 4 of cascade+: both networks as one; stage 2's game in the hole, absolute error in the context.

    Squared error alone, as in the paper's stage 4, would wash out the texture that stage 2 has taught.
    """
    photo = next(photos)
    masks = _masks(t, photo, rng)
    degraded = with_all_faults(photo, t.settings, rng, masks, t.laplace)
    restored = t.modules["cascade"](degraded).restored.float()
    total, parts = _play(t, restored, photo, masks)
    context = _absolute_error(restored, photo, 1 - masks)
    t.update("cascade", total + context)
    return {**parts, "context": context}


def _masks(t: Training, photo: Tensor, rng: torch.Generator) -> Tensor:
    masks = t.masks(photo, rng)
    n, _, height, width = photo.shape
    return center_hole(n, height, width, t.settings.hole, photo.device) if masks is None else masks


def _absolute_error(image: Tensor, photo: Tensor, region: Tensor) -> Tensor:
    return ((image - photo).abs() * region).sum() / (3 * region.sum())


def _play(t: Training, image: Tensor, photo: Tensor, masks: Tensor) -> tuple[Tensor, Losses]:
    """One step of the critic; the generating side's loss against it, for the caller to minimize; all parts by name.

    Both look at a square of three quarters of the image around the hole, so that a hole of half its side has a rim.
    """
    critic = t.modules["critic"]
    window = window_of(masks, 3 * photo.shape[2] // 4)
    seen, true, missing = image[window], photo[window], masks[window]
    loss = hinge_loss(critic(torch.cat([true, missing], 1)), critic(torch.cat([seen.detach(), missing], 1)))
    t.update("critic", loss)
    gradient = nn.utils.get_total_norm([p.grad for p in critic.parameters() if p.grad is not None])
    with frozen(t.networks["critic"]) as fixed_critic, t.autocast():
        scores = fixed_critic(torch.cat([seen, missing], 1)).float()
        total, parts = t.modules["loss"](seen, true, missing, scores)
    return total, {**parts, "critic": loss, "critic_gradient": gradient}


def window_of(masks: Tensor, side: int) -> tuple[slice | Tensor, ...]:
    """Index of the square around the first mask's hole, inside the image; the masks of a batch are alike.

    Nothing looks at a value, so no step waits for the device.
    """
    along = []
    for dimension, length in ((1, masks.shape[2]), (0, masks.shape[3])):
        missing, places = masks[0, 0].amax(dimension), torch.arange(length, device=masks.device)
        first, last = (missing * (length - places)).argmax(), (missing * (places + 1)).argmax()
        start = ((first + last + 1) // 2 - side // 2).clamp(0, length - side)
        along.append(start + places[:side])
    return slice(None), slice(None), along[0][:, None], along[1]
