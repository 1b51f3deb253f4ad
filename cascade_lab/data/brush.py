"""Holes that the paper does not have: rectangles anywhere, and free-form strokes of a brush."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

STROKES = 3  # of a hole at most
FEWEST, MOST = 4, 12  # straight pieces of a stroke


def rectangle_masks(
    n: int, height: int, width: int, generator: torch.Generator, device: torch.device | str = "cpu"
) -> Tensor:
    """Masks ``(n, 1, height, width)``, each with a rectangle somewhere, a quarter to a half of the photo's extents."""
    draw = torch.rand(4, n, 1, 1, generator=generator, device=generator.device).to(device)
    sides = torch.tensor([height, width], device=device).view(2, 1, 1, 1)
    tall, wide = (sides * (0.25 + 0.25 * draw[:2])).round().clamp(min=1)
    top, left = (draw[2] * (height - tall + 1)).floor(), (draw[3] * (width - wide + 1)).floor()
    rows, columns = torch.arange(height, device=device)[:, None] + 0.5, torch.arange(width, device=device) + 0.5
    inside = (rows > top) & (rows < top + tall) & (columns > left) & (columns < left + wide)
    return inside[:, None].float()


def brush_masks(
    n: int,
    height: int,
    width: int,
    generator: torch.Generator,
    brush: tuple[float, float] = (12 / 256, 40 / 256),
    device: torch.device | str = "cpu",
) -> Tensor:
    """Masks with free-form holes: one to three zigzags each, painted with a round brush.

    A stroke has 4 to 12 straight pieces, an eighth of the photo's diagonal long on average, turned by 72 +- 24 degrees
    to either side in turn.

    Args:
        n, height, width: how many masks, and their size in pixels.
        generator: where the strokes are drawn from.
        brush: range of the brush's diameter over the photo's shorter side; each stroke draws from it.
        device: where the masks are painted.

    Returns:
        ``(n, 1, height, width)``, 1 where pixels are missing.

    Raises:
        ValueError: the brush is not a positive range.

    Source: Yu et al., Free-form image inpainting with gated convolution (2019), section 3.4, with their code's values.
    """
    if not 0 < brush[0] <= brush[1]:
        raise ValueError(f"brush must be a positive range, smaller end first, got {brush}")

    x, y, near = _strokes(n, height, width, generator, brush, device)
    rows, columns = torch.arange(height, device=device)[:, None] + 0.5, torch.arange(width, device=device) + 0.5
    missing = torch.zeros(n, height, width, dtype=torch.bool, device=device)
    for stroke in range(STROKES):
        for i in range(MOST):
            (x0, x1), (y0, y1) = (t[:, stroke, i : i + 2, None, None].unbind(1) for t in (x, y))
            dx, dy, to_x, to_y = x1 - x0, y1 - y0, columns - x0, rows - y0
            squared = (dx**2 + dy**2).clamp(min=1e-6)
            along = (to_x * (dx / squared) + to_y * (dy / squared)).clamp_(0, 1)  # the point nearest to each pixel
            distance = torch.addcmul(to_x, along, -dx).square_() + torch.addcmul(to_y, along, -dy).square_()
            missing |= distance <= near[:, stroke, :, None]
    return missing[:, None].float()


def _strokes(
    n: int, height: int, width: int, generator: torch.Generator, brush: tuple[float, float], device: torch.device | str
) -> tuple[Tensor, Tensor, Tensor]:
    """Corners x and y of the strokes, ``(n, STROKES, MOST + 1)``; squared radius ``(n, STROKES, 1)``, -1 for none."""

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=generator.device).to(device)

    painted = draw(n, 1, 1) * STROKES >= torch.arange(STROKES, device=device)[:, None]
    count, thickness, direction, x, y = draw(5, n, STROKES, 1)
    turn, reach = draw(2, n, STROKES, MOST)

    piece = torch.arange(MOST, device=device)
    angle = math.tau * direction + (1 - 2 * (piece % 2)) * math.radians(72) + (2 * turn - 1) * math.radians(24)
    reach = reach * math.hypot(height, width) / 4
    reach = reach * (piece < FEWEST + (count * (MOST - FEWEST + 1)).floor())  # no length past a stroke's last piece
    # A stroke that leaves the photo is mirrored back into it.
    x = x * width + F.pad((reach * angle.cos()).cumsum(2), (1, 0))
    y = y * height + F.pad((reach * angle.sin()).cumsum(2), (1, 0))
    x = width - (x.remainder(2 * width) - width).abs()
    y = height - (y.remainder(2 * height) - height).abs()
    radius = (brush[0] + (brush[1] - brush[0]) * thickness) * min(height, width) / 2
    radius = radius.clamp(min=0.75)  # no point is further than 0.71 px from a pixel's center, so this leaves a dot
    return x, y, torch.where(painted, radius**2, -1)
