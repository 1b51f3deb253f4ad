"""The Laplace fill that waits for no value, against the exact one."""

from types import SimpleNamespace

import pytest
import torch

from cascade_core import fills
from cascade_core.degradations import center_hole
from cascade_lab.data.brush import brush_masks, rectangle_masks
from cascade_lab.training import loop, multigrid, profiles
from cascade_lab.training.plan import Parts


def holes(height: int, width: int) -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    masks = {
        "center": center_hole(1, height, width),
        "rectangle": rectangle_masks(1, height, width, rng),
        "strokes": brush_masks(1, height, width, rng),
        "thick strokes": brush_masks(1, height, width, rng, (0.4, 0.5)),
        "dust": (torch.rand(1, 1, height, width, generator=rng) < 0.02).float(),
        "left half": (torch.arange(width) < width // 2).float().expand(1, 1, height, width),
        "border": 1 - center_hole(1, height, width, min(height, width) - 4),
        "nothing": torch.zeros(1, 1, height, width),
    }
    masks["all but one pixel"] = torch.ones(1, 1, height, width)
    masks["all but one pixel"][..., -1, 0] = 0
    return masks


@pytest.mark.parametrize("size", [(128, 128), (96, 130), (33, 7), (64, 64)], ids=str)
@pytest.mark.parametrize("kind", holes(8, 8))
def test_is_the_exact_fill_within_1e_4(kind, size, photos):
    images = torch.nn.functional.interpolate(photos[:2], size, mode="bilinear")
    masks = holes(*size)[kind].repeat(2, 1, 1, 1)
    masks[1] = masks[1].flip(1)  # each image's own
    wanted = fills.laplace(images.double(), masks)
    filled = multigrid.laplace(images, masks)
    atol = 5e-4 if kind == "all but one pixel" else 1e-4
    torch.testing.assert_close(filled.double(), wanted, atol=atol, rtol=0)
    assert torch.equal(filled * (1 - masks), images * (1 - masks))
    other = torch.where(masks == 1, torch.nan, images)  # what lies under the mask is not read
    assert torch.equal(multigrid.laplace(other, masks), filled)


def test_a_few_steps_would_not_do(photos, monkeypatch):
    """The test of the test: the tolerance is one that the steps decide."""
    images, masks = torch.nn.functional.interpolate(photos, (128, 128)), center_hole(4, 128, 128)
    wanted = fills.laplace(images, masks)
    assert (multigrid.laplace(images, masks) - wanted).abs().max() < 1e-4
    monkeypatch.setattr(multigrid, "STEPS", 4)
    assert (multigrid.laplace(images, masks) - wanted).abs().max() > 1e-3


def test_other_shapes_are_refused(photos):
    with pytest.raises(ValueError, match="masks must be"):
        multigrid.laplace(photos, center_hole(1, 64, 64))


@pytest.mark.parametrize(("device", "fill"), [("cpu", fills.laplace), ("cuda", multigrid.laplace), ("mps", None)])
def test_a_training_takes_the_exact_fill_on_the_host_alone(device, fill):
    fabric = SimpleNamespace(device=torch.device(device), world_size=1)
    training = loop.FabricTraining(profiles.read("smoke"), fabric, {}, Parts({}, {}), 1)
    assert training.laplace is (fill or multigrid.laplace)
