"""The loop under all four stages: steps, learning rate, loss curves, checkpoints, resuming, and when to stop.

Everything random in a step comes from (seed, stage, step, rank), and so does the batch: nothing random has to be saved,
and on a CPU a run that was killed and resumed ends in the same bits as one that was not.
"""

import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from cascade_core import fills
from cascade_core.steps import Training
from cascade_lab.data.brush import brush_masks, rectangle_masks
from cascade_lab.progress import Progress
from cascade_lab.training import checkpoints, multigrid
from cascade_lab.training.plan import Job, Parts, Stage
from cascade_lab.training.profiles import Profile

STATEFUL = ("networks", "optimizers", "rates")  # of a training under way: what has a state to save


class TrainingError(RuntimeError):
    """The run cannot go on: a loss is not a number, or the critic is dead. The message says which and where."""


class Paused(RuntimeError):
    """The time that was given is over; all steps made are saved. The message says where, and how to go on."""


class FabricTraining(Training):
    """A stage under way, on the devices of a Fabric and in its precision.

    Args:
        parts: what the step works with; here the modules go to their devices, wrapped by Fabric.
        steps: how many steps there are, over which the learning rates rise and fall.

    Attributes:
        step: how many steps were made.
        history: the loss curves: one dict of means for each ``log_every`` steps.
    """

    def __init__(
        self, profile: Profile, fabric: Fabric, networks: Mapping[str, nn.Module], parts: Parts, steps: int
    ) -> None:
        on_host = fabric.device.type == "cpu"
        super().__init__(profile, dict(networks), {}, {}, fills.laplace if on_host else multigrid.laplace)
        self.profile, self.fabric = profile, fabric
        self.rates: dict[str, LambdaLR] = {}
        for name, module in parts.modules.items():
            if fabric.world_size > 1 and fabric.device.type == "cuda":  # there is none for CPUs
                module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
            module = module.train().to(memory_format=torch.channels_last)
            optimizer = parts.optimizers.get(name)
            if optimizer is None:  # nothing to train
                self.modules[name] = fabric.to_device(module)
                continue
            if name not in parts.constant:
                self.rates[name] = LambdaLR(optimizer, lambda step: rate_factor(step, steps, profile.warmup_share))
            self.modules[name], self.optimizers[name] = fabric.setup(module, optimizer)
        self.variant_step = parts.step
        self.step, self.seconds = 0, 0.0
        self.history: list[dict[str, float]] = []
        self._coins = torch.Generator()

    def masks(self, photo: Tensor, rng: torch.Generator) -> Tensor | None:
        """With ``hole_place`` "anywhere" every other batch, by chance, has a rectangle elsewhere instead of the center;
        with "free-form" half of those have strokes of a brush.

        It is one for the whole batch, so its Laplace fill is factorized once. The coin is the host's, so that no step
        waits for the device.
        """
        if self.profile.hole_place == "center":
            return None
        if self._coins.initial_seed() != rng.initial_seed():
            self._coins = torch.Generator().manual_seed(rng.initial_seed())
        coin = torch.rand((), generator=self._coins)
        if coin < 0.5:
            return None
        n, _, height, width = photo.shape
        strokes = self.profile.hole_place == "free-form" and coin > 0.75
        draw = brush_masks if strokes else rectangle_masks
        return draw(1, height, width, rng, device=photo.device).expand(n, -1, -1, -1)

    def backward(self, loss: Tensor) -> None:
        self.fabric.backward(loss)

    def autocast(self):
        return self.fabric.autocast()

    def state(self) -> dict:
        """What resuming needs."""
        return {
            "step": self.step,
            "seconds": self.seconds,
            "history": self.history,
            **{kind: {name: part.state_dict() for name, part in getattr(self, kind).items()} for kind in STATEFUL},
        }

    def restore(self, state: dict) -> None:
        for kind in STATEFUL:
            for name, part in getattr(self, kind).items():
                part.load_state_dict(state[kind][name])
        self.step, self.seconds, self.history = state["step"], state["seconds"], state["history"]


def rate_factor(step: int, steps: int, warmup_share: float) -> float:
    """Share of the full learning rate at a step.

    It rises in a line during the first steps, then falls along half a cosine to zero.

    >>> [round(rate_factor(step, 100, 0.1), 2) for step in (0, 4, 9, 10, 55, 99)]
    [0.1, 0.5, 1.0, 1.0, 0.5, 0.0]
    """
    warmup = round(steps * warmup_share)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def run(t: FabricTraining, stage: Stage, job: Job, folder: Path) -> None:
    """Make all steps of a stage, or those that a killed run has left.

    Args:
        t: the stage's networks and optimizers, before their first step.
        folder: where the steps are saved, and looked for.

    Raises:
        TrainingError: a loss is not finite, or the critic's gradient has vanished.
        Paused: the job's time would be over before the next point of the loss curves; the steps made are saved.
        OSError: a step cannot be saved, the disk is full, say.
        ValueError: the saved step cannot be resumed from.
    """
    profile, fabric, steps = job.profile, job.fabric, stage.setting(job.profile, "steps")
    if fabric.is_global_zero:
        checkpoints.clear(folder)
    checkpoints.load_step(folder, t.restore)
    batches = on_device(job.batches(stage, t.step, steps), fabric.device)
    progress = Progress(stage.title, steps, t.step) if fabric.is_global_zero else None
    begin, longest = time.monotonic() - t.seconds, 0.0
    while t.step < steps:
        before = time.monotonic()
        means = _advance(t, stage, job, batches, min(steps, t.step + profile.log_every - t.step % profile.log_every))
        _check(means, stage.title, t.step)
        t.history.append({"step": float(t.step), **means})
        now = time.monotonic()
        t.seconds, longest = now - begin, max(longest, now - before)
        if progress:
            progress.update(t.step, means)
        late = torch.tensor(float(now + 1.5 * longest > job.until), device=fabric.device)
        paused = bool(fabric.all_reduce(late, reduce_op="sum"))  # a rank whose clock is ahead stops all of them
        if t.step < steps and (paused or t.step % profile.save_every == 0):
            if fabric.is_global_zero:
                checkpoints.save_step(folder, t.state())
            fabric.barrier()
            if paused:
                raise Paused(f"{stage.title}: paused at step {t.step} of {steps}; the same command goes on")


def _advance(t: FabricTraining, stage: Stage, job: Job, batches: Iterator[Tensor], end: int) -> dict[str, float]:
    """Make the steps up to the next point of the loss curves; the means of their losses."""
    sums: dict[str, Tensor] = {}
    first, step = t.step, t.variant_step or stage.step
    while t.step < end:
        for name, value in step(t, batches, job.random(stage, t.step)).items():
            sums[name] = sums.get(name, 0) + value.detach()
        for rate in t.rates.values():
            rate.step()
        t.step += 1
    # the one place that waits for the device
    return {name: torch.as_tensor(t.fabric.all_reduce(total / (end - first))).item() for name, total in sums.items()}


def on_device(batches: Iterator[Tensor], device: torch.device) -> Iterator[Tensor]:
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
