"""The Context Encoder as a stage: the baseline of Table 1 that is trained, on the same photos as the cascade."""

from collections.abc import Mapping

import torch
from torch import nn

from cascade_lab.baselines.context_encoder import ContextEncoder, context_encoder_step
from cascade_lab.training.plan import Parts, Stage
from cascade_lab.training.profiles import Profile

# From train.lua: how much higher the network's learning rate is than its discriminator's, and the betas of both.
RATE_RATIO = 10.0
BETAS = (0.5, 0.999)


def assemble(stage: Stage, profile: Profile, networks: Mapping[str, nn.Module]) -> Parts:
    """The network and its discriminator, each under Adam."""
    rate = profile.context_encoder_rate
    rates = {"context_encoder": RATE_RATIO * rate, "discriminator": rate}
    adam = {name: torch.optim.Adam(networks[name].parameters(), rates[name], BETAS, fused=True) for name in rates}
    return Parts(dict(networks), adam)


def check(profile: Profile) -> None:
    """Raise ``ValueError`` for a profile that the network cannot be trained with."""
    with torch.device("meta"):
        ContextEncoder(profile.size, profile.hole)
    if profile.context_encoder_batch < 2:
        raise ValueError(
            "the Context Encoder has batch norm at one place an image: stage1_batch must be at least 2, got 1"
        )


STAGE = Stage(
    "context_encoder",
    "Context Encoder",
    context_encoder_step,
    ("context_encoder", "discriminator"),
    assemble=assemble,
    check=check,
    code=("cascade_lab/baselines/context_encoder.py",),
)
