"""What holds for every inpainter, and what tells one from another."""

import sys
import types
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from cascade_core.degradations import center_hole
from cascade_core.metrics import psnr
from cascade_lab.baselines import (
    INPAINTERS,
    KNearest,
    NeuralPatchSynthesis,
    biharmonic,
    laplace,
    mean,
    patchmatch,
    telea,
)
from cascade_lab.baselines.interface import fill_each
from cascade_lab.data.brush import brush_masks

NEEDS = {"telea": "cv2", "patchmatch": "patchmatch"}
# The Context Encoder is missing: it refuses all masks but one, and has a test file of its own.
MADE = {
    "k-nn": lambda: KNearest(torch.rand(6, 3, 64, 64, generator=torch.Generator().manual_seed(1)), k=2),
    "neural patch synthesis": lambda: NeuralPatchSynthesis(laplace, "random", scales=2, rounds=1, iterations=1),
}
NAMES = [
    pytest.param(name, marks=pytest.mark.skipif(find_spec(NEEDS[name]) is None, reason=f"no {NEEDS[name]}"))
    if name in NEEDS
    else name
    for name in [*INPAINTERS, *MADE]
]


@pytest.fixture(params=NAMES, scope="module")
def fill(request):
    if request.param in INPAINTERS:
        return INPAINTERS[request.param]
    return MADE[request.param]()


@pytest.fixture(scope="module")
def filled(fill, photos):
    """What the inpainter was given, and what it returned; several tests look at it."""
    images, masks = photos.clone(), holes()
    return images, masks, fill(images, masks)


def holes():
    """A hole in the middle, a free-form one, one that takes a whole side of the photo, and none."""
    masks = torch.cat([center_hole(1, 64, 64), brush_masks(1, 64, 64, torch.Generator().manual_seed(3))])
    side, nothing = torch.zeros(1, 1, 64, 64), torch.zeros(1, 1, 64, 64)
    side[..., :9] = 1
    return torch.cat([masks, side, nothing])


def test_returns_the_known_pixels_bit_for_bit_and_a_plausible_hole(fill, filled, photos, device):
    images, masks = photos.to(device), holes().to(device)
    output = filled[-1] if device == "cpu" else fill(images, masks)
    assert output.shape == images.shape
    assert output.dtype == images.dtype
    assert output.device == images.device
    known = (masks == 0).expand_as(images)
    assert torch.equal(output[known], images[known])
    assert ((output >= 0) & (output <= 1)).all()
    assert not torch.equal(output, images)


def test_never_reads_under_the_mask(fill, filled, photos):
    _, masks, expected = filled
    for hidden in (0.0, 1.0, torch.nan):
        assert torch.equal(fill(torch.where(masks == 1, hidden, photos), masks), expected)


def test_treats_each_image_alone(fill, filled, photos):
    _, masks, together = filled
    alone = torch.cat([fill(photos[i : i + 1], masks[i : i + 1]) for i in range(len(photos))])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)


def test_leaves_its_input_as_it_was(filled, photos):
    images, masks, _ = filled
    assert torch.equal(images, photos)
    assert torch.equal(masks, holes())


def test_fills_an_empty_batch(fill):
    assert fill(torch.zeros(0, 3, 64, 64), torch.zeros(0, 1, 64, 64)).shape == (0, 3, 64, 64)


@pytest.mark.parametrize(
    ("images", "masks", "message"),
    [
        (torch.zeros(1, 1, 64, 64), torch.zeros(1, 1, 64, 64), r"\(1, 1, 64, 64\)"),
        (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), torch.zeros(1, 1, 64, 64), "uint8"),
        (torch.zeros(1, 3, 64, 64), torch.zeros(1, 1, 32, 32), r"\(1, 1, 32, 32\)"),
        (torch.zeros(2, 3, 64, 64), torch.zeros(1, 1, 64, 64), r"\(2, 1, 64, 64\)"),
        (torch.zeros(1, 3, 64, 64), torch.full((1, 1, 64, 64), 0.5), "0.5"),
        (torch.zeros(1, 3, 64, 64), torch.ones(1, 1, 64, 64), "whole image"),
    ],
    ids=["gray", "bytes", "size", "count", "soft mask", "nothing known"],
)
def test_refuses_what_it_cannot_fill(fill, images, masks, message):
    with pytest.raises(ValueError, match=message):
        fill(images, masks)


def test_laplace_beats_the_mean_of_the_context_on_photos(photos):
    masks = center_hole(4, 64, 64)
    quality = [psnr(method(photos, masks), photos, masks).mean() for method in (laplace, mean)]
    assert quality[0] > quality[1] + 1


def test_mean_is_the_mean_of_the_known_pixels(photos):
    masks = holes()[:1]
    known = photos[0][:, masks[0, 0] == 0]
    torch.testing.assert_close(mean(photos[:1], masks)[0, :, 32, 32], known.mean(dim=1), atol=1e-6, rtol=0)


def test_biharmonic_goes_on_with_a_slope():
    ramp = torch.linspace(0, 1, 24).expand(1, 3, 24, 24)
    assert (biharmonic(ramp, center_hole(1, 24, 24, 8)) - ramp).abs().max() < 1e-3


@pytest.mark.parametrize("method", [telea, patchmatch])
def test_a_missing_package_is_named_with_the_command_that_brings_it(method, monkeypatch, photos):
    monkeypatch.setitem(sys.modules, NEEDS[method.__name__], None)
    with pytest.raises(ImportError, match=rf'{NEEDS[method.__name__]}.*pip install "cascade-core\[baselines\]"'):
        method(photos, center_hole(4, 64, 64))


def test_patchmatch_without_its_library_says_so(monkeypatch, photos):
    monkeypatch.setitem(sys.modules, "patchmatch", types.SimpleNamespace(patchmatch_available=False))
    with pytest.raises(ImportError, match="compiled library"):
        patchmatch(photos, center_hole(4, 64, 64))


@pytest.mark.skipif(find_spec("patchmatch") is None, reason="no PyPatchMatch")
def test_patchmatch_copies_a_texture_that_laplace_smears():
    stripes = (torch.arange(48) // 8 % 2).float().mul(0.6).add(0.2).expand(1, 3, 48, 48)
    masks = center_hole(1, 48, 48, 12)
    assert psnr(patchmatch(stripes, masks), stripes, masks) > psnr(laplace(stripes, masks), stripes, masks) + 10


@pytest.mark.skipif(find_spec("patchmatch") is None, reason="no PyPatchMatch")
def test_patchmatch_is_the_same_for_the_same_seed(photos):
    images, masks = photos[:1], center_hole(1, 64, 64)
    outputs = [patchmatch(images, masks, seed=seed) for seed in (0, 5, 0)]
    assert torch.equal(outputs[0], outputs[2])
    assert not torch.equal(outputs[0], outputs[1])


def test_bytes_are_rounded_and_clipped():
    values, seen = torch.tensor([-0.1, 0.0, 0.4999 / 255, 0.5001 / 255, 1.0, 1.2]), []

    def fill(image, hole):
        seen.append(image[0, :6, 0].tolist())
        return np.full_like(image, 51)

    images = torch.cat([values, torch.zeros(1)]).expand(1, 3, 1, 7)
    masks = torch.zeros(1, 1, 1, 7)
    masks[..., 6] = 1
    filled = fill_each(images, masks, fill, as_bytes=True)
    assert torch.equal(filled[..., :6], images[..., :6])  # the known pixels do not pass through the bytes
    assert (filled[..., 6] == torch.tensor(51 / 255)).all()
    assert seen == [[0, 0, 0, 1, 255, 255]]
