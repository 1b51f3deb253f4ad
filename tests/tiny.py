"""Settings of networks that train in a second, which several test files start from."""

from pathlib import Path

from cascade_lab import data, devices
from cascade_lab.training import stages
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
