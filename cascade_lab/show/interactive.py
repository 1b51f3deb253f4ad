"""Pictures to move by hand: a curtain between two, a slider (or several) through many.

`curtain` and `scrubber` return HTML that stands on its own: the pictures are inside it, the few lines of script are in
its attributes, and nothing is fetched. So it moves in a built page without Python behind it, from a file, in Jupyter
and on Colab alike. The controls are the browser's own sliders: they can be dragged, touched, and moved by the arrow
keys. `live` computes each picture when it is asked for, and needs a running notebook.
"""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import jinja2
import matplotlib.pyplot as plt
import torch
from IPython.display import HTML
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from cascade_lab.show.figures import to_rgb

_environment = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True)


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
    pictures = (_picture(images, alt, label) for images, label in zip((before, after), labels, strict=True))
    return _html("curtain", *pictures, *labels, width)


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
    start, choices = _start(sliders, start), list(product(*sliders.values()))
    texts = [", ".join(f"{name} {value}" for name, value in zip(sliders, choice, strict=True)) for choice in choices]
    pictures = [_picture(picture(*choice), alt, text) for choice, text in zip(choices, texts, strict=True)]
    notes = [note(*choice) for choice in choices] if note else []
    rows = [
        (name, list(map(str, values)), list(values).index(first))
        for (name, values), first in zip(sliders.items(), start, strict=True)
    ]
    return _html("scrubber", pictures, rows, notes, choices.index(start), width)


def live(sliders: Mapping[str, Sequence[Any]], picture: Callable[..., Figure], start: Sequence[Any] = ()) -> Any:
    """A slider for each name above a figure that is drawn anew whenever one moves: an ``ipywidgets.VBox``.

    Args:
        sliders: name -> the values that it goes through.
        picture: called with one value of each slider.
        start: the values that are shown first, one of each slider; without them, the first ones.

    Raises:
        ValueError: as `scrubber`.
    """
    from ipywidgets import Image, SelectionSlider, VBox  # only chapters need it

    pairs = zip(sliders.items(), _start(sliders, start), strict=True)
    controls = [SelectionSlider(options=list(v), value=first, description=name) for (name, v), first in pairs]
    shown = Image(format="png")  # interact() is shorter, but can hang under papermill

    def draw(change: object = None) -> None:
        figure = picture(*(control.value for control in controls))
        figure.savefig(file := io.BytesIO(), format="png")
        plt.close(figure)
        shown.value = file.getvalue()

    for control in controls:
        control.observe(draw, "value")
    draw()
    return VBox([*controls, shown])


def _start(sliders: Mapping[str, Sequence[Any]], start: Sequence[Any]) -> tuple[Any, ...]:
    """The values to start with; ``ValueError`` unless they are some of the sliders' own."""
    for name, values in sliders.items():
        if not len(values):
            raise ValueError(f"slider {name!r} has no value")
    start = tuple(start) or tuple(values[0] for values in sliders.values())
    if start not in product(*sliders.values()):
        raise ValueError(f"start {start} is none of the sliders' values {dict(sliders)}")
    return start


def _html(macro: str, *values: Any) -> HTML:
    return HTML(str(getattr(_environment.get_template("interactive.html").module, macro)(*values)))


def _picture(images: Tensor, alt: str, about: str) -> dict[str, Any]:
    """What an ``img`` of one image, or of some side by side, needs; it holds its own file."""
    images = images if images.dim() == 4 else images[None]
    photo = Image.fromarray(to_rgb(torch.cat(list(images), dim=-1)[None])[0])
    # at full color resolution: in small pictures, which are shown enlarged, every pixel can be seen
    photo.save(file := io.BytesIO(), "JPEG", quality=85, subsampling=0, optimize=True)
    src = f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
    return {"src": src, "alt": ": ".join(filter(None, (alt, about))), "width": photo.width, "height": photo.height}
