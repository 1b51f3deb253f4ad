"""The loop under all four stages: steps, learning rate, loss curves, checkpoints, resuming, and when to stop.

Everything random in a step comes from (seed, stage, step, rank), and so does the batch: nothing random has to be saved,
and on a CPU a run that was killed and resumed ends in the same bits as one that was not.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from cascade_core.steps import Step, Training
from cascade_lab.data.brush import rectangle_masks
from cascade_lab.devices import random_for
from cascade_lab.progress import Progress
from cascade_lab.training import checkpoints
from cascade_lab.training.profiles import Profile


class TrainingError(RuntimeError):
    """The run cannot go on: a loss is not a number, or the critic is dead. The message says which and where."""


class Paused(RuntimeError):
    """The time that was given is over; all steps made are saved. The message says where, and how to go on."""


class FabricTraining(Training):
    """A stage under way, on the devices of a Fabric and in its precision.

    Args:
        constant: names of the optimizers whose rate stays, instead of rising and falling.

    Attributes:
        modules: those given, on their devices, wrapped by Fabric.
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
        super().__init__(profile, networks, {}, {})
        self.profile, self.fabric, self.constant = profile, fabric, constant
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

    def masks(self, photo: Tensor, rng: torch.Generator) -> Tensor | None:
        """With ``hole_place`` "anywhere" every other batch, by chance, has a rectangle elsewhere instead of the center.

        It is one for the whole batch, so its Laplace fill is factorized once. The coin is the host's, so that no step
        waits for the device.
        """
        coin = torch.Generator().manual_seed(rng.initial_seed())
        if self.profile.hole_place == "center" or torch.rand((), generator=coin) < 0.5:
            return None
        n, _, height, width = photo.shape
        return rectangle_masks(1, height, width, rng, photo.device).expand(n, -1, -1, -1)

    def backward(self, loss: Tensor) -> None:
        self.fabric.backward(loss)

    def autocast(self):
        return self.fabric.autocast()

    def set_rates(self, steps: int) -> None:
        """The learning rates of the coming step."""
        factor = rate_factor(self.step, steps, self.profile.warmup_share)
        for name, optimizer in self.optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = self.rates[name] * (1.0 if name in self.constant else factor)


def rate_factor(step: int, steps: int, warmup_share: float) -> float:
    """Share of the full learning rate: rising in a line for the first steps, then down half a cosine to zero.

    >>> [round(rate_factor(step, 100, 0.1), 2) for step in (0, 4, 9, 10, 55, 99)]
    [0.1, 0.5, 1.0, 1.0, 0.5, 0.0]
    """
    warmup = round(steps * warmup_share)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def run(
    training: FabricTraining,
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


def _save(training: FabricTraining, folder: Path, about: Mapping[str, Any]) -> None:
    resume = {
        "step": training.step,
        "seconds": training.seconds,
        "history": training.history,
        "optimizers": {name: optimizer.state_dict() for name, optimizer in training.optimizers.items()},
    }
    if training.fabric.is_global_zero:
        checkpoints.save_step(folder, training.networks, about, resume)
    training.fabric.barrier()


def _resume(training: FabricTraining, folder: Path) -> None:
    saved = checkpoints.saved_steps(folder)
    if not saved:
        return
    resume = checkpoints.load_step(saved[-1], training.networks)
    training.step, training.seconds, training.history = resume["step"], resume["seconds"], resume["history"]
    for name, optimizer in training.optimizers.items():
        optimizer.load_state_dict(resume["optimizers"][name])
