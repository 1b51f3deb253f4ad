"""Drawings of the networks and of the four training stages, as SVG, made from the code's own numbers.

From the shell::

    python -m cascade_lab.show.drawings book/_static  # writes cascade.svg and training.svg anew

Nothing is drawn by hand: a network's drawing comes from running it (`trace`), the drawing of the training from
`stages.STAGES` and the code of its steps. Text and lines have the color of the text around them and the background is
left open, so that a drawing reads on a light page and on a dark one.
"""

import argparse
import copy
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from math import log2
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cascade_core.models import ResidualBlock
from cascade_lab.training import profiles, stages
from cascade_lab.training.profiles import Profile

WIDTH = 440  # of every drawing, in its own units: a phone shows them at four fifths, and 12 is still legible


@dataclass(frozen=True)
class Drawing:
    """An SVG picture. A notebook shows it as part of the page, with the page's text color.

    Attributes:
        title: what a screen reader says first.
        description: what it says then: all that is to be seen.
        body: the elements.
        height: in the units of ``WIDTH``.
    """

    title: str
    description: str
    body: str
    height: float

    @property
    def svg(self) -> str:
        """The whole file. By itself, as an image, it follows the reader's own choice of light or dark."""
        dark = "@media (prefers-color-scheme: dark) { svg:root { color: #ddd } }"
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height:.0f}" width="100%" role="img" '
            f'aria-label="{escape(self.title)}: {escape(self.description)}" font-family="system-ui, sans-serif" '
            f'font-size="12" fill="currentColor" style="display: block; max-width: 600px; margin: 0 auto 0.7em">\n'
            f"<title>{escape(self.title)}</title>\n<style>{dark}</style>\n{self.body}</svg>\n"
        )

    def _repr_html_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return f"<Drawing: {self.title}>"


class Step(NamedTuple):
    """What one bar of a drawing stands for: a layer with weights (or some alike in a row), and the maps after it."""

    kind: str
    shape: tuple[int, ...]
    times: int = 1

    @property
    def name(self) -> str:
        return f"{self.times} × {self.kind}" if self.times > 1 else self.kind


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
    y = [row * i + 14 for i in range(len(steps))]
    parts, left = [line(middle, y[0], middle, y[-1], opacity=0.5)], []
    for at, step in zip(y, steps, strict=True):
        width = max(100 * (step.shape[1] / size if len(step.shape) == 3 else 0), 4)
        thick = 3 + 1.5 * log2(step.shape[0])
        left.append(middle - width / 2)
        parts.append(bar(middle, at, width, thick, step.kind))
        parts.append(text(164, at + 4, step.name))
        parts.append(text(WIDTH - 4, at + 4, " × ".join(map(str, step.shape)), anchor="end"))
    for start, end, sign in skips:
        span = y[end] - y[start]
        parts.append(
            curve(
                f"M {left[end]:.1f} {y[start]} A {min(span / 8 + 6, 48):.1f} {span / 2} 0 0 0 {left[end]:.1f} {y[end]}"
            )
        )
        parts.append(sign_at(left[end], y[end], sign))
    return Drawing(title, spoken(steps, skips), "".join(parts), row * len(steps) + 4)


def cascade(profile: Profile) -> Drawing:
    """The whole cascade with a profile's sizes: generator, deblurring-denoising network, and the critic beside them.

    A bar for each layer, as high as the side of its maps on a logarithmic scale and the wider the more channels; under
    it the two numbers. Skips run above.
    """
    settings, size = stages.sizes(profile), profile.size
    built = {name: stages.build(name, settings) for name in ("generator", "deblur_denoise", "critic")}
    parts, spoke, y = [], [], 16.0

    def flow(words: str, note: str = "") -> None:
        nonlocal y
        parts.append(text(30, y, words, weight="bold") + text(30, y + 16, note, opacity=0.8))
        if note:  # it goes on
            parts.append(arrow(14, y - 10, y + 22))
        spoke.append(" ".join(filter(None, (words, note))))
        y += 34 if note else 14

    def panel(name: str, title: str, note: str, dashed: bool = False) -> None:
        nonlocal y
        steps, skips = trace(built[name], size)
        count = sum(p.numel() for p in built[name].parameters())
        said = f"{count / 1e6:.1f} million" if count >= 1e6 else f"{count:,}"
        inside, height = row_of_bars(steps, skips, size, y + 48)
        parts.append(frame(2, y, WIDTH - 4, height + 56, dashed))
        parts.append(text(12, y + 19, title, weight="bold"))
        parts.append(text(WIDTH - 12, y + 19, f"{said} weights", anchor="end"))
        parts.append(text(12, y + 36, note, opacity=0.8) + inside)
        spoke.append(f"{title}, {note}: {spoken(steps, skips)}")
        y += height + 74

    flow("x, the damaged photo", f"3 × {size} × {size}, a hole of {profile.hole} × {profile.hole}, blur and noise")
    panel("generator", "Generator G", "fills the hole")
    flow("G(x), the first result", "the hole is filled; blur and noise are still there")
    panel("deblur_denoise", "Deblurring-denoising network", "finds what is wrong, and takes it away")
    flow("ŷ, the restored photo")
    panel("critic", "Critic D", "only for training stage 2: G(x) or a true y in, a score out", dashed=True)
    parts.append(legend(y))
    return Drawing("The cascade", ". ".join(spoke), "".join(parts), y + 24)


def row_of_bars(steps: Sequence["Step"], skips: Sequence["Skip"], size: int, y: float) -> tuple[str, float]:
    """A network from left to right between the margins, and its height; ``y`` is where its skips may begin."""
    full, pitch = 84, (WIDTH - 24) / len(steps)
    x = [12 + pitch * (i + 0.5) for i in range(len(steps))]
    tall = [full * (1 + log2(s.shape[1] if len(s.shape) == 3 else 1)) / (1 + log2(size)) for s in steps]
    top = [(full - high) / 2 for high in tall]  # from the row's own zero, above which only skips are
    level: dict[Skip, float] = {}
    for skip in sorted(skips, key=lambda s: s.end - s.start):
        below = [top[i] - 9 for i in range(skip.start, skip.end + 1)]
        inner = [at - 7 for other, at in level.items() if skip.start <= other.start and other.end <= skip.end]
        level[skip] = min(below + inner)
    zero = y - min([0.0, *(at - 6 for at in level.values())])
    parts = [line(x[0], zero + full / 2, x[-1], zero + full / 2, opacity=0.5)]
    for at, high, step in zip(x, tall, steps, strict=True):
        parts.append(bar(at, zero + full / 2, 4 + 1.6 * log2(step.shape[0]), high, step.kind))
        if step.times > 1:
            parts.append(text(at, zero + full / 2 - high / 2 - 4, f"{step.times} ×", 11, "middle"))
        side = str(step.shape[1]) if len(step.shape) == 3 else ""
        parts.append(text(at, zero + full + 15, str(step.shape[0]), 11, "middle", weight="bold"))
        parts.append(text(at, zero + full + 29, side, 11, "middle", opacity=0.8))
    for skip, at in level.items():
        parts.append(
            curve(f"M {x[skip.start]:.1f} {zero + top[skip.start]:.1f} V {zero + at:.1f} H {x[skip.end] - 5:.1f}")
        )
        parts.append(line(x[skip.end], zero + at + 5, x[skip.end], zero + top[skip.end]))
        parts.append(sign_at(x[skip.end], zero + at, skip.sign))
    return "".join(parts), zero - y + full + 29


def legend(y: float) -> str:
    """The colors of the bars, and what the numbers under them are."""
    names = ("input", "convolution", "residual block", "transposed", "fully connected")
    parts, x = [], 4.0
    for kind, name in zip(COLORS, names, strict=True):
        parts.append(bar(x + 4, y - 4, 8, 10, kind) + text(x + 12, y, name, 11))
        x += 20 + 6 * len(name)
    numbers = "Under each bar: channels, and the side of the maps in pixels."
    return "".join(parts) + text(4, y + 18, numbers, 11, opacity=0.8)


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
    depth: dict[int, int] = {}
    for number, stage in stages.STAGES.items():
        depth[number] = 1 + max((depth[source] for source in stage.starts_from.values()), default=-1)
    half, gap, y = (WIDTH - 16) / 2, 12, 2.0
    parts, spoke, places = [], [], {}
    for level in range(max(depth.values()) + 1):
        row = []
        for stage in (stage for number, stage in stages.STAGES.items() if depth[number] == level):
            columns = sorted({COLUMNS[name] for name in stage.networks})
            width = len(columns) * (half + gap) - gap
            row.append((stage, 2 + columns[0] * (half + gap), width, card(stage, round(width / 6.3))))
        height = 17 * max(len(lines) for *_, lines in row) + 14
        for stage, x, width, lines in row:
            places[stage.number] = y, y + height
            parts.append(frame(x, y, width, height))
            parts += [text(x + 10, y + 20 + 17 * i, words, weight=weight) for i, (words, weight) in enumerate(lines)]
            starts = [f"the {NETWORKS[name]} starts from stage {source}" for name, source in stage.starts_from.items()]
            spoke.append("; ".join([" ".join(words for words, _ in lines), *starts]))
        y += height + 44
    for number, stage in stages.STAGES.items():
        for name, source in stage.starts_from.items():
            x = 24 + COLUMNS[name] * (half + gap)
            parts.append(arrow(x, places[source][1], places[number][0]))
            for i, words in enumerate(textwrap.wrap(f"starts from this {NETWORKS[name]}", 30)):
                parts.append(text(x + 10, places[number][0] - 44 + 19 + 15 * i, words, 11, opacity=0.8))
    return Drawing("The four training stages", ". ".join(spoke), "".join(parts), y - 42)


def card(stage: stages.Stage, width: int) -> list[tuple[str, str]]:
    """What a stage's card says, line by line, each with its weight; at most ``width`` characters a line.

    >>> card(stages.STAGES[1], 40)[1:]
    [('trains: generator', 'normal'), ('on: photos with a hole', 'normal'), ('loss: mean squared error (1)', 'normal')]
    """
    code = stage.step.__code__
    used = {*code.co_names, *(value for value in code.co_consts if isinstance(value, str))}
    told = {
        "trains": ", ".join(NETWORKS[name] for name in stage.networks),
        "on": ", ".join(words for name, words in INPUTS.items() if name in used),
        "loss": ", ".join(words for name, words in LOSSES.items() if name in used),
    }
    lines = [(words, "bold") for words in textwrap.wrap(stage.title, width - 6)]
    return lines + [(w, "normal") for key, words in told.items() for w in textwrap.wrap(f"{key}: {words}", width)]


def text(
    x: float, y: float, words: str, size: int = 12, anchor: str = "start", weight: str = "normal", opacity: float = 1
) -> str:
    look = {"font-size": (size, 12), "text-anchor": (anchor, "start"), "font-weight": (weight, "normal")}
    look["opacity"] = opacity, 1
    given = "".join(f' {name}="{value}"' for name, (value, usual) in look.items() if value != usual)
    return f'<text x="{x:.1f}" y="{y:.1f}"{given}>{escape(words)}</text>\n' if words else ""


def bar(x: float, y: float, width: float, height: float, kind: str) -> str:
    """A bar around its middle."""
    place = f'x="{x - width / 2:.1f}" y="{y - height / 2:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect {place} rx="1" fill="{COLORS[kind.split()[0]]}"/>\n'


def frame(x: float, y: float, width: float, height: float, dashed: bool = False) -> str:
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect {place} rx="6" fill="none" stroke="currentColor" stroke-opacity="0.5"{dash}/>\n'


def curve(path: str, opacity: float = 0.7) -> str:
    return f'<path d="{path}" fill="none" stroke="currentColor" stroke-opacity="{opacity}"/>\n'


def line(x1: float, y1: float, x2: float, y2: float, opacity: float = 0.7) -> str:
    return curve(f"M {x1:.1f} {y1:.1f} L {x2:.1f} {y2:.1f}", opacity)


def arrow(x: float, start: float, end: float) -> str:
    """Downwards."""
    head = f'<path d="M {x - 4:.1f} {end - 8:.1f} h 8 l -4 8 z"/>\n'
    return line(x, start, x, end - 7) + head


def sign_at(x: float, y: float, sign: str) -> str:
    """A plus or a minus in a circle."""
    upright = f" M {x:.1f} {y - 3:.1f} v 6" if sign == "+" else ""
    circle = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5.5" fill="#777777"/>\n'
    return circle + f'<path d="M {x - 3:.1f} {y:.1f} h 6{upright}" stroke="#fff" stroke-width="1.4"/>\n'


def spoken(steps: Sequence[Step], skips: Sequence[Skip]) -> str:
    """A network in words.

    >>> spoken([Step("input", (3, 8, 8)), Step("conv 3, stride 1", (4, 8, 8), 2)], [Skip(0, 1, "+")])
    'input 3 × 8 × 8, 2 × conv 3, stride 1 to 4 × 8 × 8; skips: the maps after step 0 are added to those of step 1'
    """
    layers = [f"{s.name}{' to' if i else ''} {' × '.join(map(str, s.shape))}" for i, s in enumerate(steps)]
    verbs = {
        "+": "the maps after step {} are added to those of step {}",
        "−": "from the maps after step {} those of step {} are subtracted",
    }
    joined = [verbs[skip.sign].format(skip.start, skip.end) for skip in skips]
    return ", ".join(layers) + ("; skips: " + ", ".join(joined) if joined else "")


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


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m cascade_lab.show.drawings", description="Write the first page's drawings."
    )
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args(arguments).folder
    for name, drawing in {"cascade": cascade(profiles.read("paper")), "training": training()}.items():
        (folder / f"{name}.svg").write_text(drawing.svg, "utf-8")


if __name__ == "__main__":
    main()
