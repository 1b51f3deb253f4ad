"""The chain of classical methods, and the choice of their parameters."""

from functools import partial
from importlib.util import find_spec

import pytest
import torch

from cascade_core.degradations import HOLE_COLOR, add_noise, center_hole, degrade
from cascade_core.metrics import psnr
from cascade_lab.baselines import chain, laplace, richardson_lucy, total_variation, tune, wiener


@pytest.fixture(scope="module")
def degraded(photos):
    levels = {"low": 0.5, "medium": 0.5}
    return degrade(photos, center_hole(4, 64, 64), levels, torch.Generator().manual_seed(0), HOLE_COLOR)


def noisy(photos, sigma=25):
    return add_noise(photos, sigma, torch.Generator().manual_seed(0))


def test_each_step_of_the_chain_gains(photos, degraded):
    steps = [chain(laplace), chain(laplace, total_variation), chain(laplace, total_variation, richardson_lucy)]
    quality = [psnr(degraded.images, photos).mean()]
    quality += [psnr(run(**degraded._asdict()), photos).mean() for run in steps]
    assert quality == sorted(quality)
    assert quality[-1] > quality[0] + 3


def test_a_chain_without_restorers_is_its_inpainter(photos):
    masks = center_hole(4, 64, 64)
    assert torch.equal(chain(laplace)(photos, masks), laplace(photos, masks))


def test_hands_kernels_and_noise_levels_to_every_step(degraded):
    seen = []

    def spy(images, kernels=None, sigma=None):
        seen.append((kernels, sigma))
        return images

    chain(laplace, spy, spy)(*degraded)
    assert [(kernels is degraded.kernels, sigma is degraded.sigma) for kernels, sigma in seen] == [(True, True)] * 2


@pytest.mark.skipif(find_spec("pywt") is None, reason="no PyWavelets")
def test_estimates_the_noise_level_once_from_the_known_pixels(photos):
    seen = []

    def spy(images, kernels=None, sigma=None):
        seen.append(sigma)
        return images * 0

    chain(laplace, spy, spy)(noisy(photos), center_hole(4, 64, 64))
    torch.testing.assert_close(seen[0], torch.full((4,), 25.0), atol=3, rtol=0)
    assert seen[1] is seen[0]


def test_never_reads_under_the_mask(degraded):
    run = chain(laplace, total_variation, wiener)
    expected = run(**degraded._asdict())
    hidden = torch.where(degraded.masks == 1, torch.nan, degraded.images)
    assert torch.equal(run(**degraded._replace(images=hidden)._asdict()), expected)


def test_tune_tries_every_combination_and_returns_the_best(photos):
    given = {"images": noisy(photos), "sigma": 25}

    def method(images, sigma, strength, gain):
        return total_variation(images, sigma=sigma, strength=strength) * gain

    best, tried = tune(method, given, photos, {"strength": [0.05, 0.8], "gain": [0.5, 1.0, 1.5]})
    assert best == {"strength": 0.8, "gain": 1.0}
    assert [tuple(parameters.values()) for parameters, _ in tried] == [
        (strength, gain) for strength in (0.05, 0.8) for gain in (0.5, 1.0, 1.5)
    ]
    expected = psnr(total_variation(given["images"], sigma=25, strength=0.8), photos).mean().item()
    assert max(quality for _, quality in tried) == pytest.approx(expected)


def test_tune_can_look_at_the_hole_alone(photos):
    masks = center_hole(4, 64, 64)

    def method(images, masks, hole, context):
        return torch.where(masks == 1, photos + hole, photos + context)

    grid = {"hole": [0.1, 0.01], "context": [0.1, 0.02]}
    _, tried = tune(method, {"images": photos * 0, "masks": masks}, photos, grid, region=masks)
    quality = [value for _, value in tried]
    assert quality[0] == pytest.approx(quality[1])
    assert quality[2] > quality[0] + 10


def test_tune_leaves_undamaged_images_out(photos):
    images = torch.cat([photos[:1], noisy(photos)[1:]])
    grid = {"strength": [0.05, 0.8]}
    denoise = partial(total_variation, sigma=25)
    assert tune(denoise, {"images": images}, photos, grid) == tune(denoise, {"images": images[1:]}, photos[1:], grid)
    with pytest.raises(ValueError, match="none of the 4 images"):
        tune(denoise, {"images": photos}, photos, grid)


@pytest.mark.parametrize("grid", [{}, {"strength": []}])
def test_tune_refuses_an_empty_grid(grid, photos):
    with pytest.raises(ValueError, match="grid"):
        tune(total_variation, {"images": noisy(photos), "sigma": 25}, photos, grid)
