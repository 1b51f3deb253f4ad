"""Where a computation runs: the device, its precision, and random numbers made for it."""

import hashlib
import logging
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric

logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it would announce the precision in every notebook


def random_for(device: torch.device | str, *key: int | str) -> torch.Generator:
    """A generator for one purpose.

    The same key gives the same numbers, another key independent ones.
    """
    numbers = [
        part
        if isinstance(part, int)
        else int.from_bytes(
            hashlib.sha256(part.encode()).digest()[:8],
            "big",
        )
        for part in key
    ]
    state = np.random.SeedSequence(numbers).generate_state(2, np.uint32)
    return torch.Generator(device).manual_seed(int(state[0]) << 31 ^ int(state[1]))


def fabric_for(precision: str = "auto", accelerator: str = "auto", devices: int = 1, nodes: int = 1) -> Fabric:
    """Lightning Fabric over the devices asked for, launched, in a profile's precision.

    Args:
        precision: ``"auto"``, or what Fabric calls it.
        accelerator: ``"auto"`` takes a GPU if there is one; else ``"cpu"``, ``"cuda"`` or ``"mps"``.
        devices: GPUs, or processes on a CPU, of each node.
        nodes: machines.

    Raises:
        ValueError: fewer than one device or node, or torch finds no such accelerator.
        RuntimeError: this machine has not so many devices.
    """
    if min(devices, nodes) < 1:
        raise ValueError(f"a training needs at least one device and one node, got {devices=} and {nodes=}")
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if accelerator == "auto":
        accelerator = next(name for name, available in there.items() if available)
    if not there[accelerator]:
        raise ValueError(f"--device {accelerator}: torch finds no such device here; take auto or cpu")
    kind: Any = best_precision(precision, torch.device(accelerator))
    fabric = Fabric(accelerator=accelerator, devices=devices, num_nodes=nodes, precision=kind)
    fabric.launch()
    return fabric


def best_precision(precision: str, device: torch.device) -> str:
    """What ``"auto"`` comes to: bfloat16 where the hardware computes in it, else 32 bits."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    able: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # not in older versions
    return "bf16-mixed" if able.get("avx512_bf16") or able.get("amx_bf16") else "32-true"
