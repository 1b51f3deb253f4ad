"""Draws the networks and the four training stages as SVG, into the package that shows them: `make drawings`.

Nothing is drawn by hand: a network is drawn from what it does while it runs, in the paper's sizes, and the training
from `stages.STAGES` and the code of its steps. Text and lines have the color of the text around them and the background
is left open, so that a drawing reads on a light page and on a dark one.
"""

import re
import textwrap
import xml.etree.ElementTree as ET
from itertools import accumulate, groupby
from math import log2
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from cascade_core.models import ResidualBlock
from cascade_lab.show import layers
from cascade_lab.training import profiles, stages

FOLDER = Path(layers.__file__).parent / "drawings"
WIDTH = 440  # of every drawing, in its own units: a phone shows them at four fifths, and 12 is still legible
ROOT = {
    "xmlns": "http://www.w3.org/2000/svg",
    "width": "100%",
    "role": "img",
    "font-family": "system-ui, sans-serif",
    "font-size": "12",
    "fill": "currentColor",
    "style": "display: block; max-width: 600px; margin: 0 auto 0.7em",
}
# By itself, as an image, a drawing follows the reader's own choice of light or dark.
DARK = "@media (prefers-color-scheme: dark) { svg:root { color: #ddd } }"
COLORS = {  # by the first word of a step's kind; and what the legend calls it
    "input": ("#777777", "input"),
    "conv": ("#3b73b9", "convolution"),
    "residual": ("#2f8f6b", "residual block"),
    "transposed": ("#c8702a", "transposed"),
    "fully": ("#8a5fa8", "fully connected"),
}
FAINT, BOLD, SMALL = {"opacity": 0.8}, {"font_weight": "bold"}, {"font_size": 11}
SIGNS = {"add": "+", "sub": "−"}
SPOKEN = {
    "+": "the maps after step {} are added to those of step {}",
    "−": "from the maps after step {} those of step {} are subtracted",
}
NETWORKS = {"generator": "generator", "critic": "critic", "deblur_denoise": "deblurring-denoising network"}
PARTS = {  # of the drawing of the cascade: what comes before a network, and a word on each
    "generator": (
        "x, the degraded photo",
        "3 × {size} × {size}, a hole of {hole} × {hole}, blur and noise",
        "Generator G",
        "fills the hole",
    ),
    "deblur_denoise": (
        "G(x), the first result",
        "the hole is filled; blur and noise are still there",
        "Deblurring-denoising network",
        "finds what is wrong, and takes it away",
    ),
    "critic": (
        "ŷ, the restored photo",
        "",
        "Critic D",
        "only for training stage 2: G(x) or a true y in, a score out",
    ),
}
COLUMNS = {"generator": 0, "critic": 0, "deblur_denoise": 1}  # of the drawing of the training
ROWS = [(1, 3), (2,), (4,)]
# What the code of a step calls, and what it means.
INPUTS = {
    "with_hole": "photos with a hole",
    "degrade": "blurred, noisy photos",
    "with_all_faults": "photos with hole, blur and noise",
}
LOSSES = {
    "mse_loss": "mean squared error (1)",
    "critic_loss": "Wasserstein loss of the critic (5)",
    "loss": "and for the generator: MSE, perceptual, adversarial (7)",
}


class Step(NamedTuple):
    """A layer with weights (or some alike in a row, or a residual block), and the maps after it: a bar of a drawing."""

    kind: str
    shape: tuple[int, ...]
    times: int = 1

    @property
    def name(self) -> str:
        return f"{self.times} × {self.kind}" if self.times > 1 else self.kind

    @property
    def size(self) -> str:
        return " × ".join(map(str, self.shape))

    @property
    def side(self) -> int:
        return self.shape[1] if len(self.shape) == 3 else 1


class Skip(NamedTuple):
    """The maps of step ``start`` reach step ``end`` directly; what the layers made of them is added or subtracted."""

    start: int
    end: int
    sign: str


class Origins(TorchFunctionMode):
    """While it is active, each tensor knows the step that it comes from. Where what comes from two steps is added or
    subtracted is a skip."""

    def __init__(self):
        super().__init__()
        self.skips = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        sources = sorted({x.step for x in args if hasattr(x, "step")})
        if sources and isinstance(result, torch.Tensor):
            result.step = sources[-1]
            if len(sources) == 2 and func.__name__ in SIGNS:
                self.skips.append(Skip(*sources, SIGNS[func.__name__]))
        return result


def kind(layer: nn.Module) -> str:
    """What a layer is called; nothing for what is not a step."""
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        return f"{'transposed ' * layer.transposed}conv {layer.kernel_size[0]}, stride {layer.stride[0]}"
    return {nn.Linear: "fully connected", ResidualBlock: "residual block"}.get(type(layer), "")


def trace(network: nn.Module, size: int) -> tuple[list[Step], list[Skip]]:
    """A network's steps and skips, as they are seen while it runs; steps alike in a row, with no skip, become one."""
    images = torch.zeros(1, 3, size, size)
    images.step, origins, steps = 0, Origins(), [Step("input", (3, size, size))]

    def ran(layer, _, output):
        output.step = len(steps)
        steps.append(Step(kind(layer), tuple(output.shape[1:])))

    inside = {part for block in network.modules() if isinstance(block, ResidualBlock) for part in block.layers}
    for layer in network.modules():
        if kind(layer) and layer not in inside:
            layer.register_forward_hook(ran)
    with torch.no_grad(), origins:
        network.eval()(images)
    ends = {i for skip in origins.skips for i in (skip.start, skip.end)}
    runs = [list(run) for _, run in groupby(range(len(steps)), lambda i: (steps[i], i if i in ends else None))]
    place = {i: n for n, run in enumerate(runs) for i in run}
    merged = [steps[run[0]]._replace(times=len(run)) for run in runs]
    return merged, [Skip(place[skip.start], place[skip.end], skip.sign) for skip in origins.skips]


def spoken(steps: list[Step], skips: list[Skip]) -> str:
    """A network in words.

    >>> spoken([Step("input", (3, 8, 8)), Step("conv 3, stride 1", (4, 8, 8), 2)], [Skip(0, 1, "+")])
    'input 3 × 8 × 8, 2 × conv 3, stride 1 to 4 × 8 × 8; skips: the maps after step 0 are added to those of step 1'
    """
    layers = ", ".join(f"{step.name}{' to' if i else ''} {step.size}" for i, step in enumerate(steps))
    return "; skips: ".join(filter(None, [layers, ", ".join(SPOKEN[skip.sign].format(*skip) for skip in skips)]))


class Drawing:
    """An SVG picture that is drawn from top to bottom.

    Attributes:
        title: what a screen reader says first.
        said: what it says then, sentence by sentence: all that is to be seen.
        y: how far down it is drawn; in the end its height, in the units of ``WIDTH``.
    """

    def __init__(self, title: str, y: float = 0):
        self.title, self.y, self.said = title, y, []
        self.root = ET.Element("svg", ROOT)
        self.add("title", title)
        self.add("style", DARK)

    @property
    def svg(self) -> str:
        """The whole file."""
        self.root.set("viewBox", f"0 0 {WIDTH} {self.y:.0f}")
        self.root.set("aria-label", f"{self.title}: {'. '.join(self.said)}")
        ET.indent(self.root, "")
        text = ET.tostring(self.root, encoding="unicode") + "\n"
        return re.sub(r"\d+\.\d{2,}", lambda number: f"{float(number[0]):.1f}", text)

    def add(self, tag: str, words: str | None = None, /, **look) -> None:
        """An element; ``font_size`` becomes ``font-size``."""
        look = {key.replace("_", "-"): str(value) for key, value in look.items()}
        ET.SubElement(self.root, tag, look).text = words

    def text(self, x: float, y: float, words: object, /, **look) -> None:
        self.add("text", str(words), x=x, y=y, **look)

    def bar(self, x: float, y: float, width: float, height: float, kind: str) -> None:
        """A bar around its middle, in the color of a kind of layer."""
        color, _ = COLORS[kind.split()[0]]
        self.add("rect", x=x - width / 2, y=y - height / 2, width=width, height=height, rx=1, fill=color)

    def frame(self, y: float, height: float, x: float = 2, width: float = WIDTH - 4, **look) -> None:
        look |= {"fill": "none", "stroke": "currentColor", "stroke_opacity": 0.5}
        self.add("rect", x=x, y=y, width=width, height=height, rx=6, **look)

    def path(self, d: str, opacity: float = 0.7) -> None:
        """A line, in SVG's own letters: M moves, L, H and V draw, A is an arc."""
        self.add("path", d=d, fill="none", stroke="currentColor", stroke_opacity=opacity)

    def arrow(self, x: float, start: float, end: float) -> None:
        """Downwards."""
        self.path(f"M {x} {start} V {end - 7}")
        self.add("path", d=f"M {x - 4} {end - 8} h 8 l -4 8 z")

    def sign(self, x: float, y: float, sign: str) -> None:
        """A plus or a minus in a circle."""
        self.add("circle", cx=x, cy=y, r=5.5, fill=COLORS["input"][0])
        lines = "h 6 m -3 -3 v 6" if sign == "+" else "h 6"
        self.add("path", d=f"M {x - 3} {y} {lines}", stroke="#fff", stroke_width=1.4)


def network(module: nn.Module, size: int, title: str) -> Drawing:
    """A network from top to bottom: a bar for each step, as wide as the side of its maps, the thicker the more
    channels. Arcs are the skips; the sign where one ends says whether the layers' maps are added or subtracted."""
    steps, skips = trace(module, size)
    row, middle = 25, 102
    drawing, y = Drawing(title, row * len(steps) + 4), [row * i + 14 for i in range(len(steps))]
    drawing.said.append(spoken(steps, skips))
    drawing.path(f"M {middle} {y[0]} V {y[-1]}", opacity=0.5)
    widths = [max(100 * step.side / size, 4) for step in steps]
    for at, width, step in zip(y, widths, steps, strict=True):
        drawing.bar(middle, at, width, 3 + 1.5 * log2(step.shape[0]), step.kind)
        drawing.text(164, at + 4, step.name)
        drawing.text(WIDTH - 4, at + 4, step.size, text_anchor="end")
    for start, end, sign in skips:
        x, span = middle - widths[end] / 2, y[end] - y[start]
        drawing.path(f"M {x} {y[start]} A {min(span / 8 + 6, 48)} {span / 2} 0 0 0 {x} {y[end]}")
        drawing.sign(x, y[end], sign)
    return drawing


def row_of_bars(drawing: Drawing, steps: list[Step], skips: list[Skip]) -> None:
    """A network from left to right: a bar for each step, as high as the side of its maps on a logarithmic scale and
    the wider the more channels; under it the two numbers. Skips run above, from where the drawing stands."""
    full, pitch = 84, (WIDTH - 24) / len(steps)
    x = [12 + pitch * (i + 0.5) for i in range(len(steps))]
    half = [full / 2 * (1 + log2(step.side)) / (1 + log2(steps[0].side)) for step in steps]
    skips = sorted(skips, key=lambda skip: skip.end - skip.start)  # each lies around those before it
    clear = (max(half[skip.start : skip.end + 1]) + 9 for skip in skips)
    levels = list(accumulate(clear, lambda inner, own: max(inner + 7, own)))
    middle = drawing.y + max([full / 2, *(level + 6 for level in levels)])
    drawing.path(f"M {x[0]} {middle} H {x[-1]}", opacity=0.5)
    drawing.y = middle + full / 2 + 29
    for at, high, (kind, shape, times) in zip(x, half, steps, strict=True):
        drawing.bar(at, middle, 4 + 1.6 * log2(shape[0]), 2 * high, kind)
        labels = [(middle - high - 4, f"{times} ×", {})] if times > 1 else []
        labels += [(drawing.y - 14, shape[0], BOLD), *((drawing.y, side, FAINT) for side in shape[1:2])]
        for y, words, look in labels:
            drawing.text(at, y, words, text_anchor="middle", **SMALL, **look)
    for (start, end, sign), level in zip(skips, levels, strict=True):
        y = middle - level
        drawing.path(f"M {x[start]} {middle - half[start]} V {y} H {x[end]} V {middle - half[end]}")
        drawing.sign(x[end], y, sign)


def cascade(profile: profiles.Profile) -> Drawing:
    """The whole cascade: the generator, the deblurring-denoising network, and the critic beside them."""
    drawing = Drawing("The cascade", 16)
    for name, (words, note, title, about) in PARTS.items():
        note = note.format(**vars(profile))
        drawing.text(30, drawing.y, words, **BOLD)
        drawing.said.append(f"{words} {note}".rstrip())
        if note:  # it goes on
            drawing.text(30, drawing.y + 16, note, **FAINT)
            drawing.arrow(14, drawing.y - 10, drawing.y + 22)
        top = drawing.y + (34 if note else 14)
        built = stages.build(name, profile)
        count, (steps, skips) = layers.parameters(built), trace(built, profile.size)
        weights = f"{count / 1e6:.1f} million weights" if count >= 1e6 else f"{count:,} weights"
        drawing.text(12, top + 19, title, **BOLD)
        drawing.text(WIDTH - 12, top + 19, weights, text_anchor="end")
        drawing.text(12, top + 36, about, **FAINT)
        drawing.said.append(f"{title}, {about}: {spoken(steps, skips)}")
        drawing.y = top + 48
        row_of_bars(drawing, steps, skips)
        drawing.frame(top, drawing.y + 8 - top, **({} if note else {"stroke_dasharray": "5 4"}))
        drawing.y += 26
    x = 4
    for kind, (_, words) in COLORS.items():
        drawing.bar(x + 4, drawing.y - 4, 8, 10, kind)
        drawing.text(x + 12, drawing.y, words, **SMALL)
        x += 20 + 6 * len(words)
    drawing.y += 24
    drawing.text(4, drawing.y - 6, "Under each bar: channels, and the side of the maps in pixels.", **SMALL, **FAINT)
    return drawing


def card(stage: stages.Stage, width: int) -> list[tuple[str, dict]]:
    """What a stage's card says, line by line, with its look; at most ``width`` characters a line.

    >>> [words for words, _ in card(stages.STAGES[1], 40)[1:]]
    ['trains: generator', 'on: photos with a hole', 'loss: mean squared error (1)']
    """
    code = stage.step.__code__
    used = {*code.co_names, *(value for value in code.co_consts if isinstance(value, str))}
    said = {
        "trains": [NETWORKS[name] for name in stage.networks],
        "on": [words for name, words in INPUTS.items() if name in used],
        "loss": [words for name, words in LOSSES.items() if name in used],
    }
    lines = [line for key, words in said.items() for line in textwrap.wrap(f"{key}: {', '.join(words)}", width)]
    return [(line, BOLD) for line in textwrap.wrap(stage.title, width - 6)] + [(line, {}) for line in lines]


def training() -> Drawing:
    """The four stages: what each one trains, on what, with which loss, and whose weights it starts from.

    A stage stands below those that it starts from, and is as wide as the networks that it trains.
    """
    drawing, bottom, half, pitch = Drawing("The four training stages", 2), {}, WIDTH / 2 - 8, WIDTH / 2 + 4
    for row in ROWS:
        cards, y = {}, drawing.y
        for number in row:
            columns = {COLUMNS[name] for name in stages.STAGES[number].networks}
            x, width = 2 + pitch * min(columns), half + pitch * (len(columns) - 1)
            cards[number] = x, width, card(stages.STAGES[number], round(width / 6.3))
        height = 17 * max(len(lines) for *_, lines in cards.values()) + 14
        for number, (x, width, lines) in cards.items():
            bottom[number] = y + height
            drawing.frame(y, height, x, width)
            drawing.said.append(" ".join(words for words, _ in lines))
            for i, (words, look) in enumerate(lines):
                drawing.text(x + 10, y + 20 + 17 * i, words, **look)
            for name, start in stages.STAGES[number].sources(profiles.read("paper")).items():
                x = 24 + pitch * COLUMNS[name]
                drawing.arrow(x, bottom[start], y)
                for i, words in enumerate(textwrap.wrap(f"starts from this {NETWORKS[name]}", 30)):
                    drawing.text(x + 10, y - 25 + 15 * i, words, **SMALL, **FAINT)
                drawing.said[-1] += f"; the {NETWORKS[name]} starts from stage {start}"
        drawing.y += height + 44
    drawing.y -= 42
    return drawing


def drawings() -> dict[str, Drawing]:
    """All that the book shows, by name, in the paper's sizes."""
    paper = profiles.read("paper")
    return {"cascade": cascade(paper), "training": training()} | {
        name: network(stages.build(name, paper), paper.size, f"The {words}") for name, words in NETWORKS.items()
    }


if __name__ == "__main__":
    for name, drawing in drawings().items():
        (FOLDER / f"{name}.svg").write_text(drawing.svg, "utf-8")
