"""What a training over several machines needs of them, asked before it starts."""

import os
import time
from pathlib import Path

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import (
    LSFEnvironment,
    MPIEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)

MANAGED = (SLURMEnvironment, TorchElasticEnvironment, LSFEnvironment, MPIEnvironment)
"""Launchers that tell each process where the others are."""


def check_variables(nodes: int) -> None:
    """Find out whether this machine knows its number and where the first one is; without that it would wait for ever.

    Raises:
        ValueError: more than one machine, no launcher, and a variable is not set; the message says which.
    """
    if nodes == 1 or any(environment.detect() for environment in MANAGED):
        return
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK") if not os.environ.get(name)]
    if missing:
        raise ValueError(
            f"--nodes {nodes}: set {', '.join(missing)}. MASTER_ADDR and MASTER_PORT are the address of the first "
            f"machine and a free port of it, NODE_RANK is 0 there, and up to {nodes - 1} on the others"
        )


def check_folder(out: Path, fabric: Fabric, patience: float = 10.0) -> None:
    """Find out whether all processes see the output folder of the first one, which alone writes.

    Args:
        out: the folder.
        fabric: launched; each of its processes has to call this.
        patience: seconds that a network's file system has to show a new file.

    Raises:
        ValueError: a process sees another folder.
    """
    mark = out / ".shared"
    if fabric.is_global_zero:
        try:
            out.mkdir(parents=True, exist_ok=True)
            mark.touch()
        except OSError:  # the training names it
            patience = 0.0
    fabric.barrier()
    late = time.monotonic() + patience
    while not mark.exists() and time.monotonic() < late:
        time.sleep(0.1)
    blind = torch.tensor(float(not mark.exists()), device=fabric.device)
    count = int(torch.as_tensor(fabric.all_reduce(blind, reduce_op="sum")).item())
    if fabric.is_global_zero:
        mark.unlink(missing_ok=True)
    if 0 < count < fabric.world_size:
        raise ValueError(
            f"{count} of {fabric.world_size} processes do not see the first one's folder {out}: "
            "let --out name a folder that all machines share"
        )
