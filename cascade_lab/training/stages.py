"""The four training stages (section 3.4), and the baseline that is trained: what each one trains, from where, and the
command that does it.

For example::

    run = train(1, profiles.read("smoke"), data.open_photos(), "runs")  # trains what is missing, loads what is there

or from the shell, also on several GPUs or nodes::

    python -m cascade_lab.training.stages 1 2 3 4 context_encoder --profile gpu --data PHOTOS --out runs --devices 4
"""

import argparse
import hashlib
import json
import math
import time
from ast import literal_eval
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from cascade_core import steps
from cascade_core.losses import GeneratorLoss, PerceptualLoss
from cascade_core.models import Cascade, Critic, DeblurDenoiseNet, InpaintingGenerator
from cascade_lab import data, devices, provenance
from cascade_lab.baselines.context_encoder import (
    ContextEncoder,
    Discriminator,
    check_context_encoder,
    context_encoder_optimizers,
    context_encoder_step,
)
from cascade_lab.show import layers
from cascade_lab.training import checkpoints, loop, profiles
from cascade_lab.training.loop import FabricTraining, Paused, TrainingError
from cascade_lab.training.profiles import Profile

__all__ = ["STAGES", "TRAININGS", "Run", "TrainingError", "build", "load", "train"]

PAUSED = 75  # exit code: "temporary failure, try again" (sysexits.h)


BUILD: dict[str, Callable[[Mapping[str, Any]], nn.Module]] = {
    "generator": lambda s: InpaintingGenerator(
        tuple(s["generator_widths"]), s["generator_blocks"], s["generator_fill"]
    ),
    "critic": lambda s: Critic(s["size"], tuple(s["critic_widths"]), s["critic_hidden"]),
    "deblur_denoise": lambda s: DeblurDenoiseNet(s["deblur_denoise_width"]),
    "context_encoder": lambda s: ContextEncoder(
        s["size"], s["hole"], s["hole_color"], tuple(s["generator_widths"]), s["context_encoder_bottleneck"]
    ),
    "discriminator": lambda s: Discriminator(s["size"], tuple(s["generator_widths"])),
}


def build(name: str, settings: Mapping[str, Any], seed: int = 0) -> nn.Module:
    """A network with fresh weights by its name in ``BUILD``, in the settings' size.

    The weights depend on the name and the seed alone, so variants in a comparison start from the same ones.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed * len(BUILD) + list(BUILD).index(name))
        return BUILD[name](settings)


@dataclass(frozen=True)
class Stage:
    """What a stage trains, and from where.

    Attributes:
        number: 1 to 4, or the name of a baseline that is trained.
        networks: what is trained and saved, by name.
        start: network -> stage whose weights it starts from.
    """

    number: int | str
    title: str
    step: steps.Step
    networks: tuple[str, ...]
    start: Mapping[str, int]

    @property
    def key(self) -> str:
        """``stage1`` to ``stage4``, or the baseline's name: how its settings and its folder begin."""
        return f"stage{self.number}" if isinstance(self.number, int) else self.number

    def trains(self, profile: Profile) -> tuple[str, ...]:
        """The networks to train; an arm of Table 2 trains stage 4 without the second one."""
        return ("generator",) if self.number == 4 and profile.stage4_networks == "generator" else self.networks

    def starts(self, profile: Profile) -> dict[str, int]:
        """Network -> stage to start from; an arm of Table 2 trains stage 4 from scratch."""
        scratch = self.number == 4 and profile.stage4_start == "scratch"
        return {} if scratch else {n: s for n, s in self.start.items() if n in self.trains(profile)}

    def setting(self, profile: Profile, name: str) -> Any:
        return getattr(profile, f"{self.key}_{name}")

    def side(self, profile: Profile) -> int:
        """Of the squares that it trains on, px: stage 3 learns from smaller patches."""
        return profile.stage3_patch if self.number == 3 else profile.size


STAGES = {
    1: Stage(1, "stage 1: generator, MSE", steps.step_1, ("generator",), {}),
    2: Stage(2, "stage 2: generator and critic", steps.step_2, ("generator", "critic"), {"generator": 1}),
    3: Stage(3, "stage 3: deblurring-denoising network", steps.step_3, ("deblur_denoise",), {}),
    4: Stage(
        4, "stage 4: cascade", steps.step_4, ("generator", "deblur_denoise"), {"generator": 2, "deblur_denoise": 3}
    ),
}
TRAININGS: dict[int | str, Stage] = {
    **STAGES,
    "context_encoder": Stage(
        "context_encoder", "Context Encoder", context_encoder_step, ("context_encoder", "discriminator"), {}
    ),
}
"""The stages, and the baseline of Table 1 that is trained on the same photos."""


@dataclass(frozen=True)
class Run:
    """A finished stage.

    Attributes:
        networks: the trained networks by name, in eval mode.
        history: the loss curves, one dict of means for each ``log_every`` steps.
        record: what made it: settings, seed, photos, time, device, versions, commit.
    """

    folder: Path
    networks: dict[str, nn.Module]
    history: list[dict[str, float]]
    record: dict[str, Any]


def train(
    stage: int | str,
    profile: Profile,
    photos: data.Photos,
    out: str | Path,
    seed: int = 0,
    fabric: Fabric | None = None,
    until: float = math.inf,
) -> Run:
    """Train a stage, and before it those that it starts from; what is finished is loaded, what was cut is resumed.

    A stage's folder is named after all that decides its outcome (settings, seed, photos, the stages before), so two
    runs share what they have in common and never mix what they have not.

    Args:
        stage: 1 to 4, or ``"context_encoder"``.
        photos: the training photos.
        out: the folder under which the stages' folders stand.
        fabric: the devices to train on, from `devices.fabric_for`; ``None`` takes one, the GPU if there is one.
        until: the time of `time.monotonic` at which to stop at the latest.

    Raises:
        ValueError: arguments or photos that cannot work, told before the first step.
        RuntimeError: the weights of the perceptual loss cannot be had, told before the first step.
        TrainingError: the run broke down.
        Paused: ``until`` came first; the next call goes on.
    """
    if stage not in TRAININGS:
        raise ValueError(f"unknown stage {stage!r}; the stages are {', '.join(map(str, TRAININGS))}")
    out, fabric = Path(out), fabric or devices.fabric_for(profile.precision)
    pending = [s for s in needed(stage, profile) if not checkpoints.finished(folder_of(s, profile, photos, out, seed))]
    for number in pending:
        check(TRAININGS[number], profile, photos, out, fabric)
    for number in pending:
        fit(TRAININGS[number], profile, photos, out, seed, fabric, until)
    folder = folder_of(stage, profile, photos, out, seed)
    history, record = checkpoints.finished(folder)
    networks = load(folder / checkpoints.WEIGHTS)
    return Run(folder, {name: n.to(fabric.device) for name, n in networks.items()}, history, record)


def needed(stage: int | str, profile: Profile) -> list[int | str]:
    """The stages to train for one, itself the last.

    >>> needed(4, profiles.read("smoke"))
    [1, 2, 3, 4]
    """
    before = {s for start in TRAININGS[stage].starts(profile).values() for s in needed(start, profile)}
    return [*sorted(before), stage]


def check(plan: Stage, profile: Profile, photos: data.Photos, out: Path, fabric: Fabric) -> None:
    """Find out before the first step what would stop a run in the middle: the folder, the photos, the VGG's weights."""
    try:
        checkpoints.try_writing(out / checkpoints.RECORD)
    except OSError as error:
        raise ValueError(f"nothing can be written to the output folder {out}: {error}") from error
    batches(plan, profile, photos, 0, 0, 0, fabric)
    if plan.number == 2 and profile.perceptual_weight:
        PerceptualLoss(profile.perceptual_weights)
    if plan.number == "context_encoder":
        check_context_encoder(profile)


def load(weights: str | Path) -> dict[str, nn.Module]:
    """The networks in a weights file by name, in eval mode, on the CPU; their sizes stand in the file's header."""
    states, settings = checkpoints.read_weights(Path(weights)), checkpoints.read_about(Path(weights))["settings"]
    networks = {name: build(name, settings) for name in states}
    for name, network in networks.items():
        network.load_state_dict(states[name])
        network.eval()
    return networks


def fit(
    plan: Stage, profile: Profile, photos: data.Photos, out: Path, seed: int, fabric: Fabric, until: float = math.inf
) -> None:
    """Train one stage from where it stands, and write its results into its folder."""
    folder = folder_of(plan.number, profile, photos, out, seed)
    key = seed, list(TRAININGS).index(plan.number) + 1
    networks = {name: build(name, sizes(profile), seed) for name in plan.trains(profile)}
    for name, start in plan.starts(profile).items():
        before = folder_of(start, profile, photos, out, seed)
        checkpoints.load_into({name: networks[name]}, before / checkpoints.WEIGHTS)
    t = prepare(plan, profile, fabric, networks)
    steps_in_all = plan.setting(profile, "steps")

    def photos_from(start: int, stop: int = steps_in_all) -> Iterator[Tensor]:
        return batches(plan, profile, photos, seed, start, stop, fabric)

    def measure_norms() -> None:
        rng = devices.random_for(fabric.device, *key, steps_in_all, fabric.global_rank)
        extra = photos_from(steps_in_all, steps_in_all + profile.stage4_norm_steps)
        inputs = (steps.with_all_faults(photo.to(fabric.device), profile, rng) for photo in extra)
        update_bn(inputs, t.modules["cascade"])

    if plan.number == 4 and profile.stage4_batch_norm == "freeze":
        measure_norms()
        steps.freeze_batch_norm(t.modules["cascade"])
    about = {"stage": plan.number, "profile": profile.name, "settings": sizes(profile)}
    loop.run(t, plan.step, plan.title, steps_in_all, photos_from, key, folder, about, until)
    if plan.number == 4 and profile.stage4_batch_norm == "reestimate":
        measure_norms()
    if fabric.is_global_zero:
        starts = sorted(set(plan.starts(profile).values()))
        before = [checkpoints.read_record(folder_of(s, profile, photos, out, seed)) for s in starts]
        checkpoints.finish(folder, networks, about, t.history, record_of(plan, profile, photos, seed, t, before))
    fabric.barrier()


def batches(
    plan: Stage, profile: Profile, photos: data.Photos, seed: int, start: int, stop: int, fabric: Fabric
) -> Iterator[Tensor]:
    """The photos of a stage's steps from ``start`` to ``stop``; the critic's steps take batches of their own."""
    per_step = profile.critic_steps + 1 if plan.number == 2 else 1
    return data.training_batches(
        photos,
        plan.side(profile),
        plan.setting(profile, "batch"),
        seed,
        start * per_step,
        stop * per_step,
        profile.scale,
        profile.workers,
        fabric.global_rank,
        fabric.world_size,
    )


def record_of(
    plan: Stage, profile: Profile, photos: data.Photos, seed: int, t: FabricTraining, before: list[dict[str, Any]]
) -> dict[str, Any]:
    """What made a run, for its ``record.json``; ``before`` are the records of the stages that it started from."""
    device = t.fabric.device
    record = {
        "stage": plan.number,
        "title": plan.title,
        "profile": profile.name,
        "settings": profiles.for_stage(profile, plan.number),
        "seed": seed,
        "steps": t.step,
        "seconds": round(t.seconds, 1),
        "photos": data.photos_record(photos),
        **({"before": before} if before else {}),
        **provenance.circumstances(device, devices.best_precision(profile.precision, device), t.fabric.world_size),
    }
    if plan.number == 2:
        record["perceptual_weights"] = profile.perceptual_weights if profile.perceptual_weight else "none"
    return record


def prepare(plan: Stage, profile: Profile, fabric: Fabric, networks: dict[str, nn.Module]) -> FabricTraining:
    """The networks of a stage with their optimizers, ready for its first step."""
    rate = plan.setting(profile, "rate")
    modules, constant = dict(networks), ()
    if plan.number == 2:
        optimizers = {
            "generator": torch.optim.RMSprop(networks["generator"].parameters(), rate),
            "critic": torch.optim.RMSprop(networks["critic"].parameters(), profile.critic_rate),
        }
        constant = ("critic",)
        features = PerceptualLoss(profile.perceptual_weights) if profile.perceptual_weight else None
        weights = profile.mse_weight, profile.perceptual_weight, profile.adversarial_weight
        modules["loss"] = GeneratorLoss(*weights, features)
    elif plan.number == "context_encoder":
        optimizers = context_encoder_optimizers(networks, rate)
    else:
        if plan.number == 4:
            modules = {"cascade": Cascade(**networks)}
        name = next(iter(modules))
        optimizers = {name: torch.optim.Adam(modules[name].parameters(), rate, fused=True)}
    return FabricTraining(profile, fabric, networks, modules, optimizers, constant)


def folder_of(stage: int | str, profile: Profile, photos: data.Photos, out: Path, seed: int) -> Path:
    """Where a stage's results stand: ``out/PROFILE-stageN-HASH``, the hash over all that decides them."""
    return out / f"{profile.name}-{TRAININGS[stage].key}-{fingerprint(stage, profile, photos, seed)}"


def fingerprint(stage: int | str, profile: Profile, photos: data.Photos, seed: int) -> str:
    before = {name: fingerprint(s, profile, photos, seed) for name, s in TRAININGS[stage].starts(profile).items()}
    decides = [stage, profiles.for_stage(profile, stage), before, photos.hash, seed]
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:8]


def sizes(profile: Profile) -> dict[str, Any]:
    """The settings that fix the networks, and the hole that they fill: what a weights file tells of itself."""
    names = ("size", "generator_widths", "generator_blocks", "critic_widths", "critic_hidden", "deblur_denoise_width")
    names += ("hole", "hole_color", "generator_fill", "context_encoder_bottleneck")
    return {name: getattr(profile, name) for name in names}


def multiply_adds(stage: int, settings: Mapping[str, Any]) -> int:
    """Multiply-adds of one training step, as the networks' layers have them.

    A network's pass back costs two of its passes forward, one for the gradients of its inputs, one for those of its
    weights; through a network that is not trained just then there is only the first.

    Args:
        stage: 1 to 4.
        settings: of a profile, or of a training's record.
    """

    def work(network: nn.Module, size: int = settings["size"]) -> int:
        return layers.summary(network, size, size).multiply_adds

    generator, refiner, critic = (build(name, settings) for name in ("generator", "deblur_denoise", "critic"))
    if stage == 2:
        features = work(PerceptualLoss("random").features)
        for_critic = work(generator) + 2 * 3 * work(critic)  # of filled and of real photos
        for_generator = 3 * work(generator) + 2 * work(critic) + 3 * features  # features: of the photo, there and back
        a_photo = settings["critic_steps"] * for_critic + for_generator
    elif stage == 3:
        a_photo = 3 * work(refiner, settings["stage3_patch"])
    else:
        a_photo = 3 * (work(generator) + (work(refiner) if stage == 4 else 0))
    return settings[f"stage{stage}_batch"] * a_photo


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m cascade_lab.training.stages", description="Train stages of the cascade; finished ones are kept."
    )
    parser.add_argument(
        "stages", type=read_stage, nargs="+", choices=TRAININGS, help="the stages to train, and what they need"
    )
    parser.add_argument("--profile", default="smoke", help=f"one of {', '.join(profiles.PROFILES)} (default: smoke)")
    parser.add_argument("--data", help="a folder of photos (default: the photos that come with scikit-image)")
    parser.add_argument("--out", default="runs", help="where the results go (default: runs)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="change a value of the profile"
    )
    parser.add_argument("--accelerator", default="auto", help="auto, cpu, cuda, mps (default: auto)")
    parser.add_argument("--devices", type=int, default=1, help="GPUs, or processes on a CPU, of each node (default: 1)")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop, saved, after so long (exit code 75)")
    parser.add_argument("--nodes", type=int, default=1, help="machines (default: 1)")
    args = parser.parse_args(arguments)
    until = time.monotonic() + 60 * args.minutes
    try:
        profile = profiles.read(args.profile, dict(read_setting(text) for text in args.set))
        photos = data.open_photos(args.data, "train")
        fabric = devices.fabric_for(profile.precision, args.accelerator, args.devices, args.nodes)
        for stage in args.stages:
            run = train(stage, profile, photos, args.out, args.seed, fabric, until)
            if fabric.is_global_zero:
                print(f"{run.record['title']}: {run.folder / checkpoints.WEIGHTS}")
    except Paused as pause:
        parser.exit(PAUSED, f"{pause}\n")
    except (ValueError, RuntimeError) as error:
        parser.exit(1, f"error: {error}\n")


def read_stage(text: str) -> int | str:
    return int(text) if text.isdigit() else text


def read_setting(text: str) -> tuple[str, Any]:
    """
    >>> read_setting("stage1_steps=10"), read_setting("perceptual_weights=random")
    (('stage1_steps', 10), ('perceptual_weights', 'random'))
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--set takes NAME=VALUE, got {text!r}")
    try:
        return name, literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


if __name__ == "__main__":
    main()
