"""A training step of each stage, beside the same networks trained the plain way.

    python -m benchmarks.training [device] [--profile cpu] [--compiled]

Ours is the package's own step on batches of bytes: channels_last, bfloat16 where the hardware computes in it, Adam in
one kernel, holes, blur and noise made for the whole batch on the device. The plain way is that of a tutorial: float32,
eager, contiguous, the optimizers' defaults, a `Dataset` that degrades one photo at a time for a `DataLoader`, the loss
read after each step. It has the package's own degradations, photo by photo: slower ones would only help us.

Both take the same crops from memory, so decoding and cropping are left out of both. The share of the peak is the
arithmetic of a step over its time, beside that of a large matrix product in the same precision in the same process.
"""

import argparse
from collections.abc import Callable, Iterator
from itertools import cycle

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.metrics import crops
from benchmarks.rounds import compare, take_turns
from cascade_core import steps
from cascade_core.degradations import degrade
from cascade_core.losses import PerceptualLoss, adversarial_loss, critic_loss, mse_loss
from cascade_core.models import Cascade
from cascade_lab import devices
from cascade_lab.training import loop, profiles, stages
from cascade_lab.training.profiles import Profile

POOL = 8  # batches of different crops
WORKERS = 4  # of the plain way's loader beside a GPU; beside a CPU they would take the cores that train


def pool(stage: int, profile: Profile) -> Tensor:
    """Crops of scikit-image's photos as bytes (N, 3, side, side): ``POOL`` batches of the stage."""
    side = stages.STAGES[stage].side(profile)
    return torch.from_numpy(crops(POOL * batch_of(stage, profile), side)[1]).permute(0, 3, 1, 2).contiguous()


def batch_of(stage: int, profile: Profile) -> int:
    return stages.STAGES[stage].setting(profile, "batch")


def networks_of(stage: int, profile: Profile) -> dict[str, nn.Module]:
    return {name: stages.build(name, profile) for name in stages.STAGES[stage].networks}


def ours(stage: int, profile: Profile, device: str, compiled: bool = False) -> Callable[[], dict[str, Tensor]]:
    """A call is one step of the stage; it returns the losses by name."""
    fabric = devices.fabric_for(profile.precision, device)
    t = stages.prepare(stages.STAGES[stage], profile, fabric, networks_of(stage, profile))
    if compiled:
        for module in t.modules.values():
            getattr(module, "module", module).compile()  # what Fabric wraps
    batches = pool(stage, profile).split(batch_of(stage, profile))
    photos = loop.on_device((batch.float().div_(255) for batch in cycle(batches)), fabric.device)

    def step() -> dict[str, Tensor]:
        rng = devices.random_for(fabric.device, stage, t.step)
        t.step += 1
        return stages.STAGES[stage].step(t, photos, rng)

    return step


class DegradedPhotos(Dataset):
    """The pool's photos one by one, each with its degraded copy, as a tutorial's data set makes them."""

    def __init__(self, stage: int, profile: Profile) -> None:
        self.stage, self.profile, self.pool = stage, profile, pool(stage, profile)
        self.rng = torch.Generator().manual_seed(0)

    def __len__(self) -> int:
        return len(self.pool)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        photo = self.pool[index].float()[None] / 255
        if self.stage == 3:
            degraded = degrade(photo, None, self.profile.stage3_mix, self.rng).images
        elif self.stage == 4:
            degraded = steps.with_all_faults(photo, self.profile, self.rng)
        else:
            degraded = steps.with_hole(photo, self.profile)
        return photo[0], degraded[0]


def plain(stage: int, profile: Profile, device: str) -> Callable[[], float]:
    """A call is one step of the stage the plain way; it returns the loss."""
    workers = 0 if device == "cpu" else WORKERS
    loader = DataLoader(
        DegradedPhotos(stage, profile),
        batch_of(stage, profile),
        num_workers=workers,
        pin_memory=device != "cpu",
        persistent_workers=workers > 0,
    )

    def forever() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            for photo, degraded in loader:
                yield photo.to(device), degraded.to(device)

    networks = {name: network.train().to(device) for name, network in networks_of(stage, profile).items()}
    if stage == 2:
        return plain_step_2(profile, device, networks, forever())
    network = Cascade(**networks) if stage == 4 else next(iter(networks.values()))
    optimizer = torch.optim.Adam(network.parameters(), stages.STAGES[stage].setting(profile, "rate"))
    batches = forever()

    def step() -> float:
        photo, degraded = next(batches)
        output = network(degraded)
        loss = mse_loss(output.restored if stage == 4 else output, photo)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def plain_step_2(
    profile: Profile, device: str, networks: dict[str, nn.Module], batches: Iterator[tuple[Tensor, Tensor]]
) -> Callable[[], float]:
    """The Wasserstein GAN as its authors' own loop has it, with the losses of equation 7."""
    generator, critic = networks["generator"], networks["critic"]
    features = PerceptualLoss(profile.perceptual_weights).to(device)
    of_generator = torch.optim.RMSprop(generator.parameters(), profile.stage2_rate)
    of_critic = torch.optim.RMSprop(critic.parameters(), profile.critic_rate)

    def step() -> float:
        critic.requires_grad_(True)
        for _ in range(profile.critic_steps):
            photo, degraded = next(batches)
            with torch.no_grad():
                filled = generator(degraded)
            loss = critic_loss(critic(photo), critic(filled))
            of_critic.zero_grad()
            loss.backward()
            of_critic.step()
            steps.clip_weights(critic, profile.critic_clip)
        critic.requires_grad_(False)
        photo, degraded = next(batches)
        filled = generator(degraded)
        loss = profile.mse_weight * mse_loss(filled, photo)
        loss = loss + profile.perceptual_weight * features(filled, photo)
        loss = loss + profile.adversarial_weight * adversarial_loss(critic(filled))
        of_generator.zero_grad()
        loss.backward()
        of_generator.step()
        return loss.item()

    return step


def peak(device: str, precision: str, rounds: int = 7) -> float:
    """Floating point operations a second of a large matrix product."""
    side = 2048 if device == "cpu" else 8192
    dtype = torch.bfloat16 if precision == "bf16-mixed" else torch.float32
    a, b = torch.rand(2, side, side, device=device).to(dtype)
    return 2 * side**3 / take_turns({"product": lambda: a @ b}, rounds, device)["product"]


def operations(step: Callable[[], object]) -> int:
    """Floating point operations of a step's convolutions and matrix products, counted while it is made; a
    multiply-add is two."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def measure(device: str = "cpu", profile: Profile | None = None, rounds: int = 9, compiled: bool = False) -> list[dict]:
    """Rows of task (the stage), way, seconds a step, photos in it, how many times as fast ours is, and for ours the
    share of the peak."""
    profile = profile or profiles.read("cpu" if device == "cpu" else "gpu", {"perceptual_weights": "random"})
    most = peak(device, devices.best_precision(profile.precision, torch.device(device)))
    rows = []
    for stage in stages.STAGES:
        task = f"stage {stage}"
        runs = {(task, "ours"): ours(stage, profile, device), (task, "plain"): plain(stage, profile, device)}
        if compiled:
            runs[task, "ours, compiled"] = ours(stage, profile, device, compiled=True)
        work = operations(runs[task, "ours"])
        for row in compare(take_turns(runs, rounds, device), list(runs)):
            share = work / row["seconds"] / most if row["way"] != "plain" else None
            rows.append({**row, "profile": profile.name, "batch": batch_of(stage, profile), "share_of_peak": share})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("device", nargs="?", default="cpu")
    parser.add_argument("--profile", choices=profiles.PROFILES, help="default: cpu on a CPU, gpu on a GPU")
    parser.add_argument("--compiled", action="store_true", help="also ours under torch.compile")
    args = parser.parse_args()
    name = args.profile or ("cpu" if args.device == "cpu" else "gpu")
    profile = profiles.read(name, {"perceptual_weights": "random"})
    print(f"{torch.cuda.get_device_name() if args.device != 'cpu' else f'CPU, {torch.get_num_threads()} threads'}")
    for row in measure(args.device, profile, compiled=args.compiled):
        share = f"{row['share_of_peak']:5.0%} of the peak" if row["share_of_peak"] else ""
        print(
            f"{row['task']:8} {row['way']:15} {1e3 * row['seconds']:9.1f} ms   "
            f"ours is {row['ours_is_times_as_fast']:.2f} times as fast {share}"
        )


if __name__ == "__main__":
    main()
