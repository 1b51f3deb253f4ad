"""`cascade train` on two CPU processes that draw what one process with twice the batch would draw.

Two ranks differ from one process by design in two things, and this file takes both back. Each rank has random numbers
of its own; here each draws those of the whole batch and keeps its share. Batch norm takes its statistics over all ranks
on GPUs, and over one rank on CPUs; here it takes them over all. All numbers have 64 bits, since RMSProp and Adam divide
by gradients that are next to zero, which makes rounding large. Fabric starts this file again for the second rank::

    python two_ranks.py SEEN train 4 --devices 2 ... -- train 1 ...

Each command runs on the same pair of processes. Every rank writes the brightness of the photos that each command took
from shards into the folder SEEN.
"""

import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, distributed, nn

from cascade_core import degradations, steps
from cascade_lab import cli, data, devices
from cascade_lab.training import plan


def same_draws() -> None:
    """Each rank draws for the whole batch, in the order of one process, and keeps its own photos."""

    def degrade(images: Tensor, kernels: None, levels: dict, rng: torch.Generator) -> degradations.Degraded:
        ranks, rank = distributed.get_world_size(), distributed.get_rank()
        whole = degradations.degrade(images.repeat_interleave(ranks, 0), kernels, levels, rng)
        return degradations.Degraded(*(part[rank::ranks] for part in whole))

    steps.degrade = degrade
    plan.Job.random = lambda job, stage, step: devices.random_for("cpu", job.seed, stage.number, step, 0)


def in_64_bits(replace: Callable[[object, str, object], None] = setattr) -> None:
    """Photos, networks and losses in float64, which no profile offers."""
    torch.set_default_dtype(torch.float64)
    replace(devices, "best_precision", lambda *_: "64-true")
    replace(Tensor, "float", Tensor.double)
    replace(degradations, "_constant", lambda values, device: torch.tensor(values, device=device))


class MeanOverRanks(torch.autograd.Function):
    """The mean of a tensor over all ranks. The gradients of all ranks' losses come back as their mean too."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return mean_over_ranks(x)

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return mean_over_ranks(gradient)


def mean_over_ranks(x: Tensor) -> Tensor:
    total = x.clone()
    distributed.all_reduce(total)
    return total / distributed.get_world_size()


def norm_over_ranks(self: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Batch norm with the statistics of all ranks' batches: what `nn.SyncBatchNorm` computes on GPUs."""
    if not self.training:
        return nn.functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
    mean = MeanOverRanks.apply(x.mean((0, 2, 3)))
    centered = x - mean[:, None, None]
    variance = MeanOverRanks.apply(centered.square().mean((0, 2, 3)))
    count = distributed.get_world_size() * x.numel() / x.shape[1]
    self.num_batches_tracked += 1
    share = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
    with torch.no_grad():
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * count / (count - 1), share)
    scale = self.weight * (variance + self.eps).rsqrt()
    return centered * scale[:, None, None] + self.bias[:, None, None]


def noted(batches: Iterator[Tensor], path: Path) -> Iterator[Tensor]:
    """The batches, with a line for each crop in a file: its brightness from 0 to 255."""
    with path.open("a") as file:
        for batch in batches:
            print(*(batch.mean((1, 2, 3)) * 255).round().int().tolist(), sep="\n", file=file, flush=True)
            yield batch


def main(seen: Path, arguments: list[str]) -> None:
    torch.set_num_threads(1)
    same_draws()
    in_64_bits()
    nn.BatchNorm2d.forward = norm_over_ranks
    devices.fabric_for = functools.cache(devices.fabric_for)  # one pair of processes for all commands
    batches = data.training_batches

    def training_batches(photos: data.Photos | data.Shards, *rest: object) -> Iterator[Tensor]:
        crops = batches(photos, *rest)
        return noted(crops, seen / f"{distributed.get_rank()}") if isinstance(photos, data.Shards) else crops

    data.training_batches = training_batches
    while arguments:
        end = arguments.index("--") if "--" in arguments else len(arguments)
        try:
            cli.main(arguments[:end])
        except SystemExit as ended:
            if ended.code:
                raise
        arguments = arguments[end + 1 :]


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
