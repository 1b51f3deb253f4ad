"""The deep cascade of Zhao et al. (2017): models, losses, degradations, training stages, metrics."""
