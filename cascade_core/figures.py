"""The book's pictures: strips of photos, curves of losses, drawings of networks, and the code that runs."""

import copy
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import log2
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Arc, Rectangle
from torch import Tensor, nn

from .models import ResidualBlock


def to_pixels(images: Tensor) -> np.ndarray:
    """``(N, C, H, W)`` in [0, 1], one channel or three, to ``(N, H, W, 3)`` bytes; what lies outside is clipped."""
    if images.dim() != 4 or images.shape[1] not in (1, 3):
        raise ValueError(f"images must be (N, 3, H, W) or (N, 1, H, W), got {tuple(images.shape)}")
    pixels = images.detach().float().clamp(0, 1).mul(255).round().byte().expand(-1, 3, -1, -1)
    return pixels.permute(0, 2, 3, 1).cpu().numpy()


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
    pixels = {title: to_pixels(images) for title, images in columns.items()}
    height = width * (1.22 if notes else 1.04)
    figure, axes = plt.subplots(rows, len(columns), figsize=(width * len(columns), height * rows + 0.25), squeeze=False)
    for column, (title, images) in zip(axes.T, pixels.items(), strict=True):
        column[0].set_title(title, fontsize=9)
        for i, (axis, image) in enumerate(zip(column, images, strict=True)):
            axis.imshow(image, interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(False)
            if title in notes:
                axis.set_xlabel(notes[title][i], fontsize=8, labelpad=2)
    figure.tight_layout(pad=0.3)
    plt.close(figure)
    return figure


def curves(
    history: Sequence[Mapping[str, float]], names: Sequence[str] | None = None, logarithmic: bool = True
) -> Figure:
    """Loss curves over the steps, a panel for each name.

    Args:
        history: what a run recorded: dicts with ``step`` and the losses.
        names: the losses to show; all of them by default.
        logarithmic: for the losses that stay above zero.
    """
    if not history:
        raise ValueError("there is no loss to draw: the history is empty")
    names = list(names or (name for name in history[0] if name != "step"))
    steps = [point["step"] for point in history]
    figure, axes = plt.subplots(1, len(names), figsize=(min(9.0, 3.6 * len(names)), 2.4), squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        values = [point[name] for point in history]
        axis.plot(steps, values, linewidth=1.4)
        if logarithmic and min(values) > 0:
            axis.set_yscale("log")
        axis.set_title(name.replace("_", " "), fontsize=9)
        axis.set_xlabel("step", fontsize=8)
        axis.tick_params(labelsize=7, which="both")
        axis.grid(alpha=0.3)
    figure.tight_layout(pad=0.5)
    plt.close(figure)
    return figure


def source(*functions: Callable):
    """The source of functions as they run, for a notebook to show; a chapter never retypes the package's code."""
    from IPython.display import Markdown

    code = "\n\n".join(textwrap.dedent(inspect.getsource(function)).rstrip() for function in functions)
    return Markdown(f"```python\n{code}\n```")


class Step(NamedTuple):
    """What one bar of a drawing stands for: a layer with weights (or some alike in a row), and the maps after it."""

    kind: str
    shape: tuple[int, ...]
    times: int = 1


class Skip(NamedTuple):
    """The maps of step ``start`` reach step ``end`` directly; what the layers made of them is added or subtracted."""

    start: int
    end: int
    sign: str


COLORS = {  # by the first word of a step's kind
    "input": "#777777",
    "conv": "#3b73b9",
    "residual": "#2f8f6b",
    "transposed": "#c8702a",
    "fully": "#8a5fa8",
}


def drawing(network: nn.Module, size: int = 128) -> Figure:
    """A network from top to bottom, read from the network itself while it runs: nothing is drawn by hand.

    A bar for each layer with weights (a residual block is one): as wide as the side of its maps, the thicker the more
    channels. Arcs are the skips; the sign where one ends says whether the layers' maps are added or subtracted.

    Args:
        network: anything that takes ``(N, 3, size, size)``; it is left as it was.
        size: side of its input in pixels, a multiple of 32 for the generator and the critic's own.
    """
    steps, skips = trace(network, size)
    figure = plt.figure(figsize=(4.9, 0.27 * len(steps) + 0.1), facecolor="white")  # opaque: the page may be dark
    axis = figure.add_axes((0, 0, 1, 1), xlim=(-1.35, 3.55), ylim=(0.27 * len(steps), -0.1))  # in inches
    axis.axis("off")
    left, height = [], [0.27 * i + 0.12 for i in range(len(steps))]
    axis.plot([0, 0], [height[0], height[-1]], color="#999999", linewidth=1, zorder=0)
    for y, (kind, shape, times) in zip(height, steps, strict=True):
        width = max(1.4 * (shape[1] / size if len(shape) == 3 else 0), 0.04)
        thick = 0.03 + 0.017 * log2(shape[0])
        left.append(-width / 2)
        axis.add_patch(Rectangle((-width / 2, y - thick / 2), width, thick, color=COLORS[kind.split()[0]]))
        label = f"{times} × {kind}" if times > 1 else kind
        axis.text(0.85, y, label, fontsize=8, color="black", va="center")
        axis.text(3.5, y, " × ".join(map(str, shape)), fontsize=8, color="black", va="center", ha="right")
    for start, end, sign in skips:
        span = height[end] - height[start]
        arc = Arc((left[end], height[start] + span / 2), min(0.25 * span + 0.1, 1.1), span, theta1=90, theta2=270)
        arc.set(color="#555555", linewidth=1)
        axis.add_patch(arc)
        dot = {"boxstyle": "circle,pad=0.05", "facecolor": "white", "edgecolor": "#555555", "linewidth": 0.8}
        axis.text(left[end], height[end], sign, fontsize=7, color="black", va="center", ha="center", bbox=dot)
    plt.close(figure)
    return figure


def trace(network: nn.Module, size: int) -> tuple[list[Step], list[Skip]]:
    """A network's steps and skips; a skip is what the next layer gets beyond what the last one gave.

    Example:
        >>> from cascade_core.models import DeblurDenoiseNet
        >>> steps, skips = trace(DeblurDenoiseNet(8), 32)
        >>> steps[-1], skips[-1]
        (Step(kind='conv 3, stride 1', shape=(3, 32, 32), times=1), Skip(start=0, end=8, sign='−'))
    """
    network, rng = copy.deepcopy(network).cpu(), torch.Generator().manual_seed(0)
    network.train()  # in training mode the output is not clipped
    for weight in network.parameters():
        if weight.dim() > 1 and not weight.any():
            # the zero of a last layer would hide whether it adds or subtracts
            nn.init.normal_(weight, 0.0, 0.1, generator=rng)
    images = torch.rand(2, 3, size, size, generator=rng)
    kinds, maps, skips, given = ["input"], [], [], images

    def arrive(x: Tensor) -> None:
        if x.shape != given.shape:
            x = given  # it was only flattened
        for start, early in enumerate(() if torch.equal(x, given) else maps):
            for sign, rest in (("+", x - given), ("−", x + given)):
                if rest.shape == early.shape and torch.allclose(rest, early, rtol=1e-3, atol=1e-3):
                    skips.append(Skip(start, len(maps), sign))
        maps.append(x)

    def before(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if kind_of(layer):
            arrive(inputs[0])
            kinds.append(kind_of(layer))

    def after(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal given
        given = given if isinstance(layer, nn.Flatten) else output

    for layer in layers_of(network):
        layer.register_forward_pre_hook(before)
        layer.register_forward_hook(after)
    with torch.no_grad():
        output = network(images)
    arrive(output[-1] if isinstance(output, tuple) else output)
    return merge([Step(kind, tuple(x.shape[1:])) for kind, x in zip(kinds, maps, strict=True)], skips)


def merge(steps: Sequence[Step], skips: Sequence[Skip]) -> tuple[list[Step], list[Skip]]:
    """Steps that are alike in a row, where no skip starts or ends, become one."""
    ends = {end for skip in skips for end in (skip.start, skip.end)}
    merged, place = [], []
    for i, step in enumerate(steps):
        if i and not {i - 1, i} & ends and step == merged[-1]._replace(times=1):
            merged[-1] = merged[-1]._replace(times=merged[-1].times + 1)
        else:
            merged.append(step)
        place.append(len(merged) - 1)
    return merged, [Skip(place[start], place[end], sign) for start, end, sign in skips]


def layers_of(module: nn.Module) -> Iterator[nn.Module]:
    """The layers that run one after another; a residual block counts as one."""
    if isinstance(module, ResidualBlock) or not list(module.children()):
        yield module
    else:
        for child in module.children():
            yield from layers_of(child)


def kind_of(layer: nn.Module) -> str:
    """What a drawing calls a layer; nothing for one without weights, and for batch norm."""
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        name = "transposed conv" if isinstance(layer, nn.ConvTranspose2d) else "conv"
        return f"{name} {layer.kernel_size[0]}, stride {layer.stride[0]}"
    return {ResidualBlock: "residual block", nn.Linear: "fully connected"}.get(type(layer), "")
