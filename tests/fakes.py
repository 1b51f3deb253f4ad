"""A training on a GPU that is not there: what the tests with fake tensors share."""

from types import SimpleNamespace

import torch

from cascade_core.degradations import HOLE_COLOR
from cascade_core.steps import Training


def settings(**changes) -> SimpleNamespace:
    """Of the networks of 64 px that the tests build."""
    common = {"hole": 28, "hole_color": HOLE_COLOR, "critic_side": 64, "critic_clip": 0.01}
    return SimpleNamespace(**common, **changes)


class OnlyForward(Training):
    """A training that goes as far as the loss: the way back needs a driver."""

    def update(self, name, loss):
        assert loss.device.type == "cuda"
        for parameter in self.modules[name].parameters():
            parameter.grad = torch.empty_like(parameter)
