"""Shapes, and the way from images to pixels and back."""

import numpy as np
import pytest
import torch

from cascade_core.conventions import check_tensor, from_pixels, to_pixels


class TestCheckTensor:
    def test_sizes_letters_and_scalars(self):
        check_tensor(torch.zeros(2, 3, 8, 9), "images", ("N", 3, "H", 9))
        check_tensor(torch.tensor(1.0), "sigma", ())

    @pytest.mark.parametrize(
        ("tensor", "message"),
        [
            (torch.zeros(2, 1, 8, 8), r"x must be floats of shape \(N, 3, H, W\), got \(2, 1, 8, 8\) of torch.float32"),
            (torch.zeros(3, 8, 8), r"got \(3, 8, 8\)"),
            (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), "of torch.uint8"),
        ],
    )
    def test_refuses(self, tensor, message):
        with pytest.raises(ValueError, match=message):
            check_tensor(tensor, "x", ("N", 3, "H", "W"))

    def test_a_vector_is_written_as_one(self):
        with pytest.raises(ValueError, match=r"floats of shape \(2,\), got \(3,\)"):
            check_tensor(torch.zeros(3), "sigma", (2,))


class TestPixels:
    def test_every_byte_comes_back(self):
        pixels = np.arange(256, dtype=np.uint8).reshape(1, 8, 32, 1).repeat(3, 3)
        images = from_pixels(pixels)
        assert images.shape == (1, 3, 8, 32)
        assert images.dtype == torch.float32
        assert np.array_equal(to_pixels(images), pixels)

    def test_one_image(self):
        assert torch.equal(from_pixels(np.full((2, 5, 3), 51)), torch.full((1, 3, 2, 5), 0.2))

    def test_rounds_and_clips(self, device):
        values = torch.tensor([-0.5, 0.0, 0.4 / 255, 0.6 / 255, 1.0, 7.0], device=device).view(1, 1, 1, 6)
        assert to_pixels(values)[0, 0, :, 0].tolist() == [0, 0, 0, 1, 255, 255]

    def test_sixteen_bit_floats_are_not_rounded_twice(self):
        assert to_pixels(torch.full((1, 3, 1, 1), 0.5, dtype=torch.bfloat16))[0, 0, 0].tolist() == [128] * 3

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
    def test_a_network_that_diverged_paints_nothing(self, value):
        images = torch.zeros(1, 3, 4, 4)
        images[0, 1, 2, 3] = value
        with pytest.raises(ValueError, match="not finite"):
            to_pixels(images)
