"""Pictures to move by hand: a curtain between two, a slider (or several) through many.

Each function returns HTML that stands on its own: the pictures are inside it, the few lines of script are in its
attributes, and nothing is fetched. So it moves in a built page without Python behind it, from a file, in Jupyter and
on Colab alike. The controls are the browser's own sliders: they can be dragged, touched, and moved by the arrow keys.
"""

import base64
import io
import json
from collections.abc import Callable, Mapping, Sequence
from html import escape
from itertools import product
from typing import Any

import torch
from IPython.display import HTML
from PIL import Image
from torch import Tensor

from cascade_lab.show.figures import to_rgb

STYLE = """<style>
.cascade-play {margin: 1rem auto; max-width: 100%; font-family: sans-serif; font-size: .9rem; line-height: 1.4}
.cascade-play .pictures {position: relative; margin: 0 0 .5rem}
.cascade-play .pictures img {display: block; width: 100%; height: auto; margin: 0}
.cascade-play .pictures img[hidden] {display: none}
.cascade-play label {display: flex; flex-wrap: wrap; align-items: center; gap: 0 .75rem; margin: .25rem 0}
.cascade-play label span {flex: 1 1 11rem}
.cascade-play label input {flex: 2 1 11rem; height: 1.75rem; min-width: 0; accent-color: #2f6fc4}
.cascade-play output {font-variant-numeric: tabular-nums}
.cascade-play .curtain img + img {position: absolute; inset: 0; clip-path: inset(0 0 0 calc(100% * var(--cut)))}
.cascade-play .curtain i {position: absolute; inset: 0 auto 0 calc(100% * var(--cut) - 1.5px); width: 3px;
  background: #fff; box-shadow: 0 0 3px #000; pointer-events: none}
.cascade-play .curtain span {position: absolute; bottom: .5rem; padding: .1rem .5rem; border-radius: .3rem;
  color: #fff; background: #000b; pointer-events: none}
.cascade-play .curtain input {position: absolute; inset: 0 -14px; width: calc(100% + 28px); height: 100%; margin: 0;
  appearance: none; background: transparent; cursor: ew-resize; touch-action: pan-y}
.cascade-play .curtain input:focus {outline: none}
.cascade-play .curtain input::-webkit-slider-thumb {appearance: none; width: 28px; height: 44px; border-radius: 14px;
  background: #fff; border: 2px solid #222; box-shadow: 0 0 4px #000}
.cascade-play .curtain input::-moz-range-thumb {width: 24px; height: 40px; border-radius: 14px;
  background: #fff; border: 2px solid #222; box-shadow: 0 0 4px #000}
.cascade-play .curtain input:focus-visible::-webkit-slider-thumb {outline: 4px solid #2f6fc4}
.cascade-play .curtain input:focus-visible::-moz-range-thumb {outline: 4px solid #2f6fc4}
</style>"""


def curtain(
    before: Tensor, after: Tensor, labels: Sequence[str] = ("before", "after"), alt: str = "", width: int = 512
) -> HTML:
    """Two pictures of one thing, and a curtain to drag across: left of it the one, right of it the other.

    Args:
        before: ``(3, H, W)`` in [0, 1], or some of them ``(N, 3, H, W)``, which stand side by side.
        after: of the same shape.
        labels: what to call the two; they stand in the pictures' corners.
        alt: what is to be seen, for those who do not see it.
        width: of the whole in CSS pixels, at most; a narrow page makes it smaller.

    Raises:
        ValueError: the shapes differ.
    """
    if before.shape != after.shape:
        raise ValueError(f"before and after must have one shape, got {tuple(before.shape)} and {tuple(after.shape)}")
    left, right = (escape(label) for label in labels)
    pictures = "".join(_picture(*item, width, alt) for item in zip((before, after), labels, strict=True))
    move = (
        "this.parentNode.style.setProperty('--cut', this.value / 100);"
        "this.setAttribute('aria-valuetext', `${this.value} % ${this.dataset.left}`)"
    )
    slider = (
        f'<input type="range" min="0" max="100" value="50" step="1" data-left="{left}" aria-valuetext="50 % {left}" '
        f'aria-label="Curtain: {left} on its left, {right} on its right" oninput="{move}">'
    )
    names = f'<span style="left: .5rem">{left}</span><span style="right: .5rem">{right}</span>'
    inside = f'<div class="pictures curtain" style="--cut: .5">{pictures}<i></i>{names}{slider}</div>'
    return _figure(inside, width)


def scrubber(
    sliders: Mapping[str, Sequence[Any]],
    picture: Callable[..., Tensor],
    alt: str = "",
    start: Sequence[Any] = (),
    note: Callable[..., str] | None = None,
    width: int = 384,
) -> HTML:
    """A slider for each name; each choice of values shows its own picture. All of them are computed now.

    Args:
        sliders: name -> the values that it goes through.
        picture: called with one value of each slider: what to show, ``(3, H, W)`` in [0, 1], or some pictures
            ``(N, 3, H, W)``, which stand side by side.
        alt: what is to be seen, for those who do not see it; the values are added.
        start: the values that are shown first, one of each slider; without them, the first ones.
        note: called like ``picture``: a line to show under it.
        width: of the whole in CSS pixels, at most; a narrow page makes it smaller.

    Raises:
        ValueError: a slider has no value, or has none of those to start with.
    """
    for name, values in sliders.items():
        if not len(values):
            raise ValueError(f"slider {name!r} has no value")
    start = tuple(start) or tuple(values[0] for values in sliders.values())
    choices = list(product(*sliders.values()))
    if start not in choices:
        raise ValueError(f"start {start} is none of the sliders' values {dict(sliders)}")
    pictures, notes = [], []
    for choice in choices:
        about = ", ".join(f"{name} {value}" for name, value in zip(sliders, choice, strict=True))
        pictures.append(_picture(picture(*choice), about, width, alt, hidden=choice != start))
        notes.append(note(*choice) if note else "")
    controls, left = "", len(choices)
    for (name, values), first in zip(sliders.items(), start, strict=True):
        left //= len(values)
        texts = [str(value) for value in values]
        controls += (
            f"<label><span>{escape(name)}: <output>{escape(str(first))}</output></span>"
            f'<input type="range" min="0" max="{len(values) - 1}" step="1" value="{list(values).index(first)}" '
            f'data-texts="{escape(json.dumps(texts))}" data-stride="{left}" aria-valuetext="{escape(str(first))}">'
            "</label>"
        )
    # All sliders together say which picture; the others are hidden. Text is set as text, never as HTML.
    move = (
        "let at = 0;"
        "for (const s of this.querySelectorAll('input')) {"
        "const text = JSON.parse(s.dataset.texts)[s.value]; at += s.value * s.dataset.stride;"
        "s.setAttribute('aria-valuetext', text); s.parentNode.querySelector('output').textContent = text}"
        "this.querySelectorAll('img').forEach((image, i) => {image.hidden = i !== at});"
        "const line = this.querySelector('.note'); if (line) line.textContent = JSON.parse(line.dataset.texts)[at]"
    )
    line = ""
    if note:
        shown = escape(notes[choices.index(start)])
        line = f'<div class="note" aria-live="polite" data-texts="{escape(json.dumps(notes))}">{shown}</div>'
    return _figure(f'<div class="pictures">{"".join(pictures)}</div>{line}{controls}', width, move)


def _figure(inside: str, width: int, move: str = "") -> HTML:
    moves = f' oninput="{move}"' if move else ""
    return HTML(f'{STYLE}<div class="cascade-play" style="width: {width}px"{moves}>{inside}</div>')


def _picture(images: Tensor, about: str, width: int, alt: str, hidden: bool = False) -> str:
    """One or some images side by side as an ``img`` that holds its own file."""
    images = images if images.dim() == 4 else images[None]
    pixels = to_rgb(torch.cat(list(images), dim=-1)[None])[0]
    photo = Image.fromarray(pixels)
    # at full color resolution: in small pictures, which are shown enlarged, every pixel can be seen
    photo.save(file := io.BytesIO(), "JPEG", quality=85, subsampling=0, optimize=True)
    data = base64.b64encode(file.getvalue()).decode()
    text = escape(": ".join(part for part in (alt, about) if part))
    enlarged = ' style="image-rendering: pixelated"' if photo.width < width else ""
    # "dark-light": the theme need not dim the picture in its dark scheme
    return (
        f'<img class="dark-light" src="data:image/jpeg;base64,{data}" alt="{text}" '
        f'width="{photo.width}" height="{photo.height}"{enlarged}{" hidden" if hidden else ""}>'
    )
