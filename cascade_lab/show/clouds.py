"""Points in the plane as pictures: a generator's toy game against a discriminator or a critic, step by step."""

from collections.abc import Callable

import torch
from torch import Tensor

from cascade_core.conventions import check_tensor

REAL, GENERATED = (0.25, 0.25, 0.25), (0.90, 0.36, 0.05)
LOW, HIGH = (0.62, 0.74, 0.90), (1.0, 1.0, 1.0)
SIDE, CELL, DOT = 360, 4, 2  # px: of the picture, of a square of the ground, and from a dot's center to its edge


@torch.no_grad()
def cloud(real: Tensor, generated: Tensor, score: Callable[[Tensor], Tensor], reach: float = 3.2) -> Tensor:
    """Real points in gray and generated ones in orange, on a ground that is the brighter the higher the score.

    Args:
        real, generated: ``(N, 2)`` and ``(M, 2)``; what lies outside the picture is left out.
        score: a network, called with ``(K, 2)``, that returns ``(K, 1)``. The ground goes from its lowest to its
            highest value in the picture.
        reach: the picture shows the square from ``-reach`` to ``reach``, the second coordinate upwards.

    Returns:
        A picture, ``(3, 360, 360)`` in [0, 1].

    Raises:
        ValueError: points of another shape.
    """
    for points, name in ((real, "the real points"), (generated, "the generated points")):
        check_tensor(points, name, ("N", 2))
    place = reach * (2 * (torch.arange(SIDE // CELL) + 0.5) * CELL / SIDE - 1)
    rows, columns = torch.meshgrid(-place, place, indexing="ij")
    ground = score(torch.stack([columns, rows], -1).flatten(0, 1)).view(rows.shape)
    ground = (ground - ground.min()) / (ground.max() - ground.min()).clamp(min=1e-12)
    low, high = (torch.tensor(color).view(3, 1, 1) for color in (LOW, HIGH))
    picture = (low + (high - low) * ground).repeat_interleave(CELL, 1).repeat_interleave(CELL, 2)
    for points, color in ((real, REAL), (generated, GENERATED)):
        _dots(picture, points * torch.tensor([1.0, -1.0]) / reach, torch.tensor(color))
    return picture


def _dots(picture: Tensor, points: Tensor, color: Tensor) -> None:
    """Draw points, given from -1 to 1, to the right and down, as small squares."""
    centers = ((points + 1) / 2 * SIDE).round().long()
    around = torch.arange(-DOT, DOT + 1)
    offsets = torch.cartesian_prod(around, around)
    x, y = (centers[:, None] + offsets).flatten(0, 1).T
    inside = (x >= 0) & (x < SIDE) & (y >= 0) & (y < SIDE)
    picture[:, y[inside], x[inside]] = color[:, None]
