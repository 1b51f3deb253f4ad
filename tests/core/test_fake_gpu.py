"""What a GPU would refuse, found without one: tensors on a made-up CUDA device do not mix with the host's.

Fake tensors have shapes and devices but no values, so nothing here computes. An operation between two devices raises,
and so does every look at a value (`item`, a comparison in an `if`), for which a step would wait for the device.
"""

import itertools

import pytest
import torch
from fakes import OnlyForward, settings
from torch._subclasses.fake_tensor import FakeTensorMode

from cascade_core import (
    Cascade,
    Critic,
    DeblurDenoiseNet,
    GeneratorLoss,
    InpaintingGenerator,
    PerceptualLoss,
    degradations,
    degrade,
    step_1,
    step_2,
    step_3,
    step_4,
)
from cascade_core.degradations import LEVELS, center_hole

SETTINGS = settings(
    generator_fill="color",
    critic_steps=2,
    stage3_mix={"low": 0.5, "high": 0.5},
    stage4_mix={"none": 0.5, "medium": 0.5},
)


@pytest.fixture
def training():
    degradations._constant.cache_clear()  # what was made for real tensors, and what is made here, must not meet
    with FakeTensorMode():
        with torch.device("cuda"):
            generator, critic = InpaintingGenerator((8,) * 5, 1), Critic(64, (8,) * 5, 8)
            deblur_denoise, features = DeblurDenoiseNet(8), PerceptualLoss("random")
        networks = {"generator": generator, "critic": critic, "deblur_denoise": deblur_denoise}
        made = {"cascade": Cascade(generator, deblur_denoise), "loss": GeneratorLoss(1.0, 0.1, 0.1, features)}
        yield OnlyForward(SETTINGS, networks, networks | made, {})
    degradations._constant.cache_clear()


@pytest.mark.parametrize("step", [step_1, step_2, step_3, step_4])
def test_steps_stay_on_their_device_and_look_at_no_value(training, step):
    photos = itertools.repeat(torch.rand(4, 3, 64, 64, device="cuda"))
    losses = step(training, photos, torch.Generator().manual_seed(0))
    assert {value.device.type for value in losses.values()} == {"cuda"}


def test_degradations(training):
    photos = torch.rand(4, 3, 64, 64, device="cuda")
    masks = center_hole(4, 64, 64, device="cuda")
    degraded = degrade(photos, masks, dict.fromkeys(LEVELS, 0.25), torch.Generator().manual_seed(0))
    assert {tensor.device.type for tensor in degraded} == {"cuda"}


def test_a_tensor_that_was_left_on_the_host_is_found(training):
    """The test of the tests."""
    with pytest.raises(RuntimeError, match="cuda.*cpu|cpu.*cuda"):
        training.modules["generator"](torch.rand(1, 3, 64, 64))
    with pytest.raises(Exception, match="data-dependent|Data dependent|_local_scalar_dense"):
        bool(torch.rand((), device="cuda") > 0)
