"""Drawings: every number in them is the code's own."""

import re
import xml.etree.ElementTree as ET

import drawings
import pytest

from cascade_core.models import Cascade, Critic, DeblurDenoiseNet, InpaintingGenerator
from cascade_lab.show import figures
from cascade_lab.training import profiles, stages

WIDTHS = (4, 6, 8, 10, 12)
SVG = "{http://www.w3.org/2000/svg}"


def texts(drawing) -> list[str]:
    return ["".join(element.itertext()) for element in ET.fromstring(drawing.svg).iter(f"{SVG}text")]


class TestTrace:
    def test_generator_by_its_own_numbers(self):
        steps, skips = drawings.trace(InpaintingGenerator(WIDTHS), 64)
        assert [step.shape for step in steps[:7]] == [
            (3, 64, 64),
            (4, 32, 32),
            (6, 16, 16),
            (8, 8, 8),
            (10, 4, 4),
            (12, 2, 2),
            (12, 2, 2),
        ]
        assert (steps[6].kind, steps[6].times) == ("residual block", 7)
        assert {step.kind for step in steps[1:6]} == {"conv 4, stride 2"}
        assert {step.kind for step in steps[7:]} == {"transposed conv 4, stride 2"}
        assert set(skips) == {(4, 7, "+"), (3, 8, "+"), (2, 9, "+"), (1, 10, "+"), (0, 11, "+")}

    def test_critic_has_no_skip(self):
        steps, skips = drawings.trace(Critic(64, WIDTHS, 20), 64)
        assert sum(step.times for step in steps if step.kind.startswith("conv")) == 13
        assert [step.shape for step in steps[-3:]] == [(12, 2, 2), (20,), (1,)]
        assert skips == []

    def test_the_second_network_subtracts(self):
        steps, skips = drawings.trace(DeblurDenoiseNet(6), 32)
        assert len(steps) == 9
        assert set(skips) == {(3, 5, "+"), (2, 6, "+"), (1, 7, "+"), (0, 8, "−")}

    def test_cascade_is_both_in_a_row(self):
        steps, skips = drawings.trace(Cascade(InpaintingGenerator(WIDTHS, 2), DeblurDenoiseNet(6)), 64)
        assert len(steps) == 12 + 8
        assert len(skips) == 5 + 4

    def test_a_skip_that_is_taken_away_is_not_drawn(self):
        class Without(DeblurDenoiseNet):
            def forward(self, images):
                x = images
                for layer in [*self.encoder, *self.decoder]:
                    x = layer(x)
                return images - self.residual(x)

        steps, skips = drawings.trace(Without(6), 32)
        assert [step.times for step in steps] == [1, 7, 1]  # nothing ends between the seven: they are drawn as one
        assert skips == [(0, 2, "−")]


class TestNetwork:
    def test_says_shapes_and_signs(self):
        drawing = drawings.network(DeblurDenoiseNet(6), 32, "a net")
        assert texts(drawing).count("6 × 32 × 32") == 7
        assert texts(drawing).count("conv 3, stride 1") == 8
        circles = list(ET.fromstring(drawing.svg).iter(f"{SVG}circle"))
        assert len(circles) == 4
        (said,) = drawing.said
        assert said.count("are added") == 3
        assert said.count("are subtracted") == 1

    def test_a_wider_network_has_thicker_bars(self):
        def thick(width):
            bars = ET.fromstring(drawings.network(DeblurDenoiseNet(width), 32, "a net").svg).iter(f"{SVG}rect")
            return [float(bar.get("height")) for bar in bars]

        assert all(a < b for a, b in list(zip(thick(4), thick(16), strict=True))[1:8])


class TestAny:
    @pytest.fixture(params=["network", "cascade", "training"])
    def drawing(self, request):
        return {
            "network": lambda: drawings.network(Critic(64, WIDTHS, 20), 64, "the critic"),
            "cascade": lambda: drawings.cascade(profiles.read("smoke")),
            "training": drawings.training,
        }[request.param]()

    def test_is_one_picture_for_a_screen_reader(self, drawing):
        root = ET.fromstring(drawing.svg)
        assert root.get("role") == "img"
        assert root.get("aria-label") == f"{drawing.title}: {'. '.join(drawing.said)}"
        assert root.find(f"{SVG}title").text == drawing.title

    def test_reads_on_light_and_dark(self, drawing):
        """Words take the color of the page, nothing paints a background, and what has a color of its own is far enough
        from white and from the pages' dark."""

        def luminance(color):
            values = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
            linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
            return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

        root = ET.fromstring(drawing.svg)
        assert root.get("fill") == "currentColor"
        assert not [text for text in root.iter(f"{SVG}text") if text.get("fill")]
        for color in set(re.findall(r'fill="(#\w+)"', drawing.svg)):
            assert 1.05 / (luminance(color) + 0.05) > 3
            assert (luminance(color) + 0.05) / (luminance("#14181e") + 0.05) > 3

    def test_nothing_stands_outside(self, drawing):
        root = ET.fromstring(drawing.svg)
        wide, high = map(float, root.get("viewBox").split()[2:])
        for text in root.iter(f"{SVG}text"):
            long = 0.56 * float(text.get("font-size", 12)) * len(text.text)
            x = float(text.get("x")) - long * {"end": 1, "middle": 0.5}.get(text.get("text-anchor"), 0)
            assert x > -2, text.text
            assert x + long < wide + 2, text.text
            assert float(text.get("y")) <= high, text.text
        for box in root.iter(f"{SVG}rect"):
            assert float(box.get("x")) >= 0
            assert float(box.get("x")) + float(box.get("width")) <= wide
            assert float(box.get("y")) + float(box.get("height")) <= high


class TestCascade:
    def test_has_the_profiles_numbers(self):
        profile = profiles.read("smoke", {"deblur_denoise_width": 17, "hole": 30})
        said = texts(drawings.cascade(profile))
        assert said.count("17") == 7
        assert "3 × 64 × 64, a hole of 30 × 30, blur and noise" in said
        assert said.count("7 ×") == 1  # the residual blocks
        weights = sum(p.numel() for p in stages.build("deblur_denoise", profile).parameters())
        assert f"{weights:,} weights" in said


class TestTraining:
    def test_tells_each_stage(self):
        cards = {number: [words for words, _ in drawings.card(stages.STAGES[number], 99)] for number in stages.STAGES}
        assert [cards[number][2] for number in cards] == [
            "on: photos with a hole",
            "on: photos with a hole",
            "on: blurred, noisy photos",
            "on: photos with hole, blur and noise",
        ]
        assert "(1)" in cards[1][3]
        assert "(5)" in cards[2][3]
        assert "(7)" in cards[2][3]

    def test_follows_the_table_of_stages(self, monkeypatch):
        changed = stages.Stage(3, "stage 3: other", stages.STAGES[1].step, ("deblur_denoise",), {})
        monkeypatch.setattr(stages, "STAGES", stages.STAGES | {3: changed})
        said = texts(drawings.training())
        assert "stage 3: other" in said
        assert "on: blurred, noisy photos" not in said


def test_the_chapters_show_what_the_code_draws():
    """`make drawings` makes them anew."""
    for name, drawing in drawings.drawings().items():
        assert figures.drawing(name).data == drawing.svg, name
