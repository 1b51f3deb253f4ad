"""Training: profiles, the four stages, the loop that runs and resumes them, and what a run leaves behind."""

from cascade_lab.training import checkpoints, loop, profiles, stages
from cascade_lab.training.profiles import read
from cascade_lab.training.stages import Job, Paused, TrainingError, load, train

__all__ = ["Job", "Paused", "TrainingError", "checkpoints", "load", "loop", "profiles", "read", "stages", "train"]
