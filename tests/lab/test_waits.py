"""The laboratory on a GPU that is not there: fake tensors have shapes and devices, but no values.

An operation between two devices raises, and so does a look at a value; what waits for the device without raising, a
copy to the host, is counted.
"""

import itertools
import sys

import numpy as np
import pytest
import torch
from fakes import OnlyForward, settings
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from cascade_core import (
    Cascade,
    Critic,
    DeblurDenoiseNet,
    GeneratorLoss,
    InpaintingGenerator,
    PerceptualLoss,
    degradations,
    measure,
    step_1,
    step_2,
    step_3,
    step_4,
)
from cascade_core.degradations import HOLE_COLOR, center_hole
from cascade_core.fills import laplace
from cascade_lab import baselines, restoration, variants
from cascade_lab.baselines.context_encoder import ContextEncoder, Discriminator, context_encoder, context_encoder_step
from cascade_lab.baselines.neural_patch_synthesis import match, texture_distance
from cascade_lab.data.brush import brush_masks, rectangle_masks
from cascade_lab.training import multigrid

SETTINGS = settings(
    generator_fill="laplace and mask",
    critic_steps=1,
    stage3_mix={"low": 1.0},
    stage4_mix={"low": 0.5, "high": 0.5},
)


class Waits(TorchDispatchMode):
    """Notes each operation for which the host waits: copies to it, and what has as many results as values say."""

    ALWAYS = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        given = [x.device.type for x in args if isinstance(x, torch.Tensor)]
        to_host = isinstance(result, torch.Tensor) and result.device.type == "cpu" and {"cuda", "mps"} & {*given}
        if to_host or (name in self.ALWAYS and given != ["cpu"]):
            self.found.append(name)
        return result


@pytest.fixture
def fake(monkeypatch):
    """On the fake GPU; Apple's cannot be faked by a PyTorch that was built without it."""
    monkeypatch.setattr(multigrid, "STEPS", 1)  # all of them do the same
    degradations._constant.cache_clear()  # what was made for real tensors, and what is made here, must not meet
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        yield mode
    degradations._constant.cache_clear()


def training(kind: str, fill=multigrid.laplace) -> OnlyForward:
    """Of cascade+, with the paper's networks and game or with the variants."""
    with torch.device("cuda"):
        features, deblur_denoise = PerceptualLoss("random"), DeblurDenoiseNet(8)
        if kind == "paper":
            generator, critic = InpaintingGenerator((8,) * 5, 1, "laplace and mask"), Critic(64, (8,) * 5, 8)
            loss = GeneratorLoss(1.0, 0.1, 0.1, features)
        else:
            generator, critic = variants.DilatedGenerator((4, 6, 8), 2), variants.PatchCritic(4)
            loss = variants.HoleLoss(1.0, 0.1, 0.1, features)
    networks = {"generator": generator, "critic": critic, "deblur_denoise": deblur_denoise}
    made = {"cascade": Cascade(generator, deblur_denoise), "loss": loss}
    return OnlyForward(SETTINGS, networks, networks | made, {}, fill)


CASES = [("paper", step) for step in (step_1, step_2, step_3, step_4)]
CASES += [("variants", step) for step in (step_1, variants.hinge_step, step_4)]


@pytest.mark.parametrize(("kind", "step"), CASES, ids=lambda x: getattr(x, "__name__", x))
def test_no_step_of_cascade_plus_waits_for_the_device(fake, kind, step):
    made = training(kind)
    photos = itertools.repeat(torch.rand(4, 3, 64, 64, device="cuda"))
    with Waits() as waits:
        losses = step(made, photos, torch.Generator().manual_seed(0))
    assert {value.device.type for value in losses.values()} == {"cuda"}
    assert waits.found == []


def test_no_step_of_the_context_encoder_waits(fake):
    with torch.device("cuda"):
        networks = {"context_encoder": ContextEncoder(64, 28, HOLE_COLOR, (4,) * 5, 8)}
        networks["discriminator"] = Discriminator(64, (4,) * 5)
    photos = itertools.repeat(torch.rand(4, 3, 64, 64, device="cuda"))
    with Waits() as waits:
        losses = context_encoder_step(OnlyForward(SETTINGS, networks, networks, {}), photos, torch.Generator())
    assert {value.device.type for value in losses.values()} == {"cuda"}
    assert waits.found == []


@pytest.mark.parametrize("draw", [rectangle_masks, brush_masks])
def test_no_mask_waits(fake, draw):
    with Waits() as waits:
        masks = draw(1, 64, 64, torch.Generator().manual_seed(0), device="cuda")
    assert (masks.device.type, waits.found) == ("cuda", [])


def test_what_waits_is_found(fake):
    """The test of the tests."""
    photos = itertools.repeat(torch.rand(2, 3, 64, 64, device="cuda"))
    with pytest.raises(Exception, match="data-dependent|Data dependent|_local_scalar_dense"):
        step_1(training("paper", laplace), photos, torch.Generator())
    with Waits() as waits:
        torch.rand(2, device="cuda").cpu()
        torch.rand(2).to("cuda")
    assert waits.found == ["_to_copy"]


# ---- what looks at values on purpose: here each check is told that all is well ----


def test_metrics_stay_on_the_device(fake, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "__bool__", lambda self: False)  # no value is too large, no region empty
    photos, masks = torch.rand(2, 3, 64, 64, device="cuda"), center_hole(2, 64, 64, device="cuda")
    with Waits() as waits:
        found = measure(photos, photos, masks)
    assert {(values.device.type, values.dtype) for values in found.values()} == {("cuda", torch.float64)}
    assert waits.found == []


def test_the_baselines_of_torch_stay_on_the_device(fake, monkeypatch):
    def unchecked(images, masks):
        return images.where(masks != 1, 0), masks == 1

    for function in (baselines.mean, context_encoder):
        monkeypatch.setattr(sys.modules[function.__module__], "hide", unchecked)
    monkeypatch.setattr(torch, "equal", lambda one, other: one.device == other.device)
    images, masks = torch.rand(2, 3, 64, 64, device="cuda"), center_hole(2, 64, 64, 28, device="cuda")
    with torch.device("cuda"):
        network = ContextEncoder(64, 28, HOLE_COLOR, (4,) * 5, 8)
        synthesis = baselines.NeuralPatchSynthesis(baselines.mean, "random")
    for fill in (baselines.mean, context_encoder(network)):
        with Waits() as waits:
            filled = fill(images, masks)
        assert (filled.device.type, filled.shape, waits.found) == ("cuda", images.shape, [])

    inside, outside = torch.arange(3, device="cuda"), torch.arange(3, 9, device="cuda")
    maps = synthesis.maps(images[:1])
    matches = match(maps, {layer: (inside, outside) for layer in maps})
    assert texture_distance(maps, matches).device.type == "cuda"


@pytest.fixture
def painted(monkeypatch):
    """Where the images were that `restore` painted: only there do they come to the host."""
    places: list[str] = []

    def to_pixels(images):
        places.append(images.device.type)
        return np.zeros((len(images), *images.shape[2:], 3), np.uint8)

    monkeypatch.setattr(restoration, "to_pixels", to_pixels)
    return places


@pytest.mark.parametrize("fill", ["color", "laplace and mask"])
def test_restore_looks_through_its_windows_on_the_device(painted, monkeypatch, fill):
    run, mode = restoration.run, FakeTensorMode(allow_non_fake_inputs=True)

    def on_the_device(networks, images, ensemble):
        assert images.device.type == "cpu"
        with mode:
            return run(networks, images, ensemble)

    monkeypatch.setattr(restoration, "run", on_the_device)
    with mode, torch.device("cuda"):
        networks = {"generator": InpaintingGenerator((4,) * 5, 1, fill), "deblur_denoise": DeblurDenoiseNet(4)}
    photo, mask = np.full((60, 90, 3), 100, np.uint8), np.zeros((60, 90), bool)
    mask[20:30, 30:80] = True
    restoration.restore(photo, mask, networks, {"size": 32, "hole": 14, "hole_color": HOLE_COLOR})
    assert painted.count("cuda") == 2 * len(list(restoration.cover(mask, 32, 14)))
    assert painted.count("cpu") == 1  # the smooth fill of a small copy


def test_restore_deblurs_its_tiles_on_the_device(fake, painted, monkeypatch):
    monkeypatch.setattr(restoration, "quick", lambda network: network)  # fake networks cannot change their type
    monkeypatch.setattr(restoration, "TILE", 32)
    with torch.device("cuda"):
        networks = {"deblur_denoise": DeblurDenoiseNet(4)}
    restoration.restore(np.full((60, 90, 3), 100, np.uint8), None, networks, {"size": 32, "hole": 14}, deblur=True)
    assert painted == ["cuda"] * 6
