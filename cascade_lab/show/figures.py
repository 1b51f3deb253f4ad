"""The book's pictures: strips of photos, curves of losses, drawings, and the code that runs."""

import inspect
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from cascade_core.conventions import to_pixels
from cascade_core.metrics import Interval
from cascade_lab.evaluation import tables

plt.style.use(Path(__file__).parent / "book.mplstyle")  # also for the figures that a chapter draws itself


def to_rgb(images: Tensor) -> np.ndarray:
    """``(N, C, H, W)`` in [0, 1], one channel or three, to ``(N, H, W, 3)`` bytes; what lies outside is clipped."""
    if images.shape[1] not in (1, 3):
        raise ValueError(f"images must be (N, 3, H, W) or (N, 1, H, W), got {tuple(images.shape)}")
    return to_pixels(images.float().expand(-1, 3, -1, -1))


def strip(
    columns: Mapping[str, Tensor], notes: Mapping[str, Sequence[str]] | None = None, width: float = 1.7
) -> Figure:
    """Photos side by side: a column for each name, a row for each photo.

    Args:
        columns: title -> images ``(N, 3, H, W)`` or ``(N, 1, H, W)``, all with the same N.
        notes: title -> one line of text for each photo of that column, written under it.
        width: of a column, in inches.

    Returns:
        The figure, closed: a notebook shows it as the value of the cell, once.
    """
    counts = {title: len(images) for title, images in columns.items()}
    if len(set(counts.values())) != 1:
        raise ValueError(f"each column needs as many images as the others, got {counts}")
    rows, notes = next(iter(counts.values())), notes or {}
    pixels = {title: to_rgb(images) for title, images in columns.items()}
    height = width * (1.22 if notes else 1.04)
    figure, axes = plt.subplots(rows, len(columns), figsize=(width * len(columns), height * rows + 0.25), squeeze=False)
    for column, (title, images) in zip(axes.T, pixels.items(), strict=True):
        column[0].set_title(title, fontsize=9)
        for i, (axis, image) in enumerate(zip(column, images, strict=True)):
            axis.imshow(image, interpolation="nearest")
            axis.set(xticks=[], yticks=[], frame_on=False)
            if title in notes:
                axis.set_xlabel(notes[title][i], fontsize=8, labelpad=2)
    figure.tight_layout(pad=0.3)
    plt.close(figure)
    return figure


def curves(history: Sequence[Mapping[str, float]], names: Sequence[str] = ()) -> Figure:
    """Loss curves over the steps, a panel for each name; logarithmic for the losses that stay above zero.

    Args:
        history: what a run recorded: dicts with ``step`` and the losses.
        names: the losses to show; all of them by default.
    """
    if not history:
        raise ValueError("there is no loss to draw: the history is empty")
    names = names or [name for name in history[0] if name != "step"]
    figure, axes = plt.subplots(1, len(names), figsize=(min(9.0, 3.6 * len(names)), 2.4), squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        values = [point[name] for point in history]
        axis.plot([point["step"] for point in history], values, linewidth=1.4)
        axis.set(yscale="log" if min(values) > 0 else "linear")
        axis.set_title(name.replace("_", " "), fontsize=9)
        axis.set_xlabel("step", fontsize=8)
        axis.tick_params(labelsize=7, which="both")
        axis.grid(alpha=0.3)
    figure.tight_layout(pad=0.5)
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
