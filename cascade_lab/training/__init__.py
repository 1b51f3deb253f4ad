"""Training: profiles, the four stages, the loop that runs and resumes them, and what a run leaves behind.

A notebook says ``from cascade_lab.training import profiles, stages``, or ``from cascade_lab import training`` and then
``training.train(1, training.read("smoke"), photos, "runs")``.
"""

from cascade_lab.training import checkpoints, loop, profiles, stages
from cascade_lab.training.profiles import Profile, read
from cascade_lab.training.stages import STAGES, Job, Paused, Run, Stage, TrainingError, load, train

__all__ = [
    "STAGES",
    "Job",
    "Paused",
    "Profile",
    "Run",
    "Stage",
    "TrainingError",
    "checkpoints",
    "load",
    "loop",
    "profiles",
    "read",
    "stages",
    "train",
]
