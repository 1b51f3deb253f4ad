"""The laboratory around the paper: all that it takes to train, measure, show and use the cascade of `cascade_core`."""
