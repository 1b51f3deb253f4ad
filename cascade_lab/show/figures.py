"""The book's pictures: strips of photos, curves of losses, drawings, and the code that runs."""

import inspect
import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from cascade_core.conventions import to_pixels
from cascade_core.metrics import Interval
from cascade_lab.evaluation import tables

plt.style.use(Path(__file__).parent / "book.mplstyle")  # also for the figures that a chapter draws itself
PAGE = 7.68  # inches: the width of a page's text on a desktop
NARROW = 1.25  # inches: a column of photos that a page is not to make narrower
GAP = 0.08  # inches between photos
LOSSES = {"mse": "MSE", "critic_gradient": "critic's gradient"}  # the others are words already
MARGIN = 4  # px of context around an enlarged hole


def to_rgb(images: Tensor) -> np.ndarray:
    """``(N, C, H, W)`` in [0, 1], one channel or three, to ``(N, H, W, 3)`` bytes; what lies outside is clipped."""
    if images.shape[1] not in (1, 3):
        raise ValueError(f"images must be (N, 3, H, W) or (N, 1, H, W), got {tuple(images.shape)}")
    return to_pixels(images.float().expand(-1, 3, -1, -1))


def photos(
    columns: Mapping[str, Tensor], hole: Tensor | None = None, notes: Mapping[str, Sequence[str]] | None = None
) -> Figure:
    """`strip` with pictures large enough to judge, 180 px of the page or more, and the hole enlarged below each photo.

    For the few photos with which a chapter begins::

        figures.photos({"damaged": x, "stage 1": filled, "laplace": smooth, "truth": crops}, masks)

    Args:
        columns: title -> images ``(N, 3, H, W)``, as in `strip`; more than four go on below, photo by photo.
        hole: masks ``(N, 1, H, W)`` or ``(1, 1, H, W)``, 1 where pixels are missing: a frame in each photo marks the
            hole, which stands enlarged below it. Without masks nothing is enlarged.
        notes: title -> a text for each photo of that column, written under it.

    Returns:
        The figure, closed.

    Raises:
        ValueError: as `strip`; also masks of another size than the photos, and a mask without a hole.
    """
    return _rows(columns, notes, 2.5, math.ceil(len(columns) / 4), hole)


def strip(
    columns: Mapping[str, Tensor], notes: Mapping[str, Sequence[str]] | None = None, width: float = 1.7
) -> Figure:
    """Photos side by side: a column for each name, a row for each photo.

    Args:
        columns: title -> images ``(N, 3, H, W)`` or ``(N, 1, H, W)``, all with the same N. A method's name is shown in
            words, as in the tables. More than six go on below, photo by photo.
        notes: title -> a text for each photo of that column, written under it.
        width: of a column, in inches; less where the columns would be wider than the page.

    Returns:
        The figure, closed: a notebook shows it as the value of the cell, once.

    Raises:
        ValueError: no column, and columns of different lengths.
    """
    return _rows(columns, notes, width, math.ceil(len(columns) * min(width, NARROW) / PAGE))


def _rows(
    columns: Mapping[str, Tensor],
    notes: Mapping[str, Sequence[str]] | None,
    width: float,
    lines: int,
    hole: Tensor | None = None,
) -> Figure:
    """What `photos` and `strip` show; the columns of one photo take so many ``lines``."""
    counts = {title: len(images) for title, images in columns.items()}
    if len(set(counts.values())) != 1:
        raise ValueError(f"each column needs as many images as the others, got {counts}")
    sizes = {title: tuple(images.shape[-2:]) for title, images in columns.items()}
    if hole is not None and set(sizes.values()) != {tuple(hole.shape[-2:])}:
        raise ValueError(f"the photos need the size of the masks, {tuple(hole.shape[-2:])}; they have {sizes}")
    pixels = {title: to_rgb(images) for title, images in columns.items()}
    across = math.ceil(len(columns) / lines)
    width = min(width, PAGE / across)
    titles = {title: _wrapped(tables.title(title), width) for title in columns}
    under = {title: [_wrapped(text, width) for text in texts] for title, texts in (notes or {}).items()}
    count, tallest = next(iter(counts.values())), max(height / width for height, width in sizes.values())
    boxes = [None] * count if hole is None else [_box(mask[0]) for mask in hole.expand(count, -1, -1, -1)]
    side, titled = width - GAP, lines * count if lines > 1 else 1
    head, foot = _height(titles.values()), _height(text for texts in under.values() for text in texts)
    block = side * tallest + (side + GAP) * (hole is not None) + foot + GAP
    sheet, top = _Sheet(width * across, head * titled + block * lines * count), 0.0
    for number, (i, start) in enumerate(product(range(count), range(0, len(columns), across))):
        top += head * (number < titled)
        for place, title in enumerate(list(columns)[start : start + across]):
            corner = (place * width + GAP / 2, top)
            (axis, *enlarged) = _photo(sheet, pixels[title][i], corner, side, boxes[i])
            axis.set_title(titles[title] if number < titled else "", pad=4)
            if title in under:
                [axis, *enlarged][-1].set_xlabel(under[title][i], fontsize=plt.rcParams["legend.fontsize"], labelpad=3)
        top += block
    plt.close(sheet.figure)
    return sheet.figure


class _Sheet:
    """A figure on which panels are placed in inches, from the top left corner."""

    def __init__(self, width: float, height: float):
        self.size, self.figure = (width, height), plt.figure(figsize=(width, height))

    def panel(self, left: float, top: float, wide: float, tall: float) -> Axes:
        width, height = self.size
        place = (left / width, 1 - (top + tall) / height, wide / width, tall / height)
        return self.figure.add_axes(place, xticks=[], yticks=[], frame_on=False)


def _photo(sheet: _Sheet, image: np.ndarray, corner: tuple[float, float], side: float, box: Any) -> list[Axes]:
    """A photo ``(H, W, 3)`` with its top left corner at a place, and below it a box (top, left, side) enlarged."""
    left, top = corner
    tall = side * image.shape[0] / image.shape[1]
    axes = [sheet.panel(left, top, side, tall)]
    axes[0].imshow(image, interpolation="nearest")
    if box is not None:
        y, x, edge = box
        for color, width in (("white", 3.0), ("black", 1.0)):  # seen on bright and on dark ground
            around = Rectangle((x - 0.5, y - 0.5), edge, edge, fill=False, color=color, linewidth=width)
            axes[0].add_patch(around)
        axes.append(sheet.panel(left, top + tall + GAP, side, side))
        axes[1].imshow(image[y : y + edge, x : x + edge], interpolation="nearest")
    return axes


def _box(mask: Tensor) -> tuple[int, int, int]:
    """Top, left and side of the square around the hole of a mask ``(H, W)``, with some px of context."""
    rows, columns = (torch.nonzero((mask > 0.5).any(dim)).flatten().tolist() for dim in (1, 0))
    if not rows:
        raise ValueError("a mask without a hole: there is nothing to enlarge; leave the masks out")
    height, width = mask.shape
    side = min(height, width, max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1 + 2 * MARGIN)
    starts = ((part[0] + part[-1] + 1 - side) // 2 for part in (rows, columns))
    top, left = (max(0, min(start, end - side)) for start, end in zip(starts, mask.shape, strict=True))
    return top, left, side


def _wrapped(text: str, width: float) -> str:
    """A text in lines for a column of a width in inches."""
    return textwrap.fill(text, max(8, int(width * 11.5)))


def _height(texts: Iterable[str]) -> float:
    """Inches that the longest of some texts takes; nothing if there is none."""
    return max((0.06 + 0.2 * (1 + text.count("\n")) for text in texts), default=0.0)


def curves(history: Sequence[Mapping[str, float]], names: Sequence[str] = ()) -> Figure:
    """Loss curves over the steps, a panel for each name; logarithmic for the losses that stay above zero.

    Args:
        history: what a run recorded: dicts with ``step`` and the losses.
        names: the losses to show; all of them by default.
    """
    if not history:
        raise ValueError("there is no loss to draw: the history is empty")
    names = names or [name for name in history[0] if name != "step"]
    lines = math.ceil(len(names) / 2)
    size = (PAGE, 2.6 * lines) if len(names) > 1 else (5.2, 2.8)
    figure, axes = plt.subplots(lines, min(2, len(names)), figsize=size, squeeze=False, layout="constrained")
    for axis in axes.flat[len(names) :]:
        axis.remove()
    for axis, name in zip(axes.flat, names, strict=False):
        values = [point[name] for point in history]
        axis.plot([point["step"] for point in history], values)
        axis.set(
            yscale="log" if min(values) > 0 else "linear", title=LOSSES.get(name, name.replace("_", " ")), xlabel="step"
        )
        axis.grid()
    plt.close(figure)
    return figure


def forest(
    cells: pd.DataFrame,
    columns: Sequence[str] = (),
    unit: str = "",
    best: Callable[..., float] | None = max,
    formats: Mapping[str, str] | None = None,
) -> Figure:
    """A table as a forest plot: a row for each method, with its mean and 95 % interval as a point and a line.

    Use it where a table has more than ten rows::

        cells = tables.table(tables.by_method(rows), ("psnr_hole",), reference="laplace")
        figures.forest(cells)                            # the column "psnr_hole" and its difference, side by side
        figures.forest(cells, ["psnr_hole - laplace"])   # one of them

    A star and bold print mark the best mean of a column. A column of differences ("a - b") has a line at zero; there
    a hollow point says that the interval includes zero. The mean stands at the right of its line. Rows keep their
    order; ``cells.loc[names]`` gives another one.

    Args:
        cells: what `tables.table`, `tables.by_mode` or `tables.frame` makes: Intervals or numbers, with a method or
            variant in each row. A cell without a finite mean has a word in place of its point.
        columns: the columns to draw, each in a panel of its own; by default all that hold an Interval. Two fit a page.
        unit: of the axes, where the column's name does not say it already (PSNR's is dB).
        best: which mean is the best one: ``max``, ``min`` for errors, or None to mark none.
        formats: column -> format of its numbers, as in `tables.show`.

    Returns:
        The figure, closed.

    Raises:
        ValueError: no row, no column with an Interval, or a column that the table lacks.
    """
    held = [str(column) for column in cells if any(isinstance(cell, Interval) for cell in cells[column])]
    columns = columns or held
    if missing := [column for column in columns if column not in cells]:
        raise ValueError(f"the table has no column {missing[0]!r}; it has {', '.join(map(str, cells))}")
    if cells.empty or not columns:
        raise ValueError(f"a forest plot needs rows, and a column of Intervals; the table is {cells.shape}")
    size = (2.4 + 2.6 * len(columns), 0.8 + 0.34 * len(cells))
    figure, axes = plt.subplots(1, len(columns), figsize=size, sharey=True, squeeze=False, layout="constrained")
    for axis, column in zip(axes[0], columns, strict=True):
        _forest_panel(axis, cells[column], best, (formats or {}).get(column, tables.number_format(column)))
        text = tables.label(column) + (f" ({unit})" if unit else "")
        axis.set_xlabel(textwrap.fill(text.replace(" - ", " minus "), 34))
    axes[0, 0].set_yticks(range(len(cells)), [textwrap.fill(tables.title(str(name)), 24) for name in cells.index])
    axes[0, 0].set_ylim(len(cells) - 0.5, -0.5)
    plt.close(figure)
    return figure


def _forest_panel(axis: Axes, cells: pd.Series, best: Callable[..., float] | None, spec: str) -> None:
    """One column of `forest`: its rows from top to bottom."""
    intervals = [_interval(cell) for cell in cells]
    means = [interval.mean for interval in intervals if not math.isnan(interval.mean)]
    first = best(means) if best and len(set(means)) > 1 else None
    difference = " - " in str(cells.name)
    if difference:
        axis.axvline(0, color="black", linewidth=1)
    for row, (name, (mean, low, high, _)) in enumerate(zip(cells.index, intervals, strict=True)):
        winner = mean == first
        color = "#D55E00" if winner else "#0072B2"
        text = format(mean, spec) if math.isfinite(mean) else tables.without_number(mean, str(name), str(cells.name))
        axis.text(
            1.02, row, text, transform=axis.get_yaxis_transform(), va="center", weight="bold" if winner else "normal"
        )
        if math.isfinite(mean):
            axis.hlines(row, low, high, color=color, linewidth=2)
            face = "white" if difference and low <= 0 <= high else color
            axis.plot(mean, row, "*" if winner else "o", ms=12 if winner else 7, color=color, markerfacecolor=face)
    axis.grid(axis="x")
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)


def _interval(cell: Any) -> Interval:
    if isinstance(cell, Interval):
        return cell
    value = math.nan if isinstance(cell, str) or pd.isna(cell) else float(cell)
    return Interval(value, math.nan, math.nan, 1)


def drawing(name: str):
    """One of the book's drawings, at the paper's size, with text in the color of the page around it.

    Args:
        name: ``"generator"``, ``"critic"``, ``"deblur_denoise"``, ``"cascade"`` or ``"training"``.
    """
    from IPython.display import HTML

    return HTML((Path(__file__).parent / "drawings" / f"{name}.svg").read_text("utf-8"))


def source(*functions: Callable):
    """The source of functions as they run, for a notebook to show; a chapter never retypes the package's code."""
    from IPython.display import Markdown

    code = "\n\n".join(textwrap.dedent(inspect.getsource(function)).rstrip() for function in functions)
    return Markdown(f"```python\n{code}\n```")
