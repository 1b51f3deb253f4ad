"""Measures of what an eye sees, on images whose values are known."""

import math

import pytest
import torch

from cascade_core.degradations import center_hole
from cascade_core.losses import PerceptualLoss
from cascade_lab.evaluation import perception


class TestDetail:
    def test_only_pairs_inside_the_hole_count(self):
        images = torch.zeros(1, 3, 8, 8)
        images[..., :4] = 1.0  # an edge between columns 3 and 4
        masks = torch.zeros(1, 1, 8, 8)
        masks[..., 2:6, 2:6] = 1  # 12 pairs along a row, of which 4 cross the edge, and 12 along a column
        assert perception.detail(images, masks).item() == pytest.approx(4 / 24)
        masks[..., 4:] = 0
        assert perception.detail(images, masks).item() == 0

    def test_share_of_half_the_contrast(self, photos):
        masks = center_hole(4, 64, 64, 28)
        assert perception.detail_share(photos / 2, photos, masks) == pytest.approx(0.25)

    def test_refuses_masks_of_other_images(self, photos):
        with pytest.raises(ValueError, match="masks must be floats of shape"):
            perception.detail(photos, center_hole(2, 64, 64, 28))


def test_the_spectrum_of_a_wave_has_its_peak_at_its_frequency():
    x = torch.arange(32) * 2 * math.pi / 32
    wave = (0.5 + 0.25 * torch.sin(5 * x)).expand(2, 3, 32, 32)
    spectrum = perception.radial_spectrum(wave)
    assert spectrum.shape == (16,)
    assert spectrum.argmax() in (4, 5)
    assert spectrum[8:].sum() < 0.01 * spectrum.sum()
    with pytest.raises(ValueError, match="squares, got 32x16"):
        perception.radial_spectrum(wave[..., :16])


def test_white_noise_has_a_flat_spectrum():
    noise = torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    spectrum = perception.radial_spectrum(noise)[2:]
    assert spectrum.max() / spectrum.min() < 1.3


def test_feature_distance(photos):
    features = PerceptualLoss("random")
    assert torch.equal(perception.feature_distance(features, photos, photos), torch.zeros(4))
    near = perception.feature_distance(features, 0.9 * photos + 0.1 * photos.flip(0), photos)
    far = perception.feature_distance(features, photos.flip(0), photos)
    assert (near < far).all()


class TestFrechet:
    def test_of_two_gaussians(self):
        """Means two apart, standard deviations 1 and 3, in each of two dimensions: 2 (4 + (3 - 1)^2)."""
        generator = torch.Generator().manual_seed(0)
        a, b = torch.randn(2, 100_000, 2, generator=generator)
        assert perception.frechet_distance(a, 3 * b + 2) == pytest.approx(16, rel=0.02)

    def test_one_source_is_apart_by_less_the_more_there_are(self):
        a, b = torch.randn(2, 4000, 16, generator=torch.Generator().manual_seed(0))
        few = perception.frechet_distance(a[:100], b[:100])
        assert 0 < perception.frechet_distance(a, b) < few / 10
        with pytest.raises(ValueError, match="second set has 16 samples of 16 features"):
            perception.frechet_distance(a, b[:16])


def test_patch_features_are_means_of_the_maps(photos):
    features = PerceptualLoss("random")
    (maps,) = features.maps(photos, (perception.RELU3_1,))
    found = perception.patch_features(features, photos, 2)
    assert found.shape == (4 * 4, 256)
    torch.testing.assert_close(found[5], maps[1, :, :8, 8:].mean((1, 2)))  # the second cell of the second photo


class TestToldApart:
    @pytest.fixture
    def noise(self):
        return torch.rand(96, 3, 16, 16, generator=torch.Generator().manual_seed(0))

    def test_a_blur_is_seen_on_photos_that_were_not_trained_on(self, noise):
        smooth = torch.nn.functional.avg_pool2d(noise, 3, 1, 1)
        pairs = (noise[:64], smooth[:64]), (noise[64:], smooth[64:])
        assert perception.told_apart(*pairs, steps=60, batch=8) > 0.95

    def test_nothing_to_see_is_a_guess(self, noise):
        same = (noise[:64], noise[:64]), (noise[64:], noise[64:])
        assert perception.told_apart(*same, steps=20, batch=8) == 0.5

    def test_a_seed_gives_one_answer_and_touches_no_other_numbers(self, noise):
        pairs = (noise[:64], noise[:64] * 0.97), (noise[64:], noise[64:] * 0.97)
        state = torch.random.get_rng_state()
        first, again = (perception.told_apart(*pairs, steps=5, batch=8, seed=3) for _ in range(2))
        assert first == again
        assert torch.equal(torch.random.get_rng_state(), state)
