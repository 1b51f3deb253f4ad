"""What holds for every denoiser and every deblurring method, and the traps of each."""

import sys
import warnings
from importlib.util import find_spec

import pytest
import torch

from cascade_core.degradations import add_noise, apply_mask, blur, center_hole, gaussian_kernels, motion_kernels
from cascade_core.metrics import psnr
from cascade_lab.baselines import DEBLURRERS, DENOISERS, RESTORERS, estimate_sigma, richardson_lucy, wavelets, wiener

needs_wavelets = pytest.mark.skipif(find_spec("pywt") is None, reason="no PyWavelets")
DENOISER_NAMES = [pytest.param(name, marks=needs_wavelets) if name == "wavelets" else name for name in DENOISERS]
RESTORER_NAMES = [*DENOISER_NAMES, *DEBLURRERS]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def kernels():
    """Two random motions, far from symmetric, and two oblique Gaussians, (4, 1, 13, 13)."""
    motion = motion_kernels(torch.tensor([9.0, 11.0]), 13, generator())
    oblique = gaussian_kernels(torch.tensor([[2.0, 0.7], [1.5, 1.0]]), torch.tensor([0.5, 1.0]), 13)
    return torch.cat([motion, oblique])


@pytest.mark.parametrize("name", RESTORER_NAMES)
def test_returns_images_of_the_same_kind_in_range(name, photos, kernels, device):
    images = add_noise(photos, 40, generator()).to(device)
    assert images.min() < 0
    assert images.max() > 1
    output = RESTORERS[name](images, kernels.to(device), 40)
    assert output.shape == images.shape
    assert output.dtype == images.dtype
    assert output.device == images.device
    assert ((output >= 0) & (output <= 1)).all()


@pytest.mark.parametrize("name", RESTORER_NAMES)
def test_treats_each_image_alone_with_its_own_kernel_and_noise(name, photos, kernels):
    images, sigma = add_noise(photos, 10, generator()), torch.tensor([0.0, 5.0, 15.0, 30.0])
    together = RESTORERS[name](images, kernels, sigma)
    alone = [RESTORERS[name](images[i : i + 1], kernels[i : i + 1], sigma[i].item()) for i in range(4)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", DENOISER_NAMES)
@pytest.mark.parametrize("sigma", [10, 25])
def test_denoisers_gain(name, sigma, photos):
    noisy = add_noise(photos, sigma, generator())
    assert psnr(DENOISERS[name](noisy, sigma=sigma), photos).mean() > psnr(noisy, photos).mean() + 2


@needs_wavelets
@pytest.mark.parametrize("name", DENOISER_NAMES)
def test_denoisers_find_the_noise_level_themselves(name, photos):
    noisy = add_noise(photos, 25, generator())
    known, unknown = (psnr(DENOISERS[name](noisy, sigma=sigma), photos).mean() for sigma in (25, None))
    assert abs(known - unknown) < 0.5


@pytest.mark.parametrize("name", DENOISER_NAMES)
def test_denoisers_leave_an_image_without_noise_alone(name, photos):
    torch.testing.assert_close(DENOISERS[name](photos, sigma=0), photos, atol=1e-7, rtol=0)


@pytest.mark.parametrize("name", DEBLURRERS)
def test_deblurring_gains_with_the_true_kernel_and_not_with_a_turned_one(name, photos, kernels):
    blurred = add_noise(blur(photos, kernels), 1, generator())
    before = psnr(blurred, photos)
    after = psnr(DEBLURRERS[name](blurred, kernels, 1), photos)
    turned = psnr(DEBLURRERS[name](blurred, kernels.rot90(2, (2, 3)), 1), photos)
    assert (after > before + 1).all()
    assert (after[:2] > turned[:2] + 1).all()  # the motions; the Gaussians are the same turned


@pytest.mark.parametrize("name", DEBLURRERS)
def test_deblurring_gains_at_the_border_too(name, photos, kernels):
    rim = 1 - center_hole(4, 64, 64, 52)
    blurred = add_noise(blur(photos, kernels), 1, generator())
    assert psnr(DEBLURRERS[name](blurred, kernels, 1), photos, rim).mean() > psnr(blurred, photos, rim).mean() + 1


@pytest.mark.parametrize("name", DEBLURRERS)
def test_one_kernel_may_serve_all(name, photos, kernels):
    one = DEBLURRERS[name](photos, kernels[:1], 5)
    assert torch.equal(one, DEBLURRERS[name](photos, kernels[:1].expand(4, 1, 13, 13), 5))


@pytest.mark.parametrize("name", DEBLURRERS)
@pytest.mark.parametrize(
    ("shape", "message"),
    [(None, "non-blind"), ((3, 1, 5, 5), r"\(3, 1, 5, 5\)"), ((4, 1, 4, 4), "odd"), ((4, 1, 5, 7), r"\(4, 1, 5, 7\)")],
)
def test_deblurring_insists_on_fitting_kernels(name, shape, message, photos):
    with pytest.raises(ValueError, match=message):
        DEBLURRERS[name](photos, None if shape is None else torch.ones(shape), 5)


@pytest.mark.parametrize("sigma", [-1, torch.tensor([1.0, 2.0]), torch.ones(4, 1), float("nan")])
@pytest.mark.parametrize("name", ["total variation", "non-local means", "wiener"])
def test_refuses_noise_levels_that_do_not_fit(name, sigma, photos, kernels):
    with pytest.raises(ValueError, match="sigma"):
        RESTORERS[name](photos, kernels, sigma)


@pytest.mark.parametrize("name", RESTORER_NAMES)
def test_refuses_gray_images(name, kernels):
    with pytest.raises(ValueError, match=r"\(4, 1, 16, 16\)"):
        RESTORERS[name](torch.zeros(4, 1, 16, 16), kernels, 5)


def test_richardson_lucy_with_more_steps_sharpens_a_clean_photo_further(photos, kernels):
    blurred = blur(photos, kernels)
    few, many = (psnr(richardson_lucy(blurred, kernels, steps=steps), photos).mean() for steps in (3, 20))
    assert many > few + 1


def test_wiener_holds_back_more_where_it_is_given_more_noise(photos, kernels):
    blurred = add_noise(blur(photos, kernels), 20, generator())
    right, wrong = (psnr(wiener(blurred, kernels, sigma), photos).mean() for sigma in (20, 0))
    assert right > wrong + 5


@needs_wavelets
def test_wavelets_use_fewer_levels_on_small_images_without_a_warning(photos):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wavelets(photos[..., :16, :16], sigma=10)


def test_wavelets_without_pywavelets_say_what_to_install(monkeypatch, photos):
    monkeypatch.setitem(sys.modules, "pywt", None)
    with pytest.raises(ImportError, match=r'pywt.*pip install "cascade-core\[baselines\]"'):
        wavelets(photos, sigma=10)


@needs_wavelets
@pytest.mark.parametrize("blurred", [False, True])
def test_estimated_noise_is_near_the_true_one(blurred, photos, kernels):
    sigma = torch.tensor([10.0, 20.0, 30.0, 50.0])
    images = blur(photos, kernels) if blurred else photos
    estimate = estimate_sigma(add_noise(images, sigma, generator()))
    torch.testing.assert_close(estimate, sigma, atol=3, rtol=0)


@needs_wavelets
def test_a_hole_does_not_lower_the_estimate(photos):
    masks = center_hole(4, 64, 64)
    noisy = apply_mask(add_noise(photos, 25, generator()), masks)
    torch.testing.assert_close(estimate_sigma(noisy, masks), torch.full((4,), 25.0), atol=3, rtol=0)
    assert (estimate_sigma(noisy) < estimate_sigma(noisy, masks)).all()


@needs_wavelets
@pytest.mark.filterwarnings("error")
def test_a_flat_image_has_no_noise():
    flat = torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1, 1).expand(3, 3, 32, 32)
    torch.testing.assert_close(estimate_sigma(flat), torch.zeros(3), atol=1e-6, rtol=0)
