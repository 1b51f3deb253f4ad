"""What a training is: a stage says what is trained and how, a job says with which settings, on what, and where."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from cascade_core import steps
from cascade_lab import data, devices
from cascade_lab.training import profiles
from cascade_lab.training.profiles import Profile

NETWORK_SIZES = {
    "generator": ["generator_kind", "generator_widths", "dilated_widths", "generator_blocks"]
    + ["generator_fill", "hole_color"],
    "critic": ["size", "hole", "critic_widths", "critic_hidden", "critic_sees", "stage2_game"],
    "deblur_denoise": ["deblur_denoise_width"],
    "context_encoder": ["size", "hole", "hole_color", "generator_widths", "context_encoder_bottleneck"],
    "discriminator": ["size", "generator_widths"],
}
"""The settings that fix each network and what it finds in the hole. A generator takes photos and holes of any size."""
SIZES = list(dict.fromkeys(["size", "hole", *(name for names in NETWORK_SIZES.values() for name in names)]))
"""All of them, and the photo's and the hole's: what a weights file tells of itself."""


class Parts(NamedTuple):
    """What a stage's step works with, by name."""

    modules: Mapping[str, nn.Module]  # what the step calls: the networks, what is made of them (the cascade), the loss
    optimizers: Mapping[str, torch.optim.Optimizer]  # one for each module that is updated
    constant: tuple[str, ...] = ()  # the optimizers whose learning rate stays, instead of rising and falling
    step: steps.Step | None = None  # a variant's, in place of the stage's


def with_adam(stage: "Stage", profile: Profile, modules: Mapping[str, nn.Module]) -> Parts:
    """One network, or one module made of several, under Adam at the stage's rate."""
    ((name, module),) = modules.items()
    rate = stage.setting(profile, "rate")
    return Parts({name: module}, {name: torch.optim.Adam(module.parameters(), rate, fused=True)})


@dataclass(frozen=True)
class Stage:
    """What a stage trains, and from which weights. Its settings are those of the profile that begin with its key."""

    number: int | str  # 1 to 4, or the name of a baseline that is trained
    title: str
    step: steps.Step
    networks: tuple[str, ...]  # what is trained and saved
    starts_from: Mapping[str, int] = field(default_factory=dict)  # network -> stage whose weights it starts from
    assemble: Callable[["Stage", Profile, Mapping[str, nn.Module]], Parts] = with_adam  # raises for what cannot work
    batches: Callable[[Profile], int] = lambda profile: 1  # of photos that a step takes
    code: tuple[str, ...] = ()  # what decides the outcome besides `naming.CODE`

    @property
    def key(self) -> str:
        """``stage1`` to ``stage4``, or the baseline's name: how its settings and its folder begin."""
        return f"stage{self.number}" if isinstance(self.number, int) else self.number

    def setting(self, profile: Profile, name: str, *default: Any) -> Any:
        """A setting of this stage, ``"steps"`` say; the default where the stage has none of that name."""
        return getattr(profile, f"{self.key}_{name}", *default)

    def trains(self, profile: Profile) -> tuple[str, ...]:
        """The networks to train; variants train stage 4 without the second one, or with the critic."""
        only = self.setting(profile, "networks", "both")
        more = ("critic",) if self.number == 4 and profile.stage4_game == "hinge" else ()
        return (self.networks if only == "both" else (only,)) + more

    def sources(self, profile: Profile) -> dict[str, int]:
        """Network -> stage to take its first weights from; a variant of Table 2 trains stage 4 from scratch."""
        scratch = self.setting(profile, "start", "pretrained") == "scratch"
        return {} if scratch else {n: s for n, s in self.starts_from.items() if n in self.trains(profile)}

    def side(self, profile: Profile) -> int:
        """Of the squares that it trains on, px: stage 3 learns from smaller patches."""
        return self.setting(profile, "patch", profile.size)

    def about(self, profile: Profile) -> dict[str, Any]:
        """For the header of a weights file."""
        return {"stage": self.number, "profile": profile.name, "settings": sizes(profile)}


@dataclass(frozen=True)
class Job:
    """With which settings, on what, where and until when stages are trained."""

    profile: Profile
    photos: data.Photos | data.Shards
    out: Path  # the folder under which the stages' folders stand
    seed: int
    fabric: Fabric
    until: float = math.inf  # the time of `time.monotonic` at which to stop at the latest
    given: Mapping[int | str, Path] = field(default_factory=dict)  # stage -> a weights file of it, trained elsewhere

    @property
    def precision(self) -> str:
        return devices.best_precision(self.profile.precision, self.fabric.device)

    def decides(self, stage: Stage) -> dict[str, Any]:
        """All of a job that decides what a stage comes to; the code and the stages before come on top.

        The ranks count: each takes a batch of its own, so the effective batch is theirs together. So do the workers
        that read shards, since each has its own part of the stream.
        """
        workers = {"workers": self.profile.workers} if isinstance(self.photos, data.Shards) else {}
        return {
            "settings": profiles.for_stage(self.profile, stage.number) | {"precision": self.precision},
            "seed": self.seed,
            "photos": self.photos.hash,
            "ranks": self.fabric.world_size,
            **workers,
        }

    def batches(self, stage: Stage, first: int, end: int) -> Iterator[Tensor]:
        """The photos of a stage's steps from ``first`` to before ``end``, on the CPU."""
        profile, fabric, times = self.profile, self.fabric, stage.batches(self.profile)
        return data.training_batches(
            self.photos,
            stage.side(profile),
            stage.setting(profile, "batch"),
            self.seed,
            first * times,
            end * times,
            profile.scale,
            data.Readers(profile.workers, fabric.global_rank, fabric.world_size),
        )

    def random(self, stage: Stage, step: int) -> torch.Generator:
        """The random numbers of one step, on this rank's device."""
        fabric = self.fabric
        return devices.random_for(fabric.device, self.seed, stage.number, step, fabric.global_rank)


def sizes(profile: Profile) -> dict[str, Any]:
    return {name: getattr(profile, name) for name in SIZES}
