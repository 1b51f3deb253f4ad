"""Where and with what a result was made, for its record."""

import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

import torch
import torchvision


def circumstances(device: torch.device, precision: str, world: int = 1) -> dict[str, Any]:
    """Where and with what a run was made: device, versions, commit of the source."""
    gpu, threads = device.type == "cuda", torch.get_num_threads()
    versions = {"torch": torch.__version__, "torchvision": torchvision.__version__}
    return {
        "device": torch.cuda.get_device_name(device) if gpu else processor(),
        "devices": world if gpu else f"{threads} thread{'s' * (threads > 1)}",
        "precision": precision,
        "versions": {"python": platform.python_version(), **versions},
        "commit": commit(Path(__file__)),
    }


def commit(file: Path) -> str:
    """The commit of the repository that tracks a file, or "unknown".

    A package that is installed into an environment inside another repository is not that repository's, and a record
    must not fail where git is missing, or means another repository by its variables.
    """
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(file.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=variables).stdout

    try:
        git("ls-files", "--error-unmatch", file.name)
        return git("describe", "--always", "--dirty", "--abbrev=12", "--match=-").strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def processor() -> str:
    """The processor's name, as the system tells it, and its number of cores."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.*?)\s*$", info.read_text(), re.M) if info.is_file() else None
    name = found[1] if found else platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"
