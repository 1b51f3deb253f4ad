"""The four training stages (section 3.4), and the baseline that is trained: what each one trains, and from where.

For example::

    run = train(1, profiles.read("smoke"), data.open_photos(), "runs")  # trains what is missing, loads what is there

or from the shell, also on several GPUs or nodes::

    cascade train 1 2 3 4 context_encoder --profile gpu --photos PHOTOS --out runs --devices 4
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.optim.swa_utils import update_bn

from cascade_core import steps
from cascade_core.losses import GeneratorLoss, PerceptualLoss
from cascade_core.models import Cascade, Critic, DeblurDenoiseNet, InpaintingGenerator
from cascade_lab import data, devices, provenance, variants
from cascade_lab.baselines.context_encoder import ContextEncoder, Discriminator, context_encoder_step
from cascade_lab.training import checkpoints, loop, naming, profiles
from cascade_lab.training.loop import FabricTraining, Paused, TrainingError
from cascade_lab.training.plan import NETWORK_SIZES, SIZES, Job, Parts, Stage, sizes, with_adam
from cascade_lab.training.profiles import Profile

__all__ = ["STAGES", "TRAININGS", "Job", "Paused", "Run", "Stage", "TrainingError", "build", "load", "sizes", "train"]

BUILD: dict[str, Callable[[Profile], nn.Module]] = {
    "generator": lambda p: (
        variants.DilatedGenerator(p.dilated_widths, p.generator_blocks)
        if p.generator_kind == "dilated"
        else InpaintingGenerator(p.generator_widths, p.generator_blocks, p.generator_fill)
    ),
    "critic": lambda p: (
        variants.PatchCritic(p.critic_widths[0])
        if p.stage2_game == "hinge"
        else Critic(p.critic_side, p.critic_widths, p.critic_hidden)
    ),
    "deblur_denoise": lambda p: DeblurDenoiseNet(p.deblur_denoise_width),
    "context_encoder": lambda p: ContextEncoder(
        p.size, p.hole, p.hole_color, p.generator_widths, p.context_encoder_bottleneck
    ),
    "discriminator": lambda p: Discriminator(p.size, p.generator_widths),
}


def build(name: str, profile: Profile, seed: int = 0) -> nn.Module:
    """A network with fresh weights by its name in ``BUILD``, in the profile's size.

    The weights depend on the name and the seed alone, so variants that are compared start from the same ones.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(devices.random_for("cpu", seed, name).initial_seed())
        return BUILD[name](profile)


def adversarial(stage: Stage, profile: Profile, networks: Mapping[str, nn.Module]) -> Parts:
    """Generator and critic under RMSProp, as the paper says, with equation 7's loss; or a variant's game under Adam."""
    if profile.stage2_game == "hinge":
        return hinge_game(stage, profile, networks, variants.hinge_step)
    rates = {"generator": stage.setting(profile, "rate"), "critic": profile.critic_rate}
    rms = {n: torch.optim.RMSprop(networks[n].parameters(), rate) for n, rate in rates.items()}
    return Parts({**networks, "loss": GeneratorLoss(*game_weights(profile), features(profile))}, rms, ("critic",))


def features(profile: Profile) -> PerceptualLoss | None:
    side = None if profile.critic_sees == "image" else profile.critic_side
    return PerceptualLoss(profile.perceptual_weights, side=side) if profile.perceptual_weight else None


def game_weights(profile: Profile) -> tuple[float, float, float]:
    return profile.mse_weight, profile.perceptual_weight, profile.adversarial_weight


def hinge_game(stage: Stage, profile: Profile, modules: Mapping[str, nn.Module], step: steps.Step) -> Parts:
    """A variant's game between a critic and the one other module, each under Adam."""
    rates = dict.fromkeys(modules, stage.setting(profile, "rate")) | {"critic": profile.critic_rate}
    adam = {n: torch.optim.Adam(modules[n].parameters(), rate, betas=(0.5, 0.9)) for n, rate in rates.items()}
    loss = variants.HoleLoss(*game_weights(profile), features(profile))
    return Parts({**modules, "loss": loss}, adam, ("critic",), step)


def with_discriminator(stage: Stage, profile: Profile, networks: Mapping[str, nn.Module]) -> Parts:
    """The Context Encoder and its discriminator, each under Adam; rates' ratio and betas are of its train.lua."""
    if profile.context_encoder_batch < 2:
        raise ValueError(
            "the Context Encoder has batch norm at one place an image: stage1_batch must be at least 2, got 1"
        )
    rates = {"context_encoder": 10 * profile.context_encoder_rate, "discriminator": profile.context_encoder_rate}
    adam = {n: torch.optim.Adam(networks[n].parameters(), r, (0.5, 0.999), fused=True) for n, r in rates.items()}
    return Parts(networks, adam)


def joined(stage: Stage, profile: Profile, networks: Mapping[str, Any]) -> Parts:
    """Both networks as one cascade, by squared error, or in a variant's game."""
    restoring = {name: network for name, network in networks.items() if name != "critic"}
    modules = {"cascade": Cascade(**restoring)}
    if profile.stage4_game == "mse":
        return with_adam(stage, profile, modules)
    if profile.stage2_game != "hinge":
        raise ValueError(f"stage4_game hinge goes on with stage 2's game, and stage2_game is {profile.stage2_game}")
    return hinge_game(stage, profile, modules | {"critic": networks["critic"]}, variants.joint_hinge_step)


STAGES: dict[int | str, Stage] = {
    1: Stage(1, "stage 1: generator, MSE", steps.step_1, ("generator",)),
    2: Stage(
        2,
        "stage 2: generator and critic",
        steps.step_2,
        ("generator", "critic"),
        {"generator": 1},
        assemble=adversarial,
        # the critic's steps take batches of their own; the variant's takes the generator's
        batches=lambda profile: 1 if profile.stage2_game == "hinge" else profile.critic_steps + 1,
    ),
    3: Stage(3, "stage 3: deblurring-denoising network", steps.step_3, ("deblur_denoise",)),
    4: Stage(
        4,
        "stage 4: cascade",
        steps.step_4,
        ("generator", "deblur_denoise"),
        {"generator": 2, "deblur_denoise": 3, "critic": 2},
        assemble=joined,
    ),
}
TRAININGS: dict[int | str, Stage] = STAGES | {
    "context_encoder": Stage(
        "context_encoder",
        "Context Encoder",
        context_encoder_step,
        ("context_encoder", "discriminator"),
        assemble=with_discriminator,
        code=("cascade_lab/baselines/context_encoder.py",),
    )
}
"""The stages, and the baseline of Table 1 that is trained on the same photos."""


@dataclass(frozen=True)
class Run:
    """A finished stage."""

    folder: Path
    networks: dict[str, Any]  # by name, in eval mode
    history: list[dict[str, float]]  # the loss curves: a dict of means for each ``log_every`` steps
    record: dict[str, Any]  # what made it: settings, seed, photos, time, device, versions, commit


def train(
    stage: int | str,
    profile: Profile,
    photos: data.Photos | data.Shards,
    out: str | Path,
    seed: int = 0,
    fabric: Fabric | None = None,
    until: float = math.inf,
    given: Sequence[str | Path] = (),
) -> Run:
    """Train a stage, and before it those that it starts from; finished stages are loaded, interrupted ones resumed.

    A stage's folder is named after all that decides its outcome (`folder_of`), so two runs share what they have in
    common and never mix what they have not. A run that paused on one device is not continued on two.

    Args:
        stage: 1 to 4, or ``"context_encoder"``.
        photos: the training photos.
        out: the folder under which the stages' folders stand.
        fabric: the devices to train on, from `devices.fabric_for`; ``None`` takes one, the GPU if there is one.
        until: the time of `time.monotonic` at which to stop at the latest.
        given: weights files of finished stages, published ones say, to start from instead of training those stages; one
            of the stage itself, or of a later one, is gone on with (`origins`).

    Raises:
        ValueError: arguments or photos that cannot work, before the first step.
        RuntimeError: the weights of the perceptual loss cannot be had, before the first step.
        OSError: the disk is full.
        TrainingError: the run broke down.
        Paused: ``until`` came first; the next call goes on.
    """
    if stage not in TRAININGS:
        raise ValueError(f"unknown stage {stage!r}; the stages are {', '.join(map(str, TRAININGS))}")
    elsewhere = given_stages(given)
    job = Job(profile, photos, Path(out), seed, fabric or devices.fabric_for(profile.precision), until, elsewhere)
    pending = [TRAININGS[s] for s in needed(stage, profile, elsewhere) if not checkpoints.finished(folder_of(s, job))]
    for each in pending:
        check(each, job)
    for each in pending:
        fit(each, job)
    folder = folder_of(stage, job)
    history, record = checkpoints.finished(folder)  # type: ignore[misc]
    networks = load(folder / checkpoints.WEIGHTS)
    return Run(folder, {name: n.to(job.fabric.device) for name, n in networks.items()}, history, record)


def needed(stage: int | str, profile: Profile, given: Mapping[int | str, Path] | None = None) -> list[int | str]:
    """The stages to train for one, itself the last; without those given, and what they started from.

    >>> needed(4, profiles.read("smoke"))
    [1, 2, 3, 4]
    """
    given = given or {}
    sources = set(origins(TRAININGS[stage], profile, given).values()) - set(given)
    before = {s for source in sources for s in needed(source, profile, given)}
    return [*sorted(before), stage]


def origins(stage: Stage, profile: Profile, given: Mapping[int | str, Path]) -> dict[str, int]:
    """Network -> stage whose weights it starts from.

    That is the stage before; but where no file of that is given, and one of the stage itself or of a later one that
    holds the network, the training goes on from this. So a published network is trained further, on more photos or on
    one's own, and a cascade takes its second network from another.

    Raises:
        ValueError: such a file lacks another network that the stage starts from.
    """
    found = stage.sources(profile)
    if stage.setting(profile, "start", "pretrained") == "scratch":
        return found
    further: dict[str, int] = {}
    held = {s: checkpoints.networks_in(path) for s, path in given.items() if isinstance(s, int)}
    for name in stage.trains(profile):
        later = [s for s, names in held.items() if name in names and s >= stage.number]  # type: ignore[operator]
        if later and found.get(name) not in given:
            further[name] = min(later)
    for name, source in found.items():
        if further and name not in further and source not in given:
            path = given[min(further.values())]
            raise ValueError(
                f"{path} holds no {name}, which {stage.title} starts from: give a file of stage {source}, too"
            )
    return found | further


def given_stages(files: Sequence[str | Path]) -> dict[int | str, Path]:
    """Weights files by the stage that each is of.

    Raises:
        ValueError: a file is of no stage, of the same as another, or without a record.
    """
    found: dict[int | str, Path] = {}
    for path in map(Path, files):
        stage = checkpoints.read_about(path).get("stage")
        if stage not in STAGES:
            raise ValueError(f"{path} is not of a stage of the cascade: give a file of {', '.join(map(str, STAGES))}")
        if stage in found:
            raise ValueError(f"{path} is of stage {stage}, and so is {found[stage]}: give one of them")
        if checkpoints.training_of(path) is None:
            raise ValueError(f"{path}: no record tells what trained it: take a finished run's or a published one")
        found[stage] = path
    return found


def check(stage: Stage, job: Job) -> None:
    """Find out before the first step what would stop a run in the middle: folder, photos, settings, VGG's weights."""
    try:
        checkpoints.try_writing(job.out / checkpoints.RECORD)
    except OSError as error:
        raise ValueError(f"nothing can be written to the output folder {job.out}: {error}") from error
    job.batches(stage, 0, 0)
    for source in set(origins(stage, job.profile, job.given).values()) & set(job.given):
        for name in starting_networks(stage, source, job):
            check_size(job.given[source], name, job.profile)
    stage.assemble(stage, job.profile, {name: build(name, job.profile) for name in stage.trains(job.profile)})


def load(weights: str | Path) -> dict[str, Any]:
    """The networks in a weights file by name, in eval mode, on the CPU; their sizes stand in the file's header.

    The networks are built without memory and take the file's own tensors, so a header cannot ask for more than is
    there.

    Raises:
        ValueError: the file is damaged, holds NaN, or its header does not fit the weights; the message names it.
    """
    path = Path(weights)
    states, settings = checkpoints.read_weights(path), checkpoints.read_about(path)["settings"]
    networks = {}
    with checkpoints.explained(f"the header of {path} does not fit its weights", "take another copy of the file"):
        some = dict(profiles.read("smoke"))
        wanted = [name for name in SIZES if name in settings or name not in profiles.DEFAULTS]  # older files have fewer
        known = profiles.validated({**some, **{name: settings[name] for name in wanted}}, "its")
        for name, state in states.items():
            if name == "generator" and known.generator_blocks > len(state):
                raise ValueError(f"it holds fewer tensors than its generator_blocks, {known.generator_blocks}")
            with torch.device("meta"):
                network = build(name, known)
            kinds = {key: value.dtype for key, value in network.state_dict().items()}
            network.load_state_dict({key: v.to(kinds.get(key, v.dtype)) for key, v in state.items()}, assign=True)
            networks[name] = network.eval()
    return networks


def check_size(path: Path, name: str, profile: Profile) -> None:
    """Raise ``ValueError`` for a given network of another size than the profile's."""
    settings, wanted = checkpoints.read_about(path)["settings"], json.loads(json.dumps(sizes(profile)))
    for key in NETWORK_SIZES[name]:
        if key in settings and settings[key] != wanted[key]:
            raise ValueError(
                f"{path}: its {key} is {settings[key]}, and this training's is {wanted[key]}; set it as there"
            )


def refuse_unused(files: Sequence[str | Path], asked: Sequence[int | str], profile: Profile) -> None:
    """Raise ``ValueError`` for a given file that none of the stages asked for starts from, or several may."""
    given, used = given_stages(files), set()
    for stage in asked:
        reached = needed(stage, profile, given) if stage in TRAININGS else []
        starts = [set(origins(TRAININGS[each], profile, given).values()) for each in reached]  # its own come last
        used |= set().union(*starts)
        own = starts[-1] & set(given) if starts and len(asked) > 1 else set()
        if further := {s for s in own if s >= stage}:  # type: ignore[operator]
            raise ValueError(
                f"{given[min(further)]} is of stage {min(further)}: stage {stage} goes on from it only by itself; "
                "ask for one stage at a time"
            )
    for stage, path in given.items():
        if stage not in used:
            raise ValueError(
                f"{path} is of stage {stage}, from which none of the stages asked for starts: leave it out"
            )


def fit(stage: Stage, job: Job) -> None:
    """Train one stage from where it stands, and write its results into its folder."""
    profile, fabric, folder = job.profile, job.fabric, folder_of(stage.number, job)
    networks = {name: build(name, profile, job.seed) for name in stage.trains(profile)}
    for source in set(origins(stage, profile, job.given).values()):
        networks |= starting_networks(stage, source, job)
    t = prepare(stage, profile, fabric, networks)
    rule = stage.setting(profile, "batch_norm", "plain")
    if rule == "freeze":
        measure_batch_norm(t, stage, job)
        for module in t.modules["cascade"].modules():
            if isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm):
                module.eval()
    loop.run(t, stage, job, folder)
    if rule == "reestimate":
        measure_batch_norm(t, stage, job)
    if fabric.is_global_zero:
        checkpoints.finish(folder, networks, stage.about(profile), t.history, record_of(stage, job, t))
    fabric.barrier()


def measure_batch_norm(t: FabricTraining, stage: Stage, job: Job) -> None:
    """Batch norm's statistics anew, from the cascade's own inputs, on photos that come after those of the training."""
    end = stage.setting(job.profile, "steps")
    rng = job.random(stage, end)
    extra = job.batches(stage, end, end + stage.setting(job.profile, "norm_steps"))
    photos = (photo.to(job.fabric.device) for photo in extra)
    inputs = (steps.with_all_faults(photo, job.profile, rng, t.masks(photo, rng), t.laplace) for photo in photos)
    update_bn(inputs, t.modules["cascade"])


def record_of(stage: Stage, job: Job, t: FabricTraining) -> dict[str, Any]:
    """What made a run, for its ``record.json``; with the records of the stages that it started from."""
    profile, ranks = job.profile, job.fabric.world_size
    sources = sorted(set(origins(stage, profile, job.given).values()))
    before = [
        checkpoints.training_of(job.given[source])
        if source in job.given
        else checkpoints.read_record(folder_of(source, job))
        for source in sources
    ]
    settings = profiles.for_stage(profile, stage.number)
    record = {
        "stage": stage.number,
        "title": stage.title,
        "profile": profile.name,
        "settings": settings,
        "seed": job.seed,
        "steps": t.step,
        "seconds": round(t.seconds, 1),
        "photos": data.photos_record(job.photos),
        **({"before": before} if before else {}),
        **provenance.circumstances(job.fabric.device, job.precision, ranks),
        "ranks": ranks,
        "effective_batch": ranks * stage.setting(profile, "batch"),
    }
    if "loss" in t.modules:
        compared = getattr(t.modules["loss"], "features", None)
        record["perceptual_weights"] = compared.weights if compared else "none"
        record["perceptual_hash"] = naming.hash_of(compared.state_dict()) if compared else "none"
    return record


def starting_networks(stage: Stage, source: int | str, job: Job) -> dict[str, Any]:
    """What a stage takes from a finished one, by name; ``ValueError`` where one is not in the file."""
    path = job.given[source] if source in job.given else folder_of(source, job) / checkpoints.WEIGHTS
    networks = load(path)
    wanted = [name for name, number in origins(stage, job.profile, job.given).items() if number == source]
    if lacking := [name for name in wanted if name not in networks]:
        raise ValueError(f"{path} holds no {lacking[0]}, which {stage.title} starts from: train stage {source} itself")
    return {name: networks[name] for name in wanted}


def prepare(stage: Stage, profile: Profile, fabric: Fabric, networks: Mapping[str, nn.Module]) -> FabricTraining:
    """The networks of a stage with their optimizers, ready for its first step."""
    return FabricTraining(
        profile, fabric, networks, stage.assemble(stage, profile, networks), stage.setting(profile, "steps")
    )


def folder_of(number: int | str, job: Job) -> Path:
    """Where a stage's results stand: ``out/PROFILE-stageN-HASH``, the hash over all that decides them.

    That is its settings, the seed, the photos, the ranks and with them the effective batch, the precision, the stages
    before, the code that trains, and PyTorch's version.
    """
    stage = TRAININGS[number]
    before = {
        name: checkpoints.sha256(job.given[source]) if source in job.given else folder_of(source, job).name
        for name, source in origins(stage, job.profile, job.given).items()
    }
    decides = [number, job.decides(stage), before, naming.code_hash(stage.code), torch.__version__]
    return job.out / f"{job.profile.name}-{stage.key}-{naming.short_hash(decides)}"
