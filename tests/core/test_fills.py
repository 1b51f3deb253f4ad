"""What the generator finds in the hole, in training, in the tables and in restoring a photo."""

import numpy as np
import pytest
import torch

from cascade_core.conventions import FILLS, from_pixels, to_pixels
from cascade_core.degradations import HOLE_COLOR, apply_mask, center_hole
from cascade_core.fills import generator_input
from cascade_core.models import Cascade, InpaintingGenerator
from cascade_lab import restoration
from cascade_lab.baselines import laplace
from cascade_lab.evaluation.methods import from_cascade
from cascade_lab.evaluation.protocol import Protocol, degraded_images
from cascade_lab.training import profiles, stages

SMALL = {"size": 32, "hole": 12, "generator_widths": (4, 4, 4, 4, 4), "generator_blocks": 1, "deblur_denoise_width": 4}


@pytest.fixture
def masked(photos):
    crops = photos[..., 16:48, 16:48]
    masks = center_hole(*crops[:, 0].shape, 12)
    return apply_mask(crops, masks, HOLE_COLOR), masks


class TestStarted:
    def test_color_is_left_as_it_is(self, masked):
        assert generator_input(*masked, "color") is masked[0]

    def test_laplace_fills_the_hole_and_nothing_else(self, masked):
        images, masks = masked
        filled = generator_input(images, masks, "laplace")
        torch.testing.assert_close(filled, laplace(images, masks))
        assert torch.equal(filled[:, :, :8], images[:, :, :8])

    def test_the_mask_is_the_fourth_channel(self, masked):
        both = generator_input(*masked, "laplace and mask")
        assert both.shape == (4, 4, 32, 32)
        assert torch.equal(both[:, 3:], masked[1])

    def test_exception(self, masked):
        with pytest.raises(ValueError, match="unknown fill 'mean'; the fills are color, laplace"):
            generator_input(*masked, "mean")


class TestGenerator:
    @pytest.mark.parametrize("fill", FILLS)
    def test_untrained_it_returns_the_colors_of_its_input(self, masked, fill):
        generator = InpaintingGenerator((4, 4, 4, 4, 4), 1, fill).eval()
        given = generator_input(*masked, fill)
        torch.testing.assert_close(generator(given), given[:, :3])

    def test_exception(self):
        with pytest.raises(ValueError, match="unknown fill"):
            InpaintingGenerator(fill="noise")
        with pytest.raises(ValueError, match=r"\(N, 4, H, W\), got \(1, 3, 32, 32\)"):
            InpaintingGenerator((4, 4, 4, 4, 4), 1, "laplace and mask")(torch.zeros(1, 3, 32, 32))


class TestCascadePlus:
    @pytest.fixture
    def networks(self):
        profile = profiles.read("smoke", {**SMALL, "generator_fill": "laplace and mask"})
        networks = {name: stages.build(name, profile).eval() for name in ("generator", "deblur_denoise")}
        return networks, stages.sizes(profile)

    def test_in_the_tables(self, networks, photos):
        """Untrained, both networks return what they are given: the Laplace fill."""
        methods = from_cascade(Cascade(**networks[0]).eval())
        assert list(methods) == ["inpainted+", "cascade+"]
        protocol = Protocol(32, 12)
        degraded = degraded_images(photos[..., 16:48, 16:48], protocol)
        expected = laplace(degraded.images, degraded.masks)
        torch.testing.assert_close(methods["cascade+"](degraded), expected, atol=1e-5, rtol=0)

    def test_restoring_hides_nothing_that_is_known(self, networks, photos):
        """Untrained, it returns the Laplace fill from the scratch's own border, not from that of a square around it."""
        photo = to_pixels(photos[:1])[0]
        mask = np.zeros(photo.shape[:2], bool)
        mask[30:32, 20:31] = True
        restored = restoration.restore(photo, mask, *networks).restored
        wanted = to_pixels(laplace(from_pixels(photo), torch.from_numpy(mask)[None, None].float()))[0]
        assert abs(restored.astype(int) - wanted).max() <= 1
        square = networks[0]["generator"].__class__((4, 4, 4, 4, 4), 1, "laplace").eval()
        other = restoration.restore(photo, mask, {"generator": square}, networks[1]).restored
        assert abs(other.astype(int) - wanted)[mask].mean() > 3

    def test_in_restoring(self, networks):
        """A smooth photo with a hole comes back smooth."""
        photo = np.linspace(60, 180, 64).astype(np.uint8)[:, None, None].repeat(80, 1).repeat(3, 2)
        mask = np.zeros((64, 80), bool)
        mask[20:30, 30:41] = True
        torn = np.where(mask[..., None], 0, photo).astype(np.uint8)
        restored = restoration.restore(torn, mask, *networks).restored
        assert (restored[~mask] == photo[~mask]).all()
        assert abs(restored.astype(int) - photo)[mask].max() <= 6
