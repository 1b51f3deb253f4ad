"""The Context Encoder as a stage: the baseline of Table 1 that is trained, on the same photos as the cascade."""

from collections.abc import Mapping

from torch import nn

from cascade_lab.baselines.context_encoder import (
    check_context_encoder,
    context_encoder_optimizers,
    context_encoder_step,
)
from cascade_lab.training.plan import Parts, Stage
from cascade_lab.training.profiles import Profile


def assemble(stage: Stage, profile: Profile, networks: Mapping[str, nn.Module]) -> Parts:
    """The network and its discriminator, each under Adam."""
    return Parts(dict(networks), context_encoder_optimizers(dict(networks), profile.context_encoder_rate))


STAGE = Stage(
    "context_encoder",
    "Context Encoder",
    context_encoder_step,
    ("context_encoder", "discriminator"),
    assemble=assemble,
    check=check_context_encoder,
    code=("cascade_lab/baselines/context_encoder.py",),
)
