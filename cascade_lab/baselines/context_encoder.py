"""Context Encoder: a network that paints the center of a photo from what is around it, trained against a discriminator.

Pathak et al., Context Encoders: feature learning by inpainting (2016), as their train.lua runs with the options of
their README: overlapPred=4, wtl2=0.999, nBottleneck=4000. `cascade_lab.training.stages` trains it, on the
same photos and for as many steps as stages 1 and 2 take together::

    run = stages.train("context_encoder", profile, photos, "runs")
    fill = context_encoder(run.networks["context_encoder"])
    filled = fill(images, masks)
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.v2.functional import center_crop

from cascade_core.conventions import check_tensor
from cascade_core.degradations import HOLE_COLOR, apply_mask, center_hole
from cascade_core.fills import hide
from cascade_core.models import initialize
from cascade_core.steps import Training, frozen
from cascade_lab.baselines.interface import Inpainter

# The losses' weights, from train.lua; rate and bottleneck stand in the profiles.
RECONSTRUCTION = 0.999  # weight of the squared error; the adversarial loss has the rest
OVERLAP = 10.0  # how much more an error counts in the rim that the network sees
WIDTHS = (64, 64, 128, 256, 512)  # channels after each halving of the image


class ContextEncoder(nn.Module):
    """Five convolutions, a bottleneck that sees the whole photo, and a decoder for the center half of it.

    A 128 px photo goes to 4 x 4 places; the bottleneck is one convolution over all of them, 4000 units in the
    original. What it predicts is larger than the hole, by 4 px on each side for 56 px in 128: that rim is visible, and
    is there for the seam. No convolution has a bias, as train.lua sets them to zero at each step.

    Args:
        size: side of the photos in pixels, a multiple of 32: it fixes the bottleneck's weights.
        hole: side of the hole in the center, at most half of ``size``.
        fill: the hole's color, (R, G, B) in [0, 1].
        widths: channels after each of the five convolutions.
        bottleneck: units between encoder and decoder.

    Shape: photos ``(N, 3, size, size)`` in [0, 1], the hole in ``fill``; to centers ``(N, 3, size/2, size/2)``.

    Raises:
        ValueError: the hole is larger than what is predicted, or the size is not a multiple of 32.
    """

    def __init__(
        self,
        size: int = 128,
        hole: int = 56,
        fill: Sequence[float] = HOLE_COLOR,
        widths: tuple[int, ...] = WIDTHS,
        bottleneck: int = 4000,
    ) -> None:
        super().__init__()
        if size % 32:
            raise ValueError(
                f"the Context Encoder halves an image five times: size must be a multiple of 32, got {size}"
            )
        if not 0 < hole <= size // 2:
            raise ValueError(
                f"the Context Encoder predicts the center {size // 2} px of {size}: hole must be 1 to that, got {hole}"
            )
        self.size, self.hole, self.fill = size, hole, tuple(fill)
        self.encoder = nn.Sequential(*_halve(widths))  # 128 -> 64 -> 32 -> 16 -> 8 -> 4
        self.bottleneck = nn.Sequential(
            nn.Conv2d(widths[-1], bottleneck, size // 32, bias=False),  # 4 -> 1
            nn.BatchNorm2d(bottleneck),
            nn.LeakyReLU(0.2),
            nn.ConvTranspose2d(bottleneck, widths[-1], size // 32, bias=False),  # 1 -> 4
            nn.BatchNorm2d(widths[-1]),
            nn.ReLU(),
        )
        layers: list[nn.Module] = []
        for before, after in pairwise([*widths[:0:-1], 3]):  # 4 -> 8 -> 16 -> 32 -> 64
            layers.append(nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=False))
            layers += [nn.BatchNorm2d(after), nn.ReLU()]
        self.decoder = nn.Sequential(*layers[:-2])  # the colors are not normalized
        initialize(self)

    def forward(self, images: Tensor) -> Tensor:
        check_tensor(images, "images for this Context Encoder", ("N", 3, self.size, self.size))
        x = self.decoder(self.bottleneck(self.encoder(2 * images - 1)))  # it works in [-1, 1]
        return (torch.tanh(x) + 1) / 2


class Discriminator(nn.Module):
    """Distinguishes true centers from predicted ones; it sees nothing of the photo around them.

    Shape: centers ``(N, 3, size/2, size/2)`` in [0, 1] to the logits of being true, ``(N,)``.
    """

    def __init__(self, size: int = 128, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        last = nn.Conv2d(widths[-1], 1, size // 32, bias=False)
        self.layers = nn.Sequential(*_halve(widths[1:]), last)  # 64 -> 32 -> 16 -> 8 -> 4 -> 1
        initialize(self)

    def forward(self, centers: Tensor) -> Tensor:
        return self.layers(2 * centers - 1).flatten()


def _halve(widths: Sequence[int]) -> list[nn.Module]:
    """A convolution for each of the widths, which halves the image; batch norm behind all but the first."""
    layers: list[nn.Module] = []
    for before, after in pairwise((3, *widths)):
        norm = [nn.BatchNorm2d(after)] if layers else []
        layers += [nn.Conv2d(before, after, 4, stride=2, padding=1, bias=False), *norm, nn.LeakyReLU(0.2)]
    return layers


def context_encoder_step(t: Training, photos: Iterator[Tensor], rng: torch.Generator) -> dict[str, Tensor]:
    """One step of the discriminator, one of the network; the same kind of function as in `cascade_core.steps`."""
    photo = next(photos)
    hole = center_hole(len(photo), photo.shape[2], photo.shape[3], t.settings.hole, photo.device)
    side = photo.shape[-1] // 2
    target = center_crop(photo, side)
    predicted = t.modules["context_encoder"](apply_mask(photo, hole, t.settings.hole_color))

    true_logits, false_logits = (t.modules["discriminator"](x) for x in (target, predicted.detach()))
    loss = cross_entropy(true_logits, 1.0) + cross_entropy(false_logits, 0.0)
    t.update("discriminator", loss)

    reconstruction = overlap_loss(predicted, target, center_crop(hole, side))
    with frozen(t.networks["discriminator"]) as judge:
        with t.autocast():
            adversarial = cross_entropy(judge(predicted), 1.0)
        t.update("context_encoder", RECONSTRUCTION * reconstruction + (1 - RECONSTRUCTION) * adversarial)
    return {"reconstruction": reconstruction, "adversarial": adversarial, "discriminator": loss}


def overlap_loss(predicted: Tensor, target: Tensor, holes: Tensor) -> Tensor:
    """Mean squared error of centers ``(N, 3, S, S)`` in [0, 1], tenfold where ``holes`` ``(N, 1, S, S)`` is 0.

    The error is taken in [-1, 1], which train.lua's weights go with.
    """
    return (torch.where(holes == 1, 1.0, OVERLAP) * (2 * (predicted - target)).square()).mean()


def cross_entropy(logits: Tensor, label: float) -> Tensor:
    """Binary cross entropy of logits ``(N,)`` against one label for all, in 32 bits."""
    return F.binary_cross_entropy_with_logits(logits.float(), torch.full(logits.shape, label, device=logits.device))


def context_encoder(network: ContextEncoder) -> Inpainter:
    """The `Inpainter` of a trained network, which is put into eval mode.

    It takes the hole alone from the prediction, since the rim is known, and raises `ValueError` for images of another
    size than the network's and for any mask but the hole that it was trained for, in the center.
    """
    size, hole = network.size, network.hole
    network.eval()

    def fill(images: Tensor, masks: Tensor) -> Tensor:
        known, missing = hide(images, masks)
        if not torch.equal(missing, center_hole(len(images), size, size, hole, images.device) == 1):
            raise ValueError(
                f"this Context Encoder was trained for a hole of {hole} px in the center of {size} px; "
                f"got images of {tuple(images.shape)} with another hole: train one with that size and hole"
            )
        weight = next(network.parameters())
        with torch.no_grad():
            predicted = network(apply_mask(known, missing.to(known.dtype), network.fill).to(weight))
        rim = size // 4
        return torch.where(missing, F.pad(predicted.to(images), (rim, rim, rim, rim)), images)

    return fill
