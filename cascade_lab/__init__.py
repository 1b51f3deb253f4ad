"""The laboratory around the paper: all that it takes to train, measure, show and use the cascade of `cascade_core`."""

PAUSED = 75
"""Exit status of a training whose time was over: "temporary failure, try again" (sysexits.h)."""
