"""Curtains and sliders, as HTML and in a notebook; that the HTML moves is tested in tests/book/test_pages.py."""

import base64
import io
import json
import re
from html.parser import HTMLParser

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

from cascade_lab.show.interactive import curtain, live, scrubber


class Parsed(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.tags = []
        self.feed(html.data)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def of(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def pixels(image) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(image["src"].partition(",")[2]))))


def flat(value: float) -> torch.Tensor:
    return torch.full((3, 8, 8), value)


def test_a_curtain_holds_both_pictures_and_fetches_nothing():
    html = curtain(flat(0), flat(1), ('a "b"', "<c>"), "a wall")
    parsed = Parsed(html)
    before, after = parsed.of("img")
    assert pixels(before).max() == 0
    assert pixels(after).min() == 255
    assert (before["alt"], after["alt"]) == ('a wall: a "b"', "a wall: <c>")
    assert parsed.of("input")[0]["aria-label"] == 'Curtain: a "b" on its left, <c> on its right'
    assert not re.search(r"https?:|<script|<c>", html.data)


def test_a_scrubber_has_a_picture_for_each_choice_in_the_order_of_its_sliders():
    shown = []
    html = scrubber(
        {"x": (0, 1, 2), "y": ("a", "b")},
        lambda x, y: shown.append((x, y)) or flat(x / 2),
        start=(1, "b"),
        note=lambda x, y: f"{x}<{y}",
    )
    parsed = Parsed(html)
    images, sliders = parsed.of("img"), parsed.of("input")
    assert [image["alt"] for image in images] == [f"x {x}, y {y}" for x, y in shown]
    assert [(s["max"], s["value"], s["aria-valuetext"]) for s in sliders] == [("2", "1", "1"), ("1", "1", "b")]
    assert [json.loads(s["data-texts"]) for s in sliders] == [["0", "1", "2"], ["a", "b"]]
    assert json.loads(parsed.of("div")[-1]["data-texts"]) == ["0<a", "0<b", "1<a", "1<b", "2<a", "2<b"]
    visible = [i for i, image in enumerate(images) if "hidden" not in image]
    assert visible == [shown.index((1, "b"))]
    assert [round(pixels(image).mean()) for image in images] == [0, 0, 128, 128, 255, 255]
    assert "1&lt;b" in html.data
    assert "1<b" not in html.data


def test_some_pictures_stand_side_by_side():
    image = Parsed(scrubber({"x": [0]}, lambda x: torch.rand(3, 3, 8, 10))).of("img")[0]
    assert (image["width"], image["height"]) == ("30", "8")


@pytest.mark.parametrize(
    ("sliders", "start", "message"),
    [({"x": ()}, (), "slider 'x' has no value"), ({"x": (1, 2)}, (3,), r"start \(3,\) is none of the sliders' values")],
)
def test_a_slider_that_cannot_stand_anywhere_is_refused(sliders, start, message):
    with pytest.raises(ValueError, match=message):
        scrubber(sliders, flat, start=start)


def test_a_curtain_between_two_shapes_is_refused():
    with pytest.raises(ValueError, match="must have one shape"):
        curtain(flat(0), torch.zeros(3, 8, 9))


class TestLive:
    @staticmethod
    def shown(box) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(box.children[-1].value)).convert("RGB"))

    def test_draws_anew_when_a_slider_moves(self):
        asked = []

        def picture(gray, kind):
            asked.append((gray, kind))
            return plt.figure(figsize=(1, 1), facecolor=(gray, gray, gray))

        box = live({"gray": (0.0, 0.4, 1.0), "kind": ("a", "b")}, picture, start=(0.4, "a"))
        assert [slider.description for slider in box.children[:-1]] == ["gray", "kind"]
        assert np.unique(self.shown(box)).tolist() == [102]
        box.children[0].value = 1.0
        assert np.unique(self.shown(box)).tolist() == [255]
        box.children[1].value = "b"
        assert asked == [(0.4, "a"), (1.0, "a"), (1.0, "b")]
        assert plt.get_fignums() == []

    def test_refuses_a_start_that_no_slider_has(self):
        with pytest.raises(ValueError, match=r"start \(3,\) is none of the sliders' values"):
            live({"x": (1, 2)}, lambda x: plt.figure(), start=(3,))
