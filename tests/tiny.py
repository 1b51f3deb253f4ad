"""Settings of networks that train in a second, which several test files start from."""

import hashlib
import io
import tarfile
from pathlib import Path

import torch

from cascade_lab import data, devices
from cascade_lab.data import manifest
from cascade_lab.training import checkpoints, profiles, stages
from cascade_lab.training.profiles import Profile

TINY = {
    "size": 32,
    "hole": 14,
    "generator_widths": (4, 4, 4, 4, 4),
    "generator_blocks": 1,
    "critic_widths": (4, 4, 4, 4, 4),
    "critic_hidden": 4,
    "deblur_denoise_width": 4,
    "stage3_patch": 24,
    "stage4_norm_steps": 2,
    "log_every": 2,
    "save_every": 4,
    "precision": "32-true",
    **{f"stage{number}_steps": 2 for number in stages.STAGES},
    **{f"stage{number}_batch": 2 for number in stages.STAGES},
}


def job(profile: Profile, photos: data.Photos, out: Path, seed: int = 0) -> stages.Job:
    """A job on one CPU."""
    return stages.Job(profile, photos, out, seed, devices.fabric_for(profile.precision, "cpu"))


def settings(changes: dict) -> list[str]:
    """Changes of a profile as the shell gives them."""
    return [text for name, value in changes.items() for text in ("--set", f"{name}={value!r}")]


def random(network: torch.nn.Module) -> torch.nn.Module:
    """As if it were trained: layers that start at zero, and running statistics, would hide mistakes."""
    rng = torch.Generator().manual_seed(0)
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.empty_like(value).normal_(0, 0.2, generator=rng))
        if name.endswith("running_var"):
            value.abs_().add_(0.5)
    return network.eval()


DILATED = {"generator_fill": "laplace and mask", "generator_kind": "dilated", "dilated_widths": (4, 4, 4)}


def saved(path: Path, **settings) -> Path:
    """Weights of a generator and a deblurring-denoising network that nobody has trained."""
    profile = profiles.read("smoke", {**TINY, **settings})
    networks = {name: random(stages.build(name, profile)) for name in ("generator", "deblur_denoise")}
    checkpoints.save_weights(path, networks, {"stage": 4, "profile": "smoke", "settings": stages.sizes(profile)})
    return path


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def write_shards(folder: Path, members: list[tuple[str, bytes]], each: int) -> None:
    """Tar shards to train on, of ``each`` encoded photos by name, and their manifest, which leaves one photo out."""
    rows = []
    for shard, first in enumerate(range(0, len(members), each)):
        path, part = folder / f"train-{shard:06d}.tar", members[first : first + each]
        write_tar(path, part)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        rows.append({"file": path.name, "size": path.stat().st_size, "split": "train", "sha256": digest})
        rows[-1]["photos"] = len(part)
    manifest.write_manifest(folder / "manifest.json", str(len(members)), "made", rows, {"x.jpg": "empty"})
