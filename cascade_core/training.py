"""The loop under all four stages: steps, learning rate, loss curves, checkpoints, resuming, and when to stop.

Everything random in a step comes from (seed, stage, step, rank), and so does the batch: nothing random has to be saved,
and on a CPU a run that was killed and resumed ends in the same bits as one that was not.
"""

import logging
import math
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from lightning_fabric import Fabric
from torch import Tensor, nn

from . import checkpoints
from .profiles import Profile
from .progress import Progress

logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it would announce the precision in every notebook


class TrainingError(RuntimeError):
    """The run cannot go on: a loss is not a number, or the critic is dead. The message says which and where."""


class Paused(RuntimeError):
    """The time that was given is over; all steps made are saved. The message says where, and how to go on."""


class Training:
    """A stage under way: its networks, optimizers and random numbers, as the stage's step sees them.

    Args:
        networks: what is trained and saved, by name.
        modules: what is called in a step, by name; the networks themselves, or one made of them (the cascade).
        optimizers: one for each module that is updated, by the module's name.
        constant: names of the optimizers whose rate stays, instead of rising and falling.

    Attributes:
        modules: the same, on their devices, wrapped by Fabric.
        step: how many steps were made.
        history: the loss curves: one dict of means for each ``log_every`` steps.
    """

    def __init__(
        self,
        profile: Profile,
        fabric: Fabric,
        networks: Mapping[str, nn.Module],
        modules: Mapping[str, nn.Module],
        optimizers: Mapping[str, torch.optim.Optimizer],
        constant: tuple[str, ...] = (),
    ) -> None:
        self.profile, self.fabric, self.networks, self.constant = profile, fabric, dict(networks), constant
        self.modules: dict[str, nn.Module] = {}
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        for name, module in modules.items():
            if fabric.world_size > 1 and fabric.device.type == "cuda":  # there is none for CPUs
                module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
            module = module.train().to(memory_format=torch.channels_last)
            if name in optimizers:
                self.modules[name], self.optimizers[name] = fabric.setup(module, optimizers[name])
            else:  # nothing to train
                self.modules[name] = fabric.to_device(module)
        self.rates = {name: optimizer.param_groups[0]["lr"] for name, optimizer in self.optimizers.items()}
        self.step, self.seconds, self.history = 0, 0.0, []

    def update(self, name: str, loss: Tensor) -> None:
        """One step of a module's optimizer down the loss's gradient."""
        self.optimizers[name].zero_grad()
        self.fabric.backward(loss)
        self.optimizers[name].step()

    def set_rates(self, steps: int) -> None:
        """The learning rates of the coming step."""
        factor = rate_factor(self.step, steps, self.profile.warmup_share)
        for name, optimizer in self.optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = self.rates[name] * (1.0 if name in self.constant else factor)


@contextmanager
def frozen(network: nn.Module):
    """The network without gradients of its own: they flow through it to what made its input."""
    network.requires_grad_(False)
    try:
        yield network
    finally:
        network.requires_grad_(True)


def rate_factor(step: int, steps: int, warmup_share: float) -> float:
    """Share of the full learning rate: rising in a line for the first steps, then down half a cosine to zero.

    >>> [round(rate_factor(step, 100, 0.1), 2) for step in (0, 4, 9, 10, 55, 99)]
    [0.1, 0.5, 1.0, 1.0, 0.5, 0.0]
    """
    warmup = round(steps * warmup_share)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def random_for(device: torch.device | str, *key: int) -> torch.Generator:
    """A generator for one purpose: the same key gives the same numbers, another key independent ones."""
    state = np.random.SeedSequence(key).generate_state(2, np.uint32)
    return torch.Generator(device).manual_seed(int(state[0]) << 31 ^ int(state[1]))


Step = Callable[[Training, Iterator[Tensor], torch.Generator], dict[str, Tensor]]


def run(
    training: Training,
    step: Step,
    title: str,
    steps: int,
    photos: Callable[[int], Iterator[Tensor]],
    key: tuple[int, ...],
    folder: Path,
    about: Mapping[str, Any],
    until: float = math.inf,
) -> None:
    """Make ``steps`` steps, or those that a killed run has left.

    Args:
        step: one step: takes the training, the photos and random numbers; returns its losses by name.
        title: of the progress lines, and of the error messages.
        photos: from a step's number to the batches from there on, on the CPU.
        key: what seeds the random numbers, with the step and the rank.
        folder: where the steps are saved, and looked for.
        about: goes into the header of the weights.
        until: the time of `time.monotonic` at which to stop at the latest.

    Raises:
        TrainingError: a loss is not finite, or the critic's gradient has vanished.
        Paused: ``until`` would pass before the next point of the loss curves; the steps made are saved.
    """
    fabric, profile = training.fabric, training.profile
    _resume(training, folder)
    batches = _on_device(photos(training.step), fabric.device)
    progress = Progress(title, steps, training.step)
    sums: dict[str, Tensor] = {}
    counted, begin, longest = 0, time.monotonic() - training.seconds, 0.0
    point = time.monotonic()
    while training.step < steps:
        training.set_rates(steps)
        rng = random_for(fabric.device, *key, training.step, fabric.global_rank)
        for name, value in step(training, batches, rng).items():
            sums[name] = sums.get(name, 0) + value.detach()
        training.step += 1
        counted += 1
        if training.step % profile.log_every and training.step < steps:
            continue
        # the one place that waits for the device
        means = {name: float(fabric.all_reduce(total / counted)) for name, total in sums.items()}
        _check(means, title, training.step)
        training.history.append({"step": float(training.step), **means})
        training.seconds = time.monotonic() - begin
        if fabric.is_global_zero:
            progress.update(training.step, means)
        sums, counted = {}, 0
        now = time.monotonic()
        longest, point = max(longest, now - point), now
        # a rank whose clock is ahead stops all of them
        paused = bool(fabric.all_reduce(torch.tensor(float(now + 1.5 * longest > until)), reduce_op="sum"))
        if training.step < steps and (paused or training.step % profile.save_every == 0):
            _save(training, folder, about)
            if paused:
                raise Paused(f"{title}: paused at step {training.step} of {steps}; the same command goes on")


def _on_device(batches: Iterator[Tensor], device: torch.device) -> Iterator[Tensor]:
    for batch in batches:
        yield batch.to(device, non_blocking=True).contiguous(memory_format=torch.channels_last)


def _check(means: dict[str, float], title: str, step: int) -> None:
    bad = [name for name, value in means.items() if not math.isfinite(value)]
    if bad:
        raise TrainingError(f"{title}, step {step}: {', '.join(bad)} not finite; try a lower learning rate")
    if means.get("critic_gradient", 1.0) < 1e-7:
        raise TrainingError(
            f"{title}, step {step}: the critic is dead, its gradient is {means['critic_gradient']:.1g}; "
            "clipped weights need batch norm in the critic, and critic_clip not too small"
        )


def _save(training: Training, folder: Path, about: Mapping[str, Any]) -> None:
    resume = {
        "step": training.step,
        "seconds": training.seconds,
        "history": training.history,
        "optimizers": {name: optimizer.state_dict() for name, optimizer in training.optimizers.items()},
    }
    if training.fabric.is_global_zero:
        checkpoints.save_step(folder, training.networks, about, resume)
    training.fabric.barrier()


def _resume(training: Training, folder: Path) -> None:
    saved = checkpoints.saved_steps(folder)
    if not saved:
        return
    resume = checkpoints.load_step(saved[-1], training.networks)
    training.step, training.seconds, training.history = resume["step"], resume["seconds"], resume["history"]
    for name, optimizer in training.optimizers.items():
        optimizer.load_state_dict(resume["optimizers"][name])


def fabric_for(profile: Profile, accelerator: str = "auto", devices: int = 1, nodes: int = 1) -> Fabric:
    """Lightning Fabric over the devices asked for, launched, in the profile's precision."""
    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    precision = best_precision(profile.precision, torch.device(accelerator))
    fabric = Fabric(accelerator=accelerator, devices=devices, num_nodes=nodes, precision=precision)
    fabric.launch()
    return fabric


def best_precision(precision: str, device: torch.device) -> str:
    """What ``"auto"`` comes to: bfloat16 where the hardware computes in it, else 32 bits."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    able = getattr(torch.cpu, "get_capabilities", dict)()  # not in older versions
    return "bf16-mixed" if able.get("avx512_bf16") or able.get("amx_bf16") else "32-true"


def circumstances(device: torch.device, precision: str, world: int = 1) -> dict[str, Any]:
    """Where and with what a run was made: device, versions, commit of the source."""
    gpu, threads = device.type == "cuda", torch.get_num_threads()
    here = Path(__file__).parent
    commit = subprocess.run(
        ["git", "-C", here, "describe", "--always", "--dirty", "--abbrev=12", "--match=-"],
        capture_output=True,
        text=True,
    )
    return {
        "device": torch.cuda.get_device_name(device) if gpu else processor(),
        "devices": world if gpu else f"{threads} thread{'s' * (threads > 1)}",
        "precision": precision,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
        },
        "commit": commit.stdout.strip() or "unknown",
    }


def processor() -> str:
    """The processor's name, as the system tells it, and its number of cores."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        name = names[0] if names else name
    return f"{name}, {os.cpu_count()} cores"
