"""Where and with what a result was made, for its record."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch
import torchvision


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
