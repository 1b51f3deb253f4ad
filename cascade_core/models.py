"""The four networks of the paper (sections 3.2 and 3.3): generator, critic, deblurring-denoising network, cascade.

Images are float32 ``(N, 3, H, W)`` in [0, 1]. No network clips its output, because a clipped pixel has no gradient;
`conventions.to_pixels` clips when an output becomes a picture.
"""

import functools
import itertools
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cascade_core.conventions import FILLS, check_tensor


def initialize(network: nn.Module) -> None:
    """Weights N(0, 0.02), batch norm scales N(1, 0.02), biases 0: as DCGAN, Context Encoders."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
        if isinstance(bias := getattr(module, "bias", None), Tensor):
            nn.init.zeros_(bias)


def with_norm(convolution: nn.Conv2d | nn.ConvTranspose2d, activation: nn.Module) -> nn.Sequential:
    return nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels), activation)


class ResidualBlock(nn.Module):
    """Convolution, batch norm, ReLU, convolution, batch norm, plus the identity (figure 3).

    Shape: ``(N, width, H, W)`` to the same.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.layers(x)
        return x + residual


class InpaintingGenerator(nn.Module):
    """Encoder, seven residual blocks, decoder, with mirrored additive skips (section 3.2, figure 3).

    Widths, kernel and stride are those of Context Encoders: kernel 4, stride 2, padding 1 halves an even size exactly,
    and doubles it again without an uneven overlap. The last layer starts at zero, so the untrained generator returns
    its input.

    Args:
        widths: channels after each of the five convolutions.
        num_block: residual blocks at the bottleneck.
        fill: what it is trained to find in the hole, one of ``FILLS``; the paper's is a constant color. With
            ``"laplace and mask"`` the mask is a fourth channel of the input; the outermost skip takes the colors alone.

    Shape:
        - input: ``(N, 3, H, W)``, or ``(N, 4, H, W)`` with the mask, any H and W.
        - output: the same size. H and W are padded to multiples of 32 inside, and cropped again.

    Example:
        >>> generator = InpaintingGenerator(widths=(8, 8, 8, 8, 8), num_block=1)
        >>> generator(torch.rand(2, 3, 50, 70)).shape
        torch.Size([2, 3, 50, 70])
    """

    def __init__(
        self, widths: tuple[int, ...] = (64, 64, 128, 256, 512), num_block: int = 7, fill: str = "color"
    ) -> None:
        super().__init__()
        if len(widths) != 5:
            raise ValueError(f"the generator has five convolutions, got {len(widths)}: {widths}")
        if fill not in FILLS:
            raise ValueError(f"unknown fill {fill!r}; the fills are {', '.join(FILLS)}")
        self.fill = fill
        self.in_channels = 4 if fill == "laplace and mask" else 3
        channels = (self.in_channels, *widths)
        self.encoder = nn.ModuleList(
            with_norm(nn.Conv2d(*ends, 4, stride=2, padding=1, bias=False), nn.LeakyReLU(0.2))
            for ends in itertools.pairwise(channels)
        )
        self.blocks = nn.Sequential(*(ResidualBlock(widths[-1]) for _ in range(num_block)))
        self.decoder = nn.ModuleList(
            with_norm(nn.ConvTranspose2d(*ends, 4, stride=2, padding=1, bias=False), nn.ReLU())
            for ends in itertools.pairwise(reversed(widths))
        )
        last = nn.ConvTranspose2d(widths[0], 3, 4, stride=2, padding=1)
        self.decoder.append(last)
        initialize(self)
        nn.init.zeros_(last.weight)

    def forward(self, images: Tensor) -> Tensor:
        check_tensor(images, "the generator's images", ("N", self.in_channels, "H", "W"))
        height, width = images.shape[-2:]
        x: Tensor = F.pad(images, (0, -width % 32, 0, -height % 32), mode="replicate")
        mirrored: list[Tensor] = []
        for layer in self.encoder:  # 128 -> 64 -> 32 -> 16 -> 8 -> 4
            mirrored.append(x if mirrored else x[:, :3])
            x = layer(x)
        x = self.blocks(x)  # 4 -> 4
        for layer in self.decoder:  # 4 -> 8 -> 16 -> 32 -> 64 -> 128
            x = layer(x) + mirrored.pop()
        return x[:, :, :height, :width]


# Clipped weights make small activations: at the usual 1e-5, batch norm would no longer scale up a narrow critic's,
# and they would fade from layer to layer until the critic is dead.
EPS = 1e-12


class Critic(nn.Module):
    """VGG-16's convolutions, striding instead of pooling, and two fully connected layers (section 3.2).

    The score is any real number, higher for what looks real (Wasserstein GAN). The last two layers stay in 32 bits,
    because the loss is a difference of nearly equal scores. Batch norm after every convolution but the first keeps the
    clipped critic alive, as in the WGAN authors' code; the paper does not mention it.

    Args:
        size: side of the square images; the fully connected layers fix it. A multiple of 32.
        widths: channels of the five groups of 2, 2, 3, 3, 3 convolutions.
        hidden: units of the first fully connected layer.

    Shape: ``(N, 3, size, size)`` to ``(N,)``.
    """

    def __init__(
        self,
        size: int = 128,
        widths: tuple[int, ...] = (64, 128, 256, 512, 512),
        hidden: int = 1024,
    ) -> None:
        super().__init__()
        if size % 32:
            raise ValueError(f"the critic's size must be a multiple of 32, got {size}")
        if len(widths) != 5:
            raise ValueError(f"the critic has five groups of widths, got {len(widths)}: {widths}")
        self.size = size
        layers: list[nn.Module] = []
        before = 3
        for num_conv, width in zip((2, 2, 3, 3, 3), widths, strict=True):
            for i in range(num_conv):
                stride = 2 if i == num_conv - 1 else 1
                layers.append(nn.Conv2d(before, width, 3, stride, padding=1, bias=before == 3))
                if before != 3:
                    layers.append(nn.BatchNorm2d(width, eps=EPS))
                layers.append(nn.LeakyReLU(0.2))
                before = width
        self.features = nn.Sequential(*layers)  # 128 -> 64 -> 32 -> 16 -> 8 -> 4
        self.score = nn.Sequential(
            nn.Flatten(),
            nn.Linear(widths[-1] * (size // 32) ** 2, hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden, 1),
        )
        initialize(self)

    def forward(self, images: Tensor) -> Tensor:
        check_tensor(images, "the critic's images", ("N", 3, self.size, self.size))
        maps = self.features(images)
        with torch.autocast(images.device.type, enabled=False):
            scores: Tensor = self.score(maps.float())
        return scores.flatten()


class DeblurDenoiseNet(nn.Module):
    """Four convolutions that encode and four that decode; learns the residual, y = x - M(x) (section 3.3, figure 4).

    Every convolution is 3x3; all but the first and the last are followed by batch norm; LeakyReLU has slope 0.001. The
    mirrored skips add the encoder's maps to the decoder's. The untrained network returns its input.

    Args:
        width: channels of every feature map; the paper's 96.

    Shape: ``(N, 3, H, W)`` to the same, any H and W.
    """

    def __init__(self, width: int = 96) -> None:
        super().__init__()
        first = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.LeakyReLU(0.001))
        same = functools.partial(nn.Conv2d, width, width, 3, padding=1, bias=False)
        inner = [with_norm(same(), nn.LeakyReLU(0.001)) for _ in range(6)]
        self.encoder = nn.ModuleList([first, *inner[:3]])
        self.decoder = nn.ModuleList(inner[3:])
        self.residual = nn.Conv2d(width, 3, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=0.001)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.zeros_(self.residual.weight)

    def forward(self, images: Tensor) -> Tensor:
        check_tensor(images, "the deblurring-denoising network's images", ("N", 3, "H", "W"))
        x, maps = images, list[Tensor]()
        for layer in self.encoder:  # 3 -> 96 -> 96 -> 96 -> 96 channels
            x = layer(x)
            maps.append(x)
        maps.pop()  # the innermost map has no mirror: it is the decoder's input
        for layer in self.decoder:
            x = layer(x) + maps.pop()
        residual: Tensor = self.residual(x)
        return images - residual  # y = x - M(x)


Image = TypeVar("Image")


class Restoration(NamedTuple, Generic[Image]):
    """What a cascade makes of a photo: the generator's image and the final one."""

    inpainted: Image
    restored: Image


class Cascade(nn.Module):
    """The generator, and the deblurring-denoising network on its output (section 3.1, figure 2).

    Args:
        generator: fills the hole.
        deblur_denoise: removes blur and noise. Without it the generator's image is the result, as in the row "only GAN"
            of Table 2.

    Shape: ``(N, 3, H, W)`` to two images of that shape, named ``inpainted`` and ``restored``.
    """

    def __init__(
        self,
        generator: InpaintingGenerator,
        deblur_denoise: DeblurDenoiseNet | None = None,
    ) -> None:
        super().__init__()
        self.generator = generator
        self.deblur_denoise = deblur_denoise
        self.fill = generator.fill

    def forward(self, images: Tensor) -> Restoration[Tensor]:
        inpainted = self.generator(images)
        restored = inpainted if self.deblur_denoise is None else self.deblur_denoise(inpainted)
        return Restoration(inpainted, restored)
