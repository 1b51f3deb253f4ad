import math
from itertools import product

import numpy as np
import pytest
import scipy.ndimage
import torch

from cascade_core import degradations
from cascade_core.degradations import (
    HOLE_COLOR,
    KERNEL_SIZE,
    LEVELS,
    _convolve_by_fourier,
    add_noise,
    apply_mask,
    blur,
    center_hole,
    degrade,
    gaussian_kernels,
    motion_kernels,
    sample,
)
from cascade_lab.data.brush import brush_masks

MIX = {"none": 0.25, "low": 0.25, "medium": 0.25, "high": 0.25}


def seeded(seed=0, device="cpu"):
    return torch.Generator(device).manual_seed(seed)


def center_of_mass(kernels):
    """(N, 2): row and column of the center of mass, from the kernel's middle, in px."""
    offset = torch.arange(kernels.shape[-1], dtype=kernels.dtype, device=kernels.device) - kernels.shape[-1] // 2
    return torch.stack([(kernels.sum(3) @ offset)[:, 0], (kernels.sum(2) @ offset)[:, 0]], 1)


def assert_are_kernels(kernels, n, size):
    assert kernels.shape == (n, 1, size, size)
    assert kernels.dtype == torch.float32
    assert (kernels >= 0).all()
    torch.testing.assert_close(kernels.sum((1, 2, 3)), torch.ones(n, device=kernels.device))
    assert center_of_mass(kernels).abs().max() < 1e-4


class TestMasks:
    def test_center_hole(self, device):
        masks = center_hole(3, 128, 128, device=device)
        assert masks.shape == (3, 1, 128, 128)
        assert masks.device.type == device
        missing = masks[2, 0].nonzero()
        assert missing.amin(0).tolist() == [36, 36]
        assert missing.amax(0).tolist() == [91, 91]
        assert masks.sum() == 3 * 56 * 56

    @pytest.mark.parametrize(("height", "width", "side"), [(64, 64, 28), (256, 128, 56), (100, 200, 44), (3, 3, 1)])
    def test_center_hole_scales_with_the_shorter_side(self, height, width, side):
        assert center_hole(1, height, width).sum() == side * side

    def test_center_hole_of_any_size(self):
        assert center_hole(1, 9, 9, 3)[0, 0, 3:6, 3:6].sum() == 9
        masks = center_hole(1, 10, 9, 4)
        assert masks[0, 0, 3:7, 2:6].sum() == masks.sum() == 16  # an odd margin is larger on the right

    @pytest.mark.parametrize("hole", [0, -1, 65])
    def test_center_hole_refuses(self, hole):
        with pytest.raises(ValueError, match="photo of 64x64"):
            center_hole(1, 64, 64, hole)


class TestGaussianKernels:
    def test_cardinality(self, device):
        std = torch.tensor([[0.5, 3.0], [2.0, 1.0], [3.2, 3.2]], device=device)
        kernels = gaussian_kernels(std, torch.tensor([0.3, 1.0, 2.0], device=device), 21)
        assert_are_kernels(kernels, 3, 21)
        assert kernels.device.type == device

    def test_covariance(self):
        """Its second moments are those of the rotated Gaussian: the axes, the angle and their order are right."""
        angle = torch.tensor([0.0, 0.6, math.pi / 2])
        kernels = gaussian_kernels(torch.tensor([[3.0, 1.5]]).repeat(3, 1), angle, 41)[:, 0].double()
        x = torch.arange(41.0).double() - 20
        xx, yy = kernels.sum(1) @ x**2, kernels.sum(2) @ x**2
        xy = torch.einsum("nij,i,j->n", kernels, x, x)
        cos, sin = angle.cos().double(), angle.sin().double()
        torch.testing.assert_close(xx, 9 * cos**2 + 2.25 * sin**2, rtol=0.01, atol=0.01)
        torch.testing.assert_close(yy, 9 * sin**2 + 2.25 * cos**2, rtol=0.01, atol=0.01)
        torch.testing.assert_close(xy, (9 - 2.25) * sin * cos, rtol=0.01, atol=0.01)

    def test_is_scipys(self, photos):
        image = photos[:1].double()
        ours = blur(image, gaussian_kernels(torch.tensor([[2.0, 2.0]]).double(), torch.zeros(1).double(), 17))
        theirs = scipy.ndimage.gaussian_filter(image[0].numpy(), (0, 2, 2), mode="mirror")
        # Theirs is cut off as a square, ours as a disc.
        np.testing.assert_allclose(ours[0], theirs, atol=3e-4)

    def test_delta(self):
        kernels = gaussian_kernels(torch.zeros(1, 2), torch.tensor([0.7]), 5)
        assert kernels[0, 0, 2, 2] == kernels.sum() == 1

    def test_refuses(self):
        one = torch.ones(1, 2)
        with pytest.raises(ValueError, match="odd"):
            gaussian_kernels(one, torch.zeros(1), 4)
        with pytest.raises(ValueError, match=r"\(2,\)"):
            gaussian_kernels(one, torch.zeros(2), 5)
        with pytest.raises(ValueError, match="from 0 to inf"):
            gaussian_kernels(-one, torch.zeros(1), 5)
        with pytest.raises(ValueError, match="float"):
            gaussian_kernels(one.long(), torch.zeros(1), 5)


class TestMotionKernels:
    def test_cardinality(self, device):
        kernels = motion_kernels(torch.linspace(0, 20, 50, device=device), 21, seeded())
        assert_are_kernels(kernels, 50, 21)
        assert kernels.device.type == device

    def test_reproducible_and_different(self):
        length = torch.full((8,), 9.0)
        kernels = motion_kernels(length, 11, seeded())
        assert torch.equal(kernels, motion_kernels(length, 11, seeded()))
        assert not torch.equal(kernels, motion_kernels(length, 11, seeded(1)))
        assert all((kernels[i] - kernels[j]).abs().max() > 0.01 for i in range(8) for j in range(i))

    def test_delta(self):
        kernels = motion_kernels(torch.zeros(2), 5, seeded())
        assert (kernels[:, 0, 2, 2] == 1).all()
        assert kernels.sum() == 2

    def test_is_the_path_of_its_docstring(self):
        """Point by point: a constant velocity and seven cosines, integrated, centered, scaled, each on four pixels."""
        draws = torch.randn(1, 2, 8, generator=seeded(3)).double().numpy()[0]
        time = (np.arange(256) + 0.5) / 256
        path = draws[:, :1] * time
        for k in range(1, 8):
            path = path + draws[:, k : k + 1] * math.sqrt(2) * np.sin(math.pi * k * time) / (math.pi * k**2)
        path -= path.mean(1, keepdims=True)
        path *= 7 / 2 / np.hypot(*path).max()
        wanted = np.zeros((9, 9))
        for x, y in path.T:
            left, top = math.floor(x), math.floor(y)
            for column, row in product((left, left + 1), (top, top + 1)):
                wanted[row + 4, column + 4] += (1 - abs(x - column)) * (1 - abs(y - row)) / 256
        kernel = motion_kernels(torch.tensor([7.0]), 9, seeded(3))[0, 0]
        np.testing.assert_allclose(kernel, wanted, atol=1e-5)

    def test_extent_is_the_length(self):
        """The farthest tap lies length / 2 from the middle, to within the pixel over which bilinear weights spread."""
        length = torch.tensor([2.0, 5.5, 9.0, 14.3, 20.0])
        kernels = motion_kernels(length, 31, seeded())[:, 0]
        offset = torch.arange(31.0) - 15
        distance = torch.hypot(offset, offset[:, None])
        farthest = (distance * (kernels > 0)).amax((1, 2))
        assert (farthest > length / 2 - 0.01).all()
        assert (farthest < length / 2 + math.sqrt(2)).all()

    def test_changes_continuously_with_the_length(self):
        """Sub-pixel: an extent longer by d px moves no point by more than d / 2, so no tap by more than the share
        of the path that lies on it times d / 2 a direction; a path counted per pixel stands still or jumps."""
        lengths = torch.arange(1.0, 12.0, 0.05)
        for seed in range(4):
            kernels = torch.cat([motion_kernels(length[None], 15, seeded(seed)) for length in lengths])
            change = kernels.diff(dim=0).abs().sum((1, 2, 3))
            assert change.min() > 1e-3
            assert change.max() < 4 * 0.05 / 2

    def test_long_paths_have_no_gaps(self):
        for kernel in motion_kernels(torch.full((32,), 20.0), 21, seeded())[:, 0]:
            assert scipy.ndimage.label(kernel > 1e-4, np.ones((3, 3)))[1] == 1

    def test_shares_a_path_among_neighbors(self):
        """Anti-aliased: a short path that starts between pixels lights several of them, unevenly."""
        kernels = motion_kernels(torch.full((64,), 1.0), 3, seeded())
        assert ((kernels > 0).sum((1, 2, 3)) >= 3).all()
        middle = kernels[:, 0, 1, 1]
        assert (middle > 0.25).all()
        assert (middle < 0.9).all()

    def test_refuses(self):
        with pytest.raises(ValueError, match="odd"):
            motion_kernels(torch.ones(1), 4, seeded())
        for length in (-torch.ones(1), torch.tensor([4.1]), torch.tensor([math.nan])):
            with pytest.raises(ValueError, match="length must be from 0 to 4, got"):
                motion_kernels(length, 5, seeded())
        for length in (torch.ones(1, 1), torch.ones(1).int()):
            with pytest.raises(ValueError, match=r"length must be floats of shape \(N,\)"):
                motion_kernels(length, 5, seeded())


class TestBlur:
    @pytest.mark.parametrize("size", [(64, 64), (33, 50)])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_is_scipys_convolution(self, size, dtype, device, photos):
        images = photos.to(device, dtype)[..., : size[0], : size[1]]
        kernels, _ = sample(MIX, 4, seeded(6), device)
        blurred = blur(images, kernels)
        assert blurred.dtype == dtype
        assert blurred.device.type == device
        for image, kernel, ours in zip(images.cpu(), kernels.cpu(), blurred.cpu(), strict=True):
            theirs = [scipy.ndimage.convolve(channel.double(), kernel[0].double(), mode="mirror") for channel in image]
            np.testing.assert_allclose(ours, np.stack(theirs), atol=3e-6)

    @pytest.mark.parametrize("size", [(64, 64), (33, 50)])
    def test_by_fourier_is_the_same(self, size, photos):
        images = photos[..., : size[0], : size[1]]
        kernels, _ = sample(MIX, 4, seeded(6))
        torch.testing.assert_close(_convolve_by_fourier(images, kernels), blur(images, kernels), rtol=0, atol=3e-6)

    def test_a_processor_convolves_directly(self, photos, monkeypatch):
        """By Fourier it would take some ten times as long."""
        monkeypatch.setattr(degradations, "_convolve_by_fourier", None)
        assert blur(photos, torch.ones(1, 1, 3, 3) / 9).shape == photos.shape

    @pytest.mark.parametrize("convolve", [blur, _convolve_by_fourier])
    def test_does_not_move_the_photo(self, convolve):
        """A slope is blurred into itself, where the border is out of reach."""
        kernels = motion_kernels(torch.tensor([7.3, 4.0]).double(), 9, seeded())
        slope = torch.arange(32.0).double().repeat(32, 1)
        slopes = torch.stack([slope, 2 * slope.T])[:, None]
        torch.testing.assert_close(convolve(slopes, kernels)[..., 5:-5, 5:-5], slopes[..., 5:-5, 5:-5])

    @pytest.mark.parametrize("convolve", [blur, _convolve_by_fourier])
    def test_delta_leaves_the_photo_bit_for_bit(self, convolve, photos):
        images = photos[:2]
        kernels = motion_kernels(torch.tensor([0.0, 8.0]), 9, seeded())
        blurred = convolve(images, kernels)
        assert torch.equal(blurred[0], images[0])
        assert not torch.equal(blurred[1], images[1])

    def test_one_kernel_for_all_and_any_channels(self, photos):
        images = photos[:3][:, :1]
        kernels = motion_kernels(torch.tensor([6.0]), 7, seeded())
        torch.testing.assert_close(blur(images, kernels), blur(images, kernels.repeat(3, 1, 1, 1)))

    def test_gradient(self):
        images = torch.rand(2, 1, 6, 6, dtype=torch.float64, generator=seeded(), requires_grad=True)
        kernels = motion_kernels(torch.tensor([0.0, 2.0]).double(), 3, seeded())
        assert torch.autograd.gradcheck(lambda x: blur(x, kernels), (images,))

    def test_refuses(self, photos):
        images, kernels = photos[:2], motion_kernels(torch.ones(2), 5, seeded())
        with pytest.raises(ValueError, match="uint8"):
            blur((images * 255).byte(), kernels)
        with pytest.raises(ValueError, match=r"\(3, 64, 64\)"):
            blur(images[0], kernels)
        with pytest.raises(ValueError, match=r"kernels must be floats of shape \(2, 1, 5, 5\)"):
            blur(images, torch.cat([kernels, kernels]))
        with pytest.raises(ValueError, match=r"kernels must be floats of shape \(2, 1, 3, 3\)"):
            blur(images, kernels[..., :3])
        with pytest.raises(ValueError, match="odd"):
            blur(images, torch.full((2, 1, 4, 4), 1 / 16))
        with pytest.raises(ValueError, match="5 px need photos of over 2 px, got 2x64"):
            blur(images[:, :, :2], kernels)


class TestNoise:
    def test_statistics(self, device):
        images = torch.full((3, 3, 128, 128), 0.5, device=device)
        sigma = torch.tensor([5.0, 25.0, 50.0], device=device)
        noise = (add_noise(images, sigma, seeded()) - images) * 255
        assert noise.device.type == device
        torch.testing.assert_close(noise.std((1, 2, 3)), sigma, rtol=0.02, atol=0)
        assert (noise.mean((1, 2, 3)).abs() < sigma / 50).all()
        scaled = (noise / sigma[:, None, None, None]).double()
        assert abs((scaled**4).mean().item() - 3) < 0.1  # a Gaussian's kurtosis
        inside = (scaled.abs() < 1).double().mean().item()
        assert abs(inside - 0.6827) < 0.005

    def test_is_white_and_every_images_own(self):
        noise = add_noise(torch.zeros(4, 3, 64, 64), 255.0, seeded())
        fields = noise.flatten(0, 1).flatten(1)
        correlation = torch.corrcoef(fields) - torch.eye(12)
        assert correlation.abs().max() < 0.08  # 5 standard errors of 4,096 pixels
        for neighbor in (noise.roll(1, 2), noise.roll(1, 3)):
            assert (noise * neighbor).mean().abs() < 0.03

    def test_is_not_clipped(self, photos):
        images = photos[:2]
        noisy = add_noise(images, 50.0, seeded())
        assert noisy.min() < 0
        assert noisy.max() > 1

    def test_reproducible_and_zero(self, photos):
        images = photos[:2]
        assert torch.equal(add_noise(images, 10.0, seeded()), add_noise(images, torch.full((2,), 10.0), seeded()))
        noisy = add_noise(images, torch.tensor([0.0, 10.0]), seeded())
        assert torch.equal(noisy[0], images[0])
        assert not torch.equal(noisy[1], images[1])

    def test_unit(self):
        """A sigma of 255 is a standard deviation of 1."""
        for kind in (torch.float32, torch.float64):  # drawn in the images' own precision
            noise = add_noise(torch.zeros(1, 1, 8, 8, dtype=kind), 255.0, seeded())
            assert torch.equal(noise, torch.randn(1, 1, 8, 8, generator=seeded(), dtype=kind))

    def test_refuses(self, photos):
        images = photos[:2]
        for sigma in (-1.0, math.nan, torch.tensor([1.0, -1.0])):
            with pytest.raises(ValueError, match="sigma must be from 0 to inf"):
                add_noise(images, sigma, seeded())
        for sigma in (torch.ones(3), torch.ones(2, 1)):
            with pytest.raises(ValueError, match=r"sigma must be floats of shape \(2,\)"):
                add_noise(images, sigma, seeded())
        with pytest.raises(ValueError, match="uint8"):
            add_noise((images * 255).byte(), 1.0, seeded())


class TestPunch:
    def test_fills(self, device, photos):
        images = photos[:2].to(device)
        masks = center_hole(2, 64, 64, 20)
        holed = apply_mask(images, masks)
        assert holed.device.type == device
        missing = masks.bool().expand_as(images).to(device)
        assert torch.equal(holed[~missing], images[~missing])
        assert torch.equal(holed[1, :, 30, 30].cpu(), torch.tensor(HOLE_COLOR))

    def test_any_color(self, photos):
        holed = apply_mask(photos[:1][:, :1], center_hole(1, 64, 64), color=[0.25])
        assert holed[0, 0, 32, 32] == 0.25

    def test_refuses(self, photos):
        images = photos[:2]
        with pytest.raises(ValueError, match=r"masks must be floats of shape \(2, 1, 64, 64\), got \(1, 1, 64, 64\)"):
            apply_mask(images, center_hole(1, 64, 64))
        with pytest.raises(ValueError, match="3 channels"):
            apply_mask(images, center_hole(2, 64, 64), color=[0.5])


class TestSample:
    @pytest.mark.parametrize("name", LEVELS)
    def test_strengths_lie_in_their_ranges(self, name, device):
        level = LEVELS[name]
        kernels, sigma = sample({name: 1.0}, 64, seeded(), device)
        assert_are_kernels(kernels, 64, KERNEL_SIZE)
        assert sigma.shape == (64,)
        assert kernels.device.type == sigma.device.type == device
        assert (sigma >= level.sigma[0]).all()
        assert (sigma <= level.sigma[1]).all()
        taps = (kernels > 0).sum((1, 2, 3))
        assert (taps == 1).all() if name == "none" else (taps > 4).all()

    def test_levels_are_ordered_and_fit_the_kernel(self):
        spread = []
        offset = torch.arange(float(KERNEL_SIZE)) - KERNEL_SIZE // 2
        for name in ("none", "low", "medium", "high"):
            kernels, _ = sample({name: 1.0}, 64, seeded())
            spread.append((kernels[:, 0] * (offset**2 + offset[:, None] ** 2)).sum((1, 2)).mean())
        assert spread[0] == 0
        assert all(2 * weak < strong for weak, strong in zip(spread, spread[1:], strict=False))
        assert all(level.length[1] < KERNEL_SIZE and 3 * level.std[1] <= KERNEL_SIZE // 2 for level in LEVELS.values())

    def test_shares(self):
        _, sigma = sample({"none": 0.5, "low": 0.0, "high": 0.3, "medium": 0.2}, 1000, seeded())
        assert abs((sigma == 0).double().mean() - 0.5) < 0.05
        assert abs((sigma > 30).double().mean() - 0.3) < 0.05
        assert not ((sigma > 0) & (sigma < 15)).any()

    def test_half_is_motion(self):
        kernels, _ = sample({"high": 1.0}, 1000, seeded())
        symmetric = (kernels - kernels.flip(2, 3)).abs().amax((1, 2, 3)) < 1e-6  # as a Gaussian is, and no random path
        assert abs(symmetric.double().mean() - 0.5) < 0.06
        offset = torch.arange(float(KERNEL_SIZE)) - KERNEL_SIZE // 2
        slant = torch.einsum("nij,i,j->n", kernels[symmetric, 0], offset, offset)
        assert abs((slant > 0.1).double().mean() - (slant < -0.1).double().mean()) < 0.1
        assert (slant.abs() > 0.1).double().mean() > 0.7  # and they lie in all directions

    def test_refuses(self):
        with pytest.raises(ValueError, match="no level 'strong'; there are none, low, medium, high"):
            sample({"strong": 1.0}, 1, seeded())
        for levels in ({}, {"low": 0.5}, {"low": 1.5, "high": -0.5}, {"low": 0.7, "high": 0.7}):
            with pytest.raises(ValueError, match="sum to 1"):
                sample(levels, 1, seeded())


class TestDegrade:
    def test_order_is_blur_noise_hole(self, photos):
        images, masks, generator = photos, brush_masks(4, 64, 64, seeded(5)), seeded(1)
        degraded = degrade(images, masks, MIX, generator, color=(0.1, 0.2, 0.3))

        generator = seeded(1)
        kernels, sigma = sample(MIX, 4, generator)
        by_hand = apply_mask(add_noise(blur(images, kernels), sigma, generator), masks, (0.1, 0.2, 0.3))
        assert torch.equal(degraded.images, by_hand)
        assert torch.equal(degraded.kernels, kernels)
        assert torch.equal(degraded.sigma, sigma)
        assert torch.equal(degraded.masks, masks)

    def test_the_order_shows(self):
        """The hole is clean and sharp: it comes last. The noise is white: it comes after the blur."""
        images = torch.full((8, 3, 64, 64), 0.5)
        degraded = degrade(images, center_hole(8, 64, 64), {"high": 1.0}, seeded())
        hole = degraded.images[:, :, 18:46, 18:46]
        assert torch.equal(hole, torch.tensor(HOLE_COLOR)[:, None, None].expand_as(hole))
        noise = (degraded.images - images)[:, :, :16] * 255
        torch.testing.assert_close(noise.std((1, 2, 3)), degraded.sigma, rtol=0.08, atol=0)
        assert ((noise[..., 1:] * noise[..., :-1]).mean((1, 2, 3)) / degraded.sigma**2).abs().max() < 0.1

    def test_none_changes_the_hole_only(self, photos):
        images, masks = photos[:2], center_hole(2, 64, 64)
        assert torch.equal(degrade(images, masks, {"none": 1.0}, seeded()).images, apply_mask(images, masks))

    def test_without_masks_there_is_no_hole(self, photos):
        degraded = degrade(photos[:2], None, {"low": 1.0}, seeded())
        assert degraded.masks.shape == (2, 1, 64, 64)
        assert not degraded.masks.any()

    def test_reproducible_and_every_image_its_own(self, device, photos):
        images = photos[:1].to(device).repeat(6, 1, 1, 1)
        one = degrade(images, None, {"medium": 1.0}, seeded())
        again = degrade(images, None, {"medium": 1.0}, seeded())
        assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
        assert not torch.equal(one.images, degrade(images, None, {"medium": 1.0}, seeded(1)).images)
        assert len(set(one.sigma.tolist())) == 6
        assert all((one.kernels[i] - one.kernels[j]).abs().max() > 1e-3 for i in range(6) for j in range(i))

    def test_leaves_its_input_alone(self, photos):
        images, masks = photos[:2], center_hole(2, 64, 64)
        before = images.clone()
        degrade(images, masks, MIX, seeded())
        assert torch.equal(images, before)

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
    def test_generator_and_photos_on_different_devices(self, photos):
        masks = center_hole(3, 64, 64)
        here = degrade(photos[:3], masks, MIX, seeded())
        there = degrade(photos[:3].to("cuda"), masks, MIX, seeded())
        assert there.images.device.type == there.masks.device.type == "cuda"
        torch.testing.assert_close(there.images.cpu(), here.images, rtol=0, atol=2e-4)
        assert degrade(photos[:3], masks, MIX, seeded(0, "cuda")).images.device.type == "cpu"
