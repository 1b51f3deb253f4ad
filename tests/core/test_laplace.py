"""The Laplace fill against functions that solve the discrete equation exactly."""

import pytest
import torch
from scipy.sparse.linalg import LaplacianNd

from cascade_core.degradations import center_hole
from cascade_lab.baselines import laplace
from cascade_lab.data.brush import brush_masks


def surface(values):
    """(H, W) -> (1, 3, H, W), each channel at its own scale."""
    return torch.stack([values, 0.5 * values, 1 - values])[None].float()


X, Y = torch.meshgrid(torch.linspace(0, 1, 20), torch.linspace(0, 1, 20), indexing="xy")


@pytest.mark.parametrize("values", [X * 0 + 0.3, 0.2 + 0.5 * X + 0.3 * Y, X * Y, 0.5 + 0.5 * (X**2 - Y**2)])
def test_recovers_harmonic_functions_exactly(values, device):
    images, masks = surface(values).to(device), torch.zeros(1, 1, 20, 20, device=device)
    masks[..., 5:14, 4:16] = 1
    torch.testing.assert_close(laplace(images, masks), images, atol=1e-6, rtol=0)


@pytest.mark.parametrize("rows", [slice(0, 6), slice(14, 20)], ids=["top", "bottom"])
def test_has_no_slope_across_the_border_of_the_photo(rows):
    images, masks = surface(X), torch.zeros(1, 1, 20, 20)  # X has no slope across the top and the bottom
    masks[:, :, rows, 5:12] = 1
    torch.testing.assert_close(laplace(images, masks), images, atol=1e-6, rtol=0)


def test_goes_on_flat_where_the_hole_takes_a_whole_side():
    images, masks = surface(X), torch.zeros(1, 1, 20, 20)
    masks[..., 12:] = 1
    filled = laplace(images, masks)
    torch.testing.assert_close(filled[..., 12:], filled[..., 11:12].expand(1, 3, 20, 8), atol=1e-6, rtol=0)


def test_each_missing_pixel_is_the_mean_of_its_neighbors(photos):
    masks = brush_masks(4, 64, 64, torch.Generator().manual_seed(0))
    filled = laplace(photos.double(), masks)
    excess = (
        LaplacianNd((64, 64), boundary_conditions="neumann", dtype=float) @ filled.flatten(2).reshape(12, -1).numpy().T
    ).T.reshape(4, 3, 64, 64)
    assert (torch.from_numpy(excess) * masks).abs().max() < 1e-10
    assert (torch.from_numpy(excess) * (1 - masks)).abs().max() > 0.1


def test_stays_within_the_range_of_the_known_pixels(photos):
    masks = center_hole(4, 64, 64)
    filled = laplace(photos, masks)
    known = photos.masked_fill(masks == 1, 0.5)
    assert (filled.amax((2, 3)) <= known.amax((2, 3))).all()
    assert (filled.amin((2, 3)) >= known.amin((2, 3))).all()


def test_single_pixels_in_a_grid_of_known_ones():
    images = surface(torch.rand(9, 9, generator=torch.Generator().manual_seed(0)))
    masks = torch.zeros(1, 1, 9, 9)
    masks[..., 1:8:2, 1:8:2] = 1
    neighbors = (images[..., :-2, 1:-1] + images[..., 2:, 1:-1] + images[..., 1:-1, :-2] + images[..., 1:-1, 2:]) / 4
    filled = laplace(images, masks)[..., 1:-1, 1:-1]
    torch.testing.assert_close(filled[..., ::2, ::2], neighbors[..., ::2, ::2], atol=1e-6, rtol=0)
