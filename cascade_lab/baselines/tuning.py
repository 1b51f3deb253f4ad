"""Parameters by trial on training photos, so that no classical method loses for being set badly."""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

from torch import Tensor

from cascade_core.metrics import psnr


def tune(
    method: Callable[..., Tensor],
    degraded: Mapping[str, Any],
    clean: Tensor,
    grid: Mapping[str, Sequence[Any]],
    region: Tensor | None = None,
) -> tuple[dict[str, Any], list[tuple[dict[str, Any], float]]]:
    """Find the parameters of a method with the highest mean PSNR. Use training photos, never the test's.

    Args:
        method: called as ``method(**degraded, **parameters)``: an inpainter, a restorer or a chain.
        degraded: what the method is given, by name, for instance ``{"images": ..., "sigma": 25}``. An image that
            equals the clean one in 8 bits does not count: it has infinite PSNR until a method harms it.
        clean: ``(N, 3, H, W)`` in [0, 1], what it should return.
        grid: the values to try of each parameter by name; every combination is tried.
        region: ``(N, 1, H, W)``, 1 where the PSNR is taken, for instance the hole; None: everywhere.

    Returns:
        The best parameters, and all that were tried with their mean PSNR in dB, in the order of the grid. A best
        value at an end of its grid asks for a longer grid.

    Raises:
        ValueError: the grid has no parameter or one of them no value, or no image is degraded.
    """
    if not grid or not all(len(values) for values in grid.values()):
        raise ValueError(f"the grid must have one value or more of one parameter or more, got {dict(grid)}")
    degraded_ones = ~psnr(degraded["images"], clean, region).isinf()
    if not degraded_ones.any():
        raise ValueError(f"none of the {len(clean)} images differs from the clean one, so there is nothing to tune")
    tried = []
    for values in product(*grid.values()):
        parameters = dict(zip(grid, values, strict=True))
        output = method(**degraded, **parameters)
        tried.append((parameters, psnr(output, clean, region)[degraded_ones].mean().item()))
    return max(tried, key=lambda trial: trial[1])[0], tried
