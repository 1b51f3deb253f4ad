"""The book's pictures: strips of photos, curves of losses, drawings, and the code that runs."""

import inspect
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from cascade_core.conventions import to_pixels


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
