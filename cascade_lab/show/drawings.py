"""Drawings of the networks and of the four training stages, as SVG, made from the code's own numbers.

Nothing is drawn by hand: a network's drawing comes from running it (`layers.trace`), the drawing of the training from
`stages.STAGES` and the code of its steps. Text and lines have the color of the text around them and the background is
left open, so that a drawing reads on a light page and on a dark one.
"""

import textwrap
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from functools import partial
from itertools import accumulate, groupby
from math import log2
from pathlib import Path

from torch import nn

from cascade_lab.show.layers import Skip, Step, parameters, trace
from cascade_lab.training import profiles, stages
from cascade_lab.training.profiles import Profile

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
FAINT, BOLD = {"opacity": 0.8}, {"font_weight": "bold"}
Look = float | str | None


class Drawing:
    """An SVG picture, drawn from top to bottom. A notebook shows it as part of the page, with the page's text color.

    Attributes:
        title: what a screen reader says first.
        said: what it says then, sentence by sentence: all that is to be seen.
        y: how far down it is drawn; in the end its height, in the units of ``WIDTH``.
    """

    def __init__(self, title: str, y: float = 0.0) -> None:
        self.title, self.said, self.y = title, list[str](), y
        self._root = ET.Element("svg", ROOT)
        self.add("title", title)
        self.add("style", DARK)

    @property
    def description(self) -> str:
        return ". ".join(self.said)

    @property
    def svg(self) -> str:
        """The whole file."""
        self._root.set("viewBox", f"0 0 {WIDTH} {self.y:.0f}")
        self._root.set("aria-label", f"{self.title}: {self.description}")
        ET.indent(self._root, "")
        return ET.tostring(self._root, encoding="unicode") + "\n"

    def _repr_html_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return f"<Drawing: {self.title}>"

    def add(self, tag: str, words: str | None = None, /, **look: Look) -> None:
        """An element; ``font_size`` becomes ``font-size``, a float gets one decimal, what is None is left out."""
        given = {key.replace("_", "-"): v for key, v in look.items() if v is not None}
        texts = {key: f"{v:.1f}" if isinstance(v, float) else str(v) for key, v in given.items()}
        ET.SubElement(self._root, tag, texts).text = words

    def text(self, x: float, y: float, words: str, /, **look: Look) -> None:
        if words:
            self.add("text", words, x=x, y=y, **look)

    def bar(self, x: float, y: float, width: float, height: float, kind: str) -> None:
        """A bar around its middle, in the color of a kind of layer."""
        color, _ = COLORS[kind.split()[0]]
        self.add("rect", x=x - width / 2, y=y - height / 2, width=width, height=height, rx=1, fill=color)

    def frame(self, x: float, y: float, width: float, height: float, dash: str | None = None) -> None:
        place: dict[str, Look] = {"x": x, "y": y, "width": width, "height": height, "rx": 6}
        self.add("rect", **place, fill="none", stroke="currentColor", stroke_opacity=0.5, stroke_dasharray=dash)

    def path(self, *parts: float | str, opacity: float = 0.7) -> None:
        """A line, in SVG's own letters and numbers: M moves, L, H and V draw, A is an arc."""
        d = " ".join(part if isinstance(part, str) else f"{part:.1f}" for part in parts)
        self.add("path", d=d, fill="none", stroke="currentColor", stroke_opacity=opacity)

    def arrow(self, x: float, start: float, end: float) -> None:
        """Downwards."""
        self.path("M", x, start, "V", end - 7)
        self.add("path", d=f"M {x - 4:.1f} {end - 8:.1f} h 8 l -4 8 z")

    def sign(self, x: float, y: float, sign: str) -> None:
        """A plus or a minus in a circle."""
        lines = "h 6 m -3 -3 v 6" if sign == "+" else "h 6"
        self.add("circle", cx=x, cy=y, r=5.5, fill=COLORS["input"][0])
        self.add("path", d=f"M {x - 3:.1f} {y:.1f} {lines}", stroke="#fff", stroke_width=1.4)


def network(module: nn.Module, size: int, title: str) -> Drawing:
    """A network from top to bottom, read from the network itself while it runs.

    A bar for each layer with weights (a residual block is one): as wide as the side of its maps, the thicker the more
    channels. Arcs are the skips; the sign where one ends says whether the layers' maps are added or subtracted.

    Args:
        module: anything that takes ``(N, 3, size, size)``; it is left as it was.
        size: side of its input in pixels, a multiple of 32 for the generator and the critic's own.
        title: what the drawing shows, for a screen reader.
    """
    steps, skips = trace(module, size)
    row, middle = 25, 102
    drawing, y = Drawing(title, row * len(steps) + 4), [row * i + 14 for i in range(len(steps))]
    drawing.said.append(spoken(steps, skips))
    drawing.path("M", middle, y[0], "V", y[-1], opacity=0.5)
    widths = [max(100 * step.side / size, 4) for step in steps]
    for at, width, step in zip(y, widths, steps, strict=True):
        drawing.bar(middle, at, width, 3 + 1.5 * log2(step.shape[0]), step.kind)
        drawing.text(164, at + 4, step.name)
        drawing.text(WIDTH - 4, at + 4, step.size, text_anchor="end")
    for start, end, sign in skips:
        x, span = middle - widths[end] / 2, y[end] - y[start]
        drawing.path("M", x, y[start], "A", min(span / 8 + 6, 48), span / 2, "0 0 0", x, y[end])
        drawing.sign(x, y[end], sign)
    return drawing


def cascade(profile: Profile) -> Drawing:
    """The whole cascade with a profile's sizes: generator, deblurring-denoising network, and the critic beside them.

    A bar for each layer, as high as the side of its maps on a logarithmic scale and the wider the more channels; under
    it the two numbers. Skips run above.
    """
    drawing, size = Drawing("The cascade", 16.0), profile.size

    def flow(words: str, note: str = "") -> None:
        drawing.text(30, drawing.y, words, **BOLD)
        drawing.text(30, drawing.y + 16, note, **FAINT)
        if note:  # it goes on
            drawing.arrow(14, drawing.y - 10, drawing.y + 22)
        drawing.said.append(f"{words} {note}".rstrip())
        drawing.y += 34 if note else 14

    def panel(name: str, title: str, note: str, dash: str | None = None) -> None:
        built, top = stages.build(name, profile), drawing.y
        count, (steps, skips) = parameters(built), trace(built, size)
        weights = f"{count / 1e6:.1f} million weights" if count >= 1e6 else f"{count:,} weights"
        drawing.text(12, top + 19, title, **BOLD)
        drawing.text(WIDTH - 12, top + 19, weights, text_anchor="end")
        drawing.text(12, top + 36, note, **FAINT)
        drawing.said.append(f"{title}, {note}: {spoken(steps, skips)}")
        drawing.y += 48
        row_of_bars(drawing, steps, skips)
        drawing.frame(2, top, WIDTH - 4, drawing.y + 8 - top, dash)
        drawing.y += 26

    flow("x, the degraded photo", f"3 × {size} × {size}, a hole of {profile.hole} × {profile.hole}, blur and noise")
    panel("generator", "Generator G", "fills the hole")
    flow("G(x), the first result", "the hole is filled; blur and noise are still there")
    panel("deblur_denoise", "Deblurring-denoising network", "finds what is wrong, and takes it away")
    flow("ŷ, the restored photo")
    panel("critic", "Critic D", "only for training stage 2: G(x) or a true y in, a score out", dash="5 4")
    x = 4.0
    for kind, (_, name) in COLORS.items():
        drawing.bar(x + 4, drawing.y - 4, 8, 10, kind)
        drawing.text(x + 12, drawing.y, name, font_size=11)
        x += 20 + 6 * len(name)
    drawing.y += 24
    numbers = "Under each bar: channels, and the side of the maps in pixels."
    drawing.text(4, drawing.y - 6, numbers, font_size=11, **FAINT)
    return drawing


def row_of_bars(drawing: Drawing, steps: Sequence[Step], skips: Sequence[Skip]) -> None:
    """A network from left to right between the margins; its skips begin where the drawing stands."""
    full, pitch = 84, (WIDTH - 24) / len(steps)
    x = [12 + pitch * (i + 0.5) for i in range(len(steps))]
    half = [full / 2 * (1 + log2(step.side)) / (1 + log2(steps[0].side)) for step in steps]
    shortest = sorted(skips, key=lambda skip: skip.end - skip.start)  # each lies around those before it
    clear = (max(half[skip.start : skip.end + 1]) + 9 for skip in shortest)
    levels = list(accumulate(clear, lambda inner, own: max(inner + 7, own)))
    middle = drawing.y + max([full / 2, *(level + 6 for level in levels)])
    drawing.path("M", x[0], middle, "H", x[-1], opacity=0.5)
    drawing.y = middle + full / 2 + 29
    for at, high, step in zip(x, half, steps, strict=True):
        drawing.bar(at, middle, 4 + 1.6 * log2(step.shape[0]), 2 * high, step.kind)
        label = partial(drawing.text, at, font_size=11, text_anchor="middle")
        label(middle - high - 4, f"{step.times} ×" if step.times > 1 else "")
        label(drawing.y - 14, str(step.shape[0]), **BOLD)
        label(drawing.y, str(step.side) if len(step.shape) == 3 else "", **FAINT)
    for (start, end, sign), level in zip(shortest, levels, strict=True):
        y = middle - level
        drawing.path("M", x[start], middle - half[start], "V", y, "H", x[end], "V", middle - half[end])
        drawing.sign(x[end], y, sign)


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
NETWORKS = {"generator": "generator", "critic": "critic", "deblur_denoise": "deblurring-denoising network"}
COLUMNS = {"generator": 0, "critic": 0, "deblur_denoise": 1}


def training() -> Drawing:
    """The four stages: what each one trains, on what, with which loss, and whose weights it starts from.

    Networks and starts stand in `stages.STAGES`; inputs and losses are read from the code of each step, by the
    functions that it calls. A stage stands below those that it starts from, and as wide as the networks that it trains.
    """
    depth: dict[int | str, int] = {}
    for number, stage in stages.STAGES.items():
        depth[number] = 1 + max((depth[start] for start in stage.starts_from.values()), default=-1)
    drawing, half, gap = Drawing("The four training stages", 2.0), (WIDTH - 16) / 2, 12
    bottom: dict[int | str, float] = {}
    for _, level in groupby(sorted(depth, key=depth.__getitem__), depth.__getitem__):
        row = []
        for stage in (stages.STAGES[number] for number in level):
            columns = {COLUMNS[name] for name in stage.networks}
            width = len(columns) * (half + gap) - gap
            row.append((stage, 2 + min(columns) * (half + gap), width, card(stage, round(width / 6.3))))
        y, height = drawing.y, 17 * max(len(lines) for *_, lines in row) + 14
        for stage, x, width, lines in row:
            bottom[stage.number] = y + height
            drawing.frame(x, y, width, height)
            drawing.said.append(" ".join(words for words, _ in lines))
            for i, (words, bold) in enumerate(lines):
                drawing.text(x + 10, y + 20 + 17 * i, words, **(BOLD if bold else {}))
            for name, start in stage.starts_from.items():
                x = 24 + COLUMNS[name] * (half + gap)
                drawing.arrow(x, bottom[start], y)
                for i, words in enumerate(textwrap.wrap(f"starts from this {NETWORKS[name]}", 30)):
                    drawing.text(x + 10, y - 25 + 15 * i, words, font_size=11, **FAINT)
                drawing.said[-1] += f"; the {NETWORKS[name]} starts from stage {start}"
        drawing.y += height + 44
    drawing.y -= 42
    return drawing


def card(stage: stages.Stage, width: int) -> list[tuple[str, bool]]:
    """What a stage's card says, line by line, and whether in bold; at most ``width`` characters a line.

    >>> card(stages.STAGES[1], 40)[1:]
    [('trains: generator', False), ('on: photos with a hole', False), ('loss: mean squared error (1)', False)]
    """
    code = stage.step.__code__
    used = {*code.co_names, *(value for value in code.co_consts if isinstance(value, str))}
    said = {
        "trains": ", ".join(NETWORKS[name] for name in stage.networks),
        "on": ", ".join(words for name, words in INPUTS.items() if name in used),
        "loss": ", ".join(words for name, words in LOSSES.items() if name in used),
    }
    title = [(words, True) for words in textwrap.wrap(stage.title, width - 6)]
    return title + [(w, False) for key, words in said.items() for w in textwrap.wrap(f"{key}: {words}", width)]


def spoken(steps: Sequence[Step], skips: Sequence[Skip]) -> str:
    """A network in words.

    >>> spoken([Step("input", (3, 8, 8)), Step("conv 3, stride 1", (4, 8, 8), 2)], [Skip(0, 1, "+")])
    'input 3 × 8 × 8, 2 × conv 3, stride 1 to 4 × 8 × 8; skips: the maps after step 0 are added to those of step 1'
    """
    layers = [f"{step.name}{' to' if i else ''} {step.size}" for i, step in enumerate(steps)]
    verbs = {
        "+": "the maps after step {} are added to those of step {}",
        "−": "from the maps after step {} those of step {} are subtracted",
    }
    joined = [verbs[skip.sign].format(skip.start, skip.end) for skip in skips]
    return ", ".join(layers) + ("; skips: " + ", ".join(joined) if joined else "")


def write(folder: str | Path) -> list[Path]:
    """The first page's drawings, ``cascade.svg`` and ``training.svg``, into a folder; returns the files."""
    files = []
    for name, drawing in {"cascade": cascade(profiles.read("paper")), "training": training()}.items():
        files.append(Path(folder) / f"{name}.svg")
        files[-1].write_text(drawing.svg, "utf-8")
    return files
