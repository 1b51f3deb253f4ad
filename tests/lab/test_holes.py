"""Holes that the paper does not have."""

import functools

import pytest
import scipy.ndimage
import skimage.morphology
import torch
from tiny import TINY

from cascade_lab import data, devices
from cascade_lab.data.brush import brush_masks, rectangle_masks
from cascade_lab.training import loop, plan, profiles, stages


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("make", [rectangle_masks, brush_masks])
@pytest.mark.parametrize(("height", "width"), [(64, 64), (40, 100), (5, 7)])
def test_random_masks(make, height, width, device):
    masks = make(16, height, width, seeded(), device=device)
    assert masks.shape == (16, 1, height, width)
    assert masks.device.type == device
    assert set(masks.unique().tolist()) <= {0.0, 1.0}
    assert (masks.sum((1, 2, 3)) > 0).all()
    assert torch.equal(masks, make(16, height, width, seeded(), device=device))
    assert not torch.equal(masks, make(16, height, width, seeded(1), device=device))
    assert len({mask.cpu().numpy().tobytes() for mask in masks}) > 8  # 5x7 px: a few may agree


def test_rectangles_are_rectangles_of_the_size_asked_for():
    masks = rectangle_masks(200, 40, 80, seeded())[:, 0].bool()
    tall, wide = masks.any(2).sum(1), masks.any(1).sum(1)
    assert torch.equal(masks.sum((1, 2)), tall * wide)
    assert (tall.min(), tall.max()) == (10, 20)
    assert (wide.min(), wide.max()) == (20, 40)
    assert masks.any(0).any(0).all()  # anywhere, up to the border
    assert masks.any(0).any(1).all()


def test_brush_masks_differ_in_how_much_they_hide():
    hidden = brush_masks(64, 64, 64, seeded()).mean((1, 2, 3))
    assert 0.15 < hidden.mean() < 0.25  # less where strokes are lost beyond the border
    assert hidden.std() > 0.05
    assert hidden.max() < 0.7


def test_brush_is_as_wide_as_asked():
    masks = brush_masks(4, 256, 256, seeded(), brush=(8 / 256, 8 / 256))[:, 0].bool().numpy()
    # A disc smaller than the brush (4 px) reaches nearly all that is painted; one larger, only where strokes meet.
    reached = [
        sum(scipy.ndimage.binary_opening(mask, skimage.morphology.disk(radius)).sum() for mask in masks)
        for radius in (3, 5)
    ]
    assert reached[0] > 0.95 * masks.sum()
    assert reached[1] < 0.5 * masks.sum()


def test_finest_brush_still_leaves_a_dot():
    assert (brush_masks(64, 16, 16, seeded(), brush=(1e-6, 1e-6)).sum((1, 2, 3)) > 0).all()


def test_random_masks_refuse():
    with pytest.raises(ValueError, match="brush"):
        brush_masks(1, 8, 8, seeded(), brush=(0, 0.1))


@functools.cache
def given(place):
    return profiles.read("smoke", {"hole_place": place}), devices.fabric_for("32-true", "cpu")


def training(place):
    return loop.FabricTraining(*given(place), {}, plan.Parts({}, {}), 1)


def test_anywhere_means_half_of_the_batches_have_one_rectangle_elsewhere(photos):
    places = [training("anywhere").masks(photos, devices.random_for("cpu", i)) for i in range(100)]
    moved = [masks for masks in places if masks is not None]
    assert 30 < len(moved) < 70
    for masks in moved:
        assert masks.shape == (4, 1, 64, 64)
        assert (masks == masks[:1]).all()
        assert 0.2**2 < masks.mean() < 0.55**2
    assert len({masks.numpy().tobytes() for masks in moved}) == len(moved)


def test_batches_of_one_step_have_coins_of_their_own(photos):
    t, rng = training("anywhere"), devices.random_for("cpu", 0)
    moved = [t.masks(photos, rng) is not None for _ in range(40)]
    assert 10 < sum(moved) < 30
    t, rng = training("anywhere"), devices.random_for("cpu", 0)
    assert moved == [t.masks(photos, rng) is not None for _ in range(40)]


def test_the_paper_s_hole_stays(photos):
    assert all(training("center").masks(photos, devices.random_for("cpu", i)) is None for i in range(20))


@pytest.mark.parametrize("number", [1, 2, 4])
def test_each_step_fills_the_holes_of_the_training_by_its_solver(number):
    profile = profiles.read("smoke", {**TINY, "generator_fill": "laplace", "critic_steps": 2})
    stage = stages.STAGES[number]
    networks = {name: stages.build(name, profile) for name in stage.trains(profile)}
    t = stages.prepare(stage, profile, devices.fabric_for("32-true", "cpu"), networks)
    hole, seen = rectangle_masks(1, 32, 32, seeded()).expand(2, -1, -1, -1), []
    t.masks = lambda photo, rng: hole
    t.laplace = lambda images, masks: seen.append(masks) or images
    batches = data.training_batches(data.open_photos(None, "train"), 32, 2, 0, 0, 3)
    stage.step(t, batches, devices.random_for("cpu", 0))
    assert len(seen) == {1: 1, 2: 3, 4: 1}[number]
    assert all(torch.equal(masks, hole) for masks in seen)
