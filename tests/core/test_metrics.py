import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_cdt
from skimage import data
from skimage.filters import gaussian
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from cascade_core import metrics
from cascade_core.metrics import (
    Interval,
    composite,
    mean_interval,
    measure,
    paired_interval,
    psnr,
    regions,
    ssim,
    ssim_map,
)

WANG = {
    "gaussian_weights": True,
    "sigma": 1.5,
    "use_sample_covariance": False,
    "data_range": 255,
    "channel_axis": -1,
}


@pytest.fixture(scope="module")
def pairs():
    """Twelve pairs of uint8 crops (128, 96, 3): three photos, each with faint and strong noise, a blur and a shift."""
    rng = np.random.default_rng(0)
    result = []
    for photo in (data.astronaut(), data.chelsea(), data.coffee()):
        truth = photo[100:228, 150:246]
        blurred = gaussian(truth, 2, channel_axis=-1, preserve_range=True)
        others = [truth + rng.normal(0, sigma, truth.shape) for sigma in (1, 50)] + [blurred, photo[100:228, 151:247]]
        result += [(np.clip(np.round(other), 0, 255).astype(np.uint8), truth) for other in others]
    return result


@pytest.fixture(scope="module")
def batch(pairs):
    outputs, targets = (np.stack(images) for images in zip(*pairs, strict=True))
    return as_tensor(outputs), as_tensor(targets)


@pytest.fixture
def holes():
    masks = torch.zeros(12, 1, 128, 96)
    masks[:, :, 36:92, 20:76] = 1
    return masks


def as_tensor(images):
    return torch.from_numpy(images).permute(0, 3, 1, 2) / 255


class TestPsnr:
    def test_equals_scikit_image(self, pairs, batch, device):
        output, target = batch
        expected = [peak_signal_noise_ratio(truth, image) for image, truth in pairs]
        result = psnr(output.to(device), target.to(device))
        assert result.dtype == torch.float64
        assert result.device.type == device
        np.testing.assert_allclose(result.cpu(), expected, rtol=0, atol=1e-9)

    def test_region_equals_scikit_image_on_its_crop(self, pairs, batch, holes):
        expected = [peak_signal_noise_ratio(truth[36:92, 20:76], image[36:92, 20:76]) for image, truth in pairs]
        np.testing.assert_allclose(psnr(*batch, holes), expected, rtol=0, atol=1e-9)

    def test_is_taken_on_8_bit_values(self):
        target = torch.full((1, 3, 4, 4), 100 / 255)
        assert psnr(target + 0.4 / 255, target).item() == math.inf  # rounds to the same value
        assert psnr(target + 0.6 / 255, target).item() == pytest.approx(20 * math.log10(255))
        assert psnr(target * 0 + 7.0, target * 0 + 1.0).item() == math.inf  # clipped

    def test_nan_in_the_output_is_not_hidden(self):
        target = torch.rand(1, 3, 4, 4)
        assert psnr(target * math.nan, target).isnan().all()

    def test_refuses(self, batch):
        output, target = batch
        with pytest.raises(ValueError, match=r"\(1, 3, 128, 96\), got \(12, 3, 128, 96\)"):
            psnr(output, target[:1])
        with pytest.raises(ValueError, match="the output has values up to 2.*divide by 255"):
            psnr(255 * output, target)
        with pytest.raises(ValueError, match="the target has values up to 2.*divide by 255"):
            ssim(output, 255 * target)
        with pytest.raises(ValueError, match="torch.uint8"):
            psnr((output * 255).byte(), (target * 255).byte())
        with pytest.raises(ValueError, match=r"region's shape \(12, 1, 96, 128\)"):
            psnr(output, target, torch.ones(12, 1, 96, 128))
        region = torch.ones(12, 1, 128, 96)
        region[[3, 5]] = 0
        with pytest.raises(ValueError, match=r"images \[3, 5\]"):
            psnr(output, target, region)


class TestSsim:
    def test_equals_scikit_image(self, pairs, batch, device):
        """Twelve images are two passes on a processor, so the batch's seam is tested too."""
        output, target = batch
        expected = [structural_similarity(image, truth, **WANG) for image, truth in pairs]
        assert min(expected) < 0.4
        assert max(expected) > 0.98
        result = ssim(output.to(device), target.to(device))
        assert result.device.type == device
        np.testing.assert_allclose(result.cpu(), expected, rtol=0, atol=1e-9)

    def test_region_averages_scikit_images_map_over_the_windows_centered_there(self, pairs, batch, device):
        output, target = (images.to(device) for images in batch)
        masks = torch.zeros(12, 1, 128, 96, device=device)
        masks[:, :, :40, 50:] = 1  # touches the border, of which 5 px are no window's center
        maps = [structural_similarity(image, truth, full=True, **WANG)[1] for image, truth in pairs]
        expected = [full[5:40, 50:-5].mean() for full in maps]
        np.testing.assert_allclose(ssim(output, target, masks).cpu(), expected, rtol=0, atol=1e-9)

    def test_float32_moments_would_not_do(self):
        """The worst case for E[x^2] - E[x]^2: nearly constant, bright, with noise of one gray level."""
        rng = np.random.default_rng(1)
        image, truth = (rng.integers(253, 255, (64, 64, 3), dtype=np.uint8) for _ in range(2))
        expected = structural_similarity(image, truth, **WANG)
        assert ssim(as_tensor(image[None]), as_tensor(truth[None])).item() == pytest.approx(expected, abs=1e-10)

    def test_reflect_padding_equals_the_formula(self, batch):
        """Wang et al. (2004), equation 13, with a two-dimensional window on images mirrored at the border."""
        output, target = (images[:3, :, :64, :48] for images in batch)
        x, y = (F.pad((images * 255).round().double(), [5] * 4, mode="reflect") for images in (output, target))
        offsets = torch.arange(-5, 6, dtype=torch.float64)
        window = torch.exp(-(offsets[:, None] ** 2 + offsets**2) / 4.5)
        window = (window / window.sum()).flatten()
        x, y = (images.flatten(0, 1)[:, None] for images in (x, y))
        moments = (F.unfold(maps, 11) for maps in (x, y, x * x, y * y, x * y))
        mean_x, mean_y, xx, yy, xy = ((window @ moment).view(3, 3, 64, 48) for moment in moments)
        c1, c2 = 2.55**2, 7.65**2
        covariance = xy - mean_x * mean_y
        expected = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
        expected /= (mean_x**2 + mean_y**2 + c1) * (xx - mean_x**2 + yy - mean_y**2 + c2)
        mirrored = [F.pad(image, [5] * 4, mode="reflect") for image in (output, target)]
        torch.testing.assert_close(ssim_map(*mirrored), expected.mean(1), rtol=0, atol=1e-10)
        assert (ssim(*mirrored) - ssim(output, target)).abs().max() > 1e-3  # another reading

    def test_leaves_its_input_alone(self, batch):
        output, target = (images[:2].double() for images in batch)
        before = output.clone(), target.clone()
        ssim(output, target)
        assert torch.equal(output, before[0])
        assert torch.equal(target, before[1])

    def test_size_of_the_map(self):
        image = torch.rand(2, 3, 11, 30)
        torch.testing.assert_close(ssim_map(image, image), torch.ones(2, 1, 20, dtype=torch.float64))

    def test_refuses(self, batch):
        with pytest.raises(ValueError, match="11 px"):
            ssim(torch.rand(1, 3, 10, 64), torch.rand(1, 3, 10, 64))
        border = torch.zeros(12, 1, 128, 96)
        border[:, :, :5] = 1
        with pytest.raises(ValueError, match=r"images \[0, 1, "):
            ssim(*batch, region=border)


class TestRegions:
    def test_against_the_chessboard_distance(self):
        generator = torch.Generator().manual_seed(0)
        seeds = (torch.rand(3, 1, 64, 48, generator=generator) < 0.002).float()
        masks = F.max_pool2d(seeds, 21, stride=1, padding=10)  # holes that overlap and touch the image's border
        assert masks[:, :, 0].any()
        named = regions(masks, rim=4)
        for mask, rim in zip(masks[:, 0].numpy(), named["rim"][:, 0].numpy(), strict=True):
            distance = distance_transform_cdt(mask, metric="chessboard")
            np.testing.assert_array_equal(rim, (distance >= 1) & (distance <= 4))

    def test_hole_and_context_part_the_whole(self, holes):
        named = regions(holes)
        assert torch.equal(named["hole"], holes)
        assert torch.equal(named["hole"] + named["context"], named["whole"])
        assert named["rim"].sum() == 12 * (56**2 - 42**2)
        assert all(torch.equal(named[name], region) for name, region in regions(holes.bool()).items())

    def test_refuses(self):
        with pytest.raises(ValueError, match=r"\(2, 3, 8, 8\)"):
            regions(torch.zeros(2, 3, 8, 8))


class TestMeasure:
    @pytest.fixture
    def measured(self):
        photo = torch.from_numpy(data.astronaut()[:128, 150:278]).permute(2, 0, 1)[None] / 255
        target = photo.repeat(2, 1, 1, 1)
        noise = 0.1 * torch.randn(target.shape, generator=torch.Generator().manual_seed(0))
        masks = torch.zeros(2, 1, 128, 128)
        masks[0, :, 36:92, 36:92] = masks[1, :, 32:96, 32:96] = 1
        return target + noise, target, masks, measure(target + noise, target, masks)

    def test_names(self, measured):
        names = {f"{kind}_{region}" for kind in ("psnr", "ssim") for region in ("hole", "rim", "context", "whole")}
        assert set(measured[3]) == names | {f"{name}_composited" for name in names}
        assert all(values.shape == (2,) for values in measured[3].values())

    def test_is_psnr_and_ssim_over_the_regions(self, measured):
        output, target, masks, result = measured
        composited = composite(output, target, masks)
        for name, region in regions(masks).items():
            assert torch.equal(result[f"psnr_{name}"], psnr(output, target, region))
            assert torch.equal(result[f"ssim_{name}"], ssim(output, target, region))
            assert torch.equal(result[f"psnr_{name}_composited"], psnr(composited, target, region))
            assert torch.equal(result[f"ssim_{name}_composited"], ssim(composited, target, region))

    def test_what_pasting_leaves_and_changes(self, measured):
        result = measured[3]
        for name in ("psnr_hole", "psnr_rim"):
            assert torch.equal(result[name], result[f"{name}_composited"])
        assert result["psnr_context_composited"].isinf().all()
        assert (result["ssim_whole_composited"] > result["ssim_whole"] + 0.1).all()
        assert (result["ssim_context_composited"] < 1).all()

    def test_whole_follows_from_the_hole_when_composited(self, measured):
        """20 log10(128 / 56) = 7.18 dB and 20 log10(128 / 64) = 6.02 dB."""
        gain = measured[3]["psnr_whole_composited"] - measured[3]["psnr_hole"]
        np.testing.assert_allclose(gain, [7.1804, 6.0206], atol=1e-4)

    def test_paste(self, measured):
        output, target, masks, _ = measured
        composited = composite(output, target, masks)
        inside = masks.expand_as(output).bool()
        assert torch.equal(composited[inside], output[inside])
        assert torch.equal(composited[~inside], target[~inside])

    def test_an_image_without_a_hole_is_refused(self, measured):
        output, target, masks, _ = measured
        with pytest.raises(ValueError, match=r"images \[1\]"):
            measure(output, target, masks * torch.tensor([1.0, 0.0]).view(2, 1, 1, 1))


class TestIntervals:
    def test_holds_the_true_mean_19_times_in_20(self, monkeypatch):
        monkeypatch.setattr(metrics, "RESAMPLES", 500)
        rng = np.random.default_rng(0)
        samples = rng.gamma(4, 1, (300, 40))  # skewed, of mean 4
        intervals = [mean_interval(sample, seed=seed) for seed, sample in enumerate(samples)]
        coverage = np.mean([interval.low <= 4 <= interval.high for interval in intervals])
        assert 0.90 <= coverage <= 0.98

    def test_width_for_many_normal_values(self):
        values = torch.randn(1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        interval = mean_interval(values)
        assert interval.n == 1000
        assert interval.mean == pytest.approx(values.mean().item())
        assert interval.high - interval.low == pytest.approx(2 * 1.96 * values.std().item() / 1000**0.5, rel=0.05)

    def test_is_repeatable_and_takes_a_seed(self):
        values = torch.rand(10, generator=torch.Generator().manual_seed(0))
        assert mean_interval(values) == mean_interval(values)
        assert mean_interval(values, seed=0) != mean_interval(values, seed=1)

    def test_paired_is_narrower_where_images_differ_more_than_methods(self):
        generator = torch.Generator().manual_seed(0)
        image, noise = torch.randn(2, 100, generator=generator)
        a, b = 18 + 3 * image + 0.3, 18 + 3 * image + 0.2 * noise
        paired, separate = paired_interval(a, b), (mean_interval(a), mean_interval(b))
        assert paired.mean == pytest.approx(separate[0].mean - separate[1].mean, abs=1e-5)
        assert separate[0].low < separate[1].high  # they overlap
        assert paired.low > 0
        assert paired.high - paired.low < 0.1 * (separate[0].high - separate[0].low)
        assert paired_interval(b, a).mean == -paired.mean

    def test_constant_single_and_infinite_values(self):
        assert mean_interval([2.5, 2.5, 2.5]) == Interval(2.5, 2.5, 2.5, 3)
        for values, mean in (([2.5], 2.5), ([20.0, math.inf], math.inf)):
            interval = mean_interval(values)
            assert interval.mean == mean
            assert math.isnan(interval.low)
            assert math.isnan(interval.high)
        assert math.isnan(paired_interval(torch.tensor([math.inf]), torch.tensor([math.inf])).mean)

    def test_text(self):
        interval = Interval(18.004, 17.31, 18.72, 100)
        assert f"{interval:.3f}" == "18.004 [17.310, 18.720]"
        assert f"{interval:+.1f}" == "+18.0 [+17.3, +18.7]"
        assert f"{Interval(math.inf, math.nan, math.nan, 3):.2f}" == "inf"

    def test_refuses(self):
        for values in ([], torch.zeros(3, 2)):
            with pytest.raises(ValueError, match="N at least 1"):
                mean_interval(values)
        with pytest.raises(ValueError, match=r"\(3,\) and \(4,\)"):
            paired_interval(torch.zeros(3), torch.zeros(4))
