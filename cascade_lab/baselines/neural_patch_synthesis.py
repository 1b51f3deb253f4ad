"""Neural patch synthesis: a Context Encoder's fill, repainted so that its VGG features look like patches from outside.

Yang et al., High-resolution image inpainting using multi-scale neural patch synthesis (2017), with what their program
(Faster-High-Res-Neural-Inpainting, built on CNNMRF) does where the paper is silent.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from cascade_core.fills import hide
from cascade_core.losses import PerceptualLoss
from cascade_lab.baselines.interface import Inpainter

LAYERS = {11: 4, 18: 8}  # relu3_1 and relu4_1: index in torchvision's VGG-16, and pixels from one place to the next
PATCH = 3  # places across
SMALLEST = 4 * PATCH  # px: one patch of relu3_1


class Match(NamedTuple):
    """What the patches in the hole of one feature map should become."""

    inside: Tensor  # (n,) their numbers in the order of F.unfold
    nearest: Tensor  # (9C, n) the nearest patch outside for each
    power: Tensor  # mean square of all patches outside: layers and weights of any scale count alike


class NeuralPatchSynthesis:
    """Fills a hole by joint optimization of content and texture, coarse to fine, with L-BFGS.

    At every scale the hole's pixels minimize the sum of three means: their squared distance to the content; `texture`
    times the squared distance of each 3 x 3 patch of VGG features in the hole to the nearest patch outside it, in units
    of the features' mean square; and `smoothness` times the total variation. Nearest is by normalized
    cross-correlation, searched anew before every round of L-BFGS. The content is the content network's image, resized,
    at the first scale, and the result of the scale before at the others.

    Departures from the original: it goes up from the 128 px of its content network, this one up to the images' size.
    VGG-16 stands in for VGG-19, since the losses have it. Patches outside have no place in the hole; on a map with too
    narrow a rim for one, their middle is outside. The original's weights (5e-6 for both) belong to sums over another
    VGG's features; these were chosen on training photos, with random VGG weights.

    Args:
        content: the inpainter that makes the content; the original's is a Context Encoder. It is called with the same
            masks, and what it refuses is refused here.
        weights: of the VGG-16, as in `losses.PerceptualLoss`: "imagenet", "random" or a path.
        scales: how many sizes to work at, each twice the one before: 3 means 32, 64 and 128 px. One that has no patch
            outside the hole is left out.
        rounds: of matching and optimization at each scale.
        iterations: of L-BFGS in each round, at most. The original makes 100 at each scale; on one CPU thread a 128 px
            image takes 6 s with 10 and 3 s with 5, and the mean PSNR moves by 0.02 dB.
        texture, smoothness: weights against the content's.

    Raises:
        ValueError: scales, rounds or iterations are below 1, or a weight is below 0.
        RuntimeError: the VGG's weights cannot be had.
    """

    def __init__(
        self,
        content: Inpainter,
        weights: str = "imagenet",
        scales: int = 3,
        rounds: int = 2,
        iterations: int = 10,
        texture: float = 0.05,
        smoothness: float = 0.3,
    ) -> None:
        if min(scales, rounds, iterations) < 1 or min(texture, smoothness) < 0:
            raise ValueError(
                f"{scales=}, {rounds=} and {iterations=} must be at least 1, {texture=} and {smoothness=} at least 0"
            )
        self.content, self.vgg = content, PerceptualLoss(weights)
        self.scales, self.rounds, self.iterations = scales, rounds, iterations
        self.texture, self.smoothness = texture, smoothness

    def __call__(self, images: Tensor, masks: Tensor) -> Tensor:
        """Fill images (N, 3, H, W) in [0, 1] under masks (N, 1, H, W); known pixels stay as they were."""
        known, missing = hide(images, masks)
        filled = self.content(known, masks).clone()
        self.vgg.to(images.device)
        for index, hole in enumerate(missing):  # one by one: L-BFGS would tie the images of a batch together
            if hole.any():
                filled[index] = self.repaint(filled[index : index + 1].float(), hole[None])[0].to(filled)
        return torch.where(missing, filled, images)

    def repaint(self, content: Tensor, hole: Tensor) -> Tensor:
        """One image (1, 3, H, W) with the content in its hole (1, 1, H, W), from the coarsest scale to the finest."""
        image = None
        for scale in (2**power for power in reversed(range(self.scales))):
            if min(content.shape[2:]) < scale * SMALLEST:
                continue
            wanted, missing = F.avg_pool2d(content, scale), F.max_pool2d(hole.float(), scale) == 1
            if not (places := usable_places(missing)):
                continue
            if image is not None:
                wanted = torch.where(missing, F.interpolate(image, wanted.shape[2:], mode="bilinear"), wanted)
            image = wanted
            for _ in range(self.rounds):
                image = self.optimize(image, wanted, missing, match(self.maps(image), places))
        return content if image is None else image

    def maps(self, image: Tensor) -> dict[int, Tensor]:
        return dict(zip(LAYERS, self.vgg.maps(image, tuple(LAYERS)), strict=True))

    def optimize(self, image: Tensor, content: Tensor, hole: Tensor, matches: Mapping[int, Match]) -> Tensor:
        """A round of L-BFGS over the hole's pixels."""
        pixels = image.clone(memory_format=torch.contiguous_format).requires_grad_()
        optimizer = torch.optim.LBFGS([pixels], 1, self.iterations, history_size=25, line_search_fn="strong_wolfe")

        def energy() -> Tensor:
            optimizer.zero_grad()
            result = torch.where(hole, pixels, image)
            # The means times their count: the optimizer's tolerances are made for gradients that are not a mean's.
            loss = ((result - content) * hole).square().sum()
            loss = loss + 3 * hole.sum() * self.texture * texture_distance(self.maps(result), matches)
            variation = result.diff(dim=-1).square().sum() + result.diff(dim=-2).square().sum()
            loss = loss + self.smoothness * variation  # squares, as the original has it
            loss.backward()
            return loss

        optimizer.step(energy)
        return torch.where(hole, pixels.detach().clamp(0, 1), image)


def usable_places(hole: Tensor) -> dict[int, tuple[Tensor, Tensor]]:
    """Layer -> the numbers of its patches in the hole (1, 1, H, W) and outside, for the layers that have both."""
    places = {}
    for layer, span in LAYERS.items():
        if min(hole.shape[2:]) // span < PATCH:
            continue
        missing = F.unfold(F.max_pool2d(hole.float(), span), PATCH)[0] == 1  # (9, patches)
        inside = missing[PATCH**2 // 2]
        outside = ~inside if missing.any(0).all() else ~missing.any(0)
        if inside.any() and outside.any():
            places[layer] = inside.nonzero()[:, 0], outside.nonzero()[:, 0]
    return places


def match(maps: Mapping[int, Tensor], places: Mapping[int, tuple[Tensor, Tensor]]) -> dict[int, Match]:
    """For each layer's map ``(1, C, h, w)``, the nearest patch outside for each in the hole."""
    matches = {}
    for layer, (inside, outside) in places.items():
        patches = F.unfold(maps[layer].detach(), PATCH)[0]  # (9C, patches)
        candidates = patches[:, outside]
        similarity = F.normalize(patches[:, inside], dim=0).T @ F.normalize(candidates, dim=0)
        matches[layer] = Match(inside, candidates[:, similarity.argmax(1)], candidates.square().mean())
    return matches


def texture_distance(maps: Mapping[int, Tensor], matches: Mapping[int, Match]) -> Tensor:
    """Mean squared distance of the hole's patches to their matches, relative to the features' power; a scalar."""
    distances = [
        (F.unfold(maps[layer], PATCH)[0][:, m.inside] - m.nearest).square().mean() / m.power
        for layer, m in matches.items()
    ]
    return torch.stack(distances).mean()
