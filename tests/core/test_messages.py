"""What the core says of wrong arguments, word for word: a message that lost its name or its numbers helps nobody."""

import math
from functools import partial

import pytest
import torch

from cascade_core import degradations, fills, losses, metrics, models
from cascade_core.conventions import to_pixels

rng = torch.Generator()
images = torch.zeros(2, 3, 16, 16)
flat = torch.zeros(2, 3)  # no image
masks = torch.zeros(2, 1, 16, 16)
whole = torch.zeros(2, 3, 16, 16, dtype=torch.int64)
delta = torch.ones(1, 1, 1, 1)
small = partial(models.InpaintingGenerator, (4, 4, 4, 4, 4), 1)
critic = partial(models.Critic, 32, (4, 4, 4, 4, 4), 4)

FLAT = "(2, 3) of torch.float32"
SHAPE = "floats of shape"
CASES = [
    (lambda: degradations.center_hole(1, 8, 9, 10), "a hole of 10x10 px does not fit a photo of 8x9 px"),
    (lambda: degradations.gaussian_kernels(flat, flat[:, 0], 3), f"std must be {SHAPE} (N, 2), got {FLAT}"),
    (
        lambda: degradations.gaussian_kernels(flat[:, :2], flat, 3),
        f"angle must be {SHAPE} (2,), got {FLAT}",
    ),
    (
        lambda: degradations.gaussian_kernels(torch.tensor([[-1.0, 0.0]]), torch.zeros(1), 3),
        "std must be from 0 to inf, got tensor([[-1.,  0.]])",
    ),
    (
        lambda: degradations.gaussian_kernels(flat[:, :2], flat[:, 0], 4),
        "a kernel's size must be odd, or it has no center, got 4",
    ),
    (lambda: degradations.motion_kernels(flat, 3, rng), f"length must be {SHAPE} (N,), got {FLAT}"),
    (
        lambda: degradations.motion_kernels(torch.tensor([3.0]), 3, rng),
        "length must be from 0 to 2, got tensor([3.])",
    ),
    (
        lambda: degradations.motion_kernels(flat[:, 0], -1, rng),
        "a kernel's size must be odd, or it has no center, got -1",
    ),
    (lambda: degradations.blur(flat, delta), f"images must be {SHAPE} (N, C, H, W), got {FLAT}"),
    (
        lambda: degradations.blur(whole, delta),
        f"images must be {SHAPE} (N, C, H, W), got (2, 3, 16, 16) of torch.int64",
    ),
    (
        lambda: degradations.blur(images, torch.zeros(3, 1, 3, 3)),
        f"kernels must be {SHAPE} (2, 1, 3, 3), got (3, 1, 3, 3) of torch.float32",
    ),
    (
        lambda: degradations.blur(images, torch.zeros(1, 1, 2, 2)),
        "a kernel's size must be odd, or it has no center, got 2",
    ),
    (
        lambda: degradations.blur(images[..., :10], torch.zeros(1, 1, 21, 21)),
        "kernels of 21 px need photos of over 10 px, got 16x10",
    ),
    (lambda: degradations.add_noise(flat, 1.0, rng), f"images must be {SHAPE} (N, C, H, W), got {FLAT}"),
    (
        lambda: degradations.add_noise(images, torch.zeros(3), rng),
        f"sigma must be {SHAPE} (2,), got (3,) of torch.float32",
    ),
    (lambda: degradations.add_noise(images, -1.0, rng), "sigma must be from 0 to inf, got -1.0"),
    (lambda: degradations.apply_mask(flat, masks), f"images must be {SHAPE} (N, C, H, W), got {FLAT}"),
    (lambda: degradations.apply_mask(images, flat), f"masks must be {SHAPE} (2, 1, 16, 16), got {FLAT}"),
    (
        lambda: degradations.apply_mask(images, masks, (0.5,)),
        "images of 3 channels need a color of as many values, got (0.5,)",
    ),
    (
        lambda: degradations.sample({"heavy": 1.0}, 1, rng),
        "no level 'heavy'; there are none, low, medium, high",
    ),
    (
        lambda: degradations.sample({"low": 0.5, "high": 0.4}, 1, rng),
        "the levels' shares must not be negative and must sum to 1, got {'low': 0.5, 'high': 0.4}",
    ),
    (
        lambda: degradations.degrade(flat, None, {"low": 1.0}, rng),
        f"images must be {SHAPE} (N, C, H, W), got {FLAT}",
    ),
    (
        lambda: fills.generator_input(images, masks, "gray"),
        "unknown fill 'gray'; the fills are color, laplace, laplace and mask",
    ),
    (lambda: fills.laplace(flat, masks), f"images must be {SHAPE} (N, 3, H, W), got {FLAT}"),
    (lambda: fills.laplace(images, flat), f"masks must be {SHAPE} (2, 1, 16, 16), got {FLAT}"),
    (
        lambda: fills.laplace(images, masks + 0.5),
        "masks must hold 1 (missing) and 0 (known) only, got 0.5 to 0.5",
    ),
    (
        lambda: fills.laplace(images, masks + 1),
        "a mask hides the whole image: at least one pixel must be known",
    ),
    (lambda: losses.mse_loss(flat, images), f"the output must be {SHAPE} (2, 3, 16, 16), got {FLAT}"),
    (
        lambda: losses.PerceptualLoss("random")(flat, images),
        f"the output must be {SHAPE} (2, 3, 16, 16), got {FLAT}",
    ),
    (
        lambda: losses.GeneratorLoss(1.0, 0.5, 0.1, None),
        "a perceptual weight of 0.5 needs a PerceptualLoss, got None",
    ),
    (
        lambda: models.InpaintingGenerator((4, 4)),
        "the generator has five convolutions, got 2: (4, 4)",
    ),
    (lambda: small("gray"), "unknown fill 'gray'; the fills are color, laplace, laplace and mask"),
    (lambda: small()(flat), f"the generator's images must be {SHAPE} (N, 3, H, W), got {FLAT}"),
    (
        lambda: small("laplace and mask")(flat),
        f"the generator's images must be {SHAPE} (N, 4, H, W), got {FLAT}",
    ),
    (lambda: models.Critic(48), "the critic's size must be a multiple of 32, got 48"),
    (lambda: models.Critic(32, (4, 4)), "the critic has five groups of widths, got 2: (4, 4)"),
    (
        lambda: critic()(images),
        f"the critic's images must be {SHAPE} (N, 3, 32, 32), got (2, 3, 16, 16) of torch.float32",
    ),
    (
        lambda: models.DeblurDenoiseNet(4)(flat),
        f"the deblurring-denoising network's images must be {SHAPE} (N, 3, H, W), got {FLAT}",
    ),
    (lambda: metrics.regions(flat), f"masks must be {SHAPE} (N, 1, H, W), got {FLAT}"),
    (lambda: metrics.psnr(images, flat), f"the target must be {SHAPE} (N, C, H, W), got {FLAT}"),
    (lambda: metrics.psnr(flat, images), f"the output must be {SHAPE} (2, 3, 16, 16), got {FLAT}"),
    (
        lambda: metrics.psnr(images + 9, images),
        "the output has values up to 9: images are in [0, 1], divide by 255",
    ),
    (
        lambda: metrics.ssim(images, images - 255),
        "the target has values up to -255: images are in [0, 1], divide by 255",
    ),
    (
        lambda: metrics.psnr(images, images, flat),
        "the region's shape (2, 3) is not that of the images with one channel",
    ),
    (
        lambda: metrics.psnr(images, images, masks),
        "no pixel to measure in the region of images [0, 1]",
    ),
    (
        lambda: metrics.ssim(images[..., :10], images[..., :10]),
        "SSIM's window is 11 px; these are (16, 10): give larger ones",
    ),
    (lambda: metrics.mean_interval(torch.zeros(0)), "values must be (N,) with N at least 1, not (0,)"),
    (lambda: metrics.mean_interval(flat), "values must be (N,) with N at least 1, not (2, 3)"),
    (
        lambda: metrics.paired_interval(torch.zeros(2), torch.zeros(3)),
        "paired values must be of the same images: got (2,) and (3,)",
    ),
    (lambda: to_pixels(flat), f"images must be {SHAPE} (N, C, H, W), got {FLAT}"),
    (
        lambda: to_pixels(images + math.nan),
        "an image holds values that are not finite: the network that made it has diverged",
    ),
]


@pytest.mark.parametrize(("call", "message"), CASES, ids=[message[:40] for _, message in CASES])
def test_says(call, message):
    with pytest.raises(ValueError, match=".*") as error:
        call()
    assert str(error.value) == message
