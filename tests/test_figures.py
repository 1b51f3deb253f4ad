import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.colors import to_rgba
from torch import nn

from cascade_core import figures
from cascade_core.models import Cascade, Critic, DeblurDenoiseNet, InpaintingGenerator

WIDTHS = (4, 6, 8, 10, 12)


def texts(figure) -> list[str]:
    return [text.get_text() for axis in figure.axes for text in axis.texts]


class TestStrip:
    def test_a_column_for_each_name_and_a_row_for_each_photo(self, photos):
        figure = figures.strip({"photo": photos, "mask": photos[:, :1]})
        assert len(figure.axes) == 2 * len(photos)
        assert [axis.get_title() for axis in figure.axes[:2]] == ["photo", "mask"]
        assert all(axis.images[0].get_array().shape == (64, 64, 3) for axis in figure.axes)

    def test_notes_stand_under_their_photos(self, photos):
        figure = figures.strip({"a": photos[:2], "b": photos[:2]}, {"b": ["one", "two"]})
        assert [axis.get_xlabel() for axis in figure.axes] == ["", "one", "", "two"]

    def test_shows_what_is_there_and_clips_the_rest(self):
        images = torch.tensor([-1.0, 0.5, 2.0]).reshape(1, 3, 1, 1).expand(1, 3, 4, 4)
        assert figures.to_pixels(images)[0, 0, 0].tolist() == [0, 128, 255]

    def test_is_closed(self, photos):
        figures.strip({"photo": photos[:1]})
        assert plt.get_fignums() == []

    def test_refuses_columns_of_different_lengths(self, photos):
        with pytest.raises(ValueError, match="'b': 1"):
            figures.strip({"a": photos, "b": photos[:1]})

    def test_refuses_other_channels(self):
        with pytest.raises(ValueError, match=r"\(2, 4, 8, 8\)"):
            figures.strip({"a": torch.rand(2, 4, 8, 8)})
        assert plt.get_fignums() == []  # an open figure would be shown beside the error


class TestCurves:
    HISTORY = [{"step": 10, "mse": 0.2, "distance": 0.1}, {"step": 20, "mse": 0.1, "distance": -0.1}]

    def test_a_panel_for_each_loss(self):
        figure = figures.curves(self.HISTORY)
        assert [axis.get_title() for axis in figure.axes] == ["mse", "distance"]
        assert figure.axes[0].lines[0].get_xydata().tolist() == [[10, 0.2], [20, 0.1]]

    def test_logarithmic_only_above_zero(self):
        assert [axis.get_yscale() for axis in figures.curves(self.HISTORY).axes] == ["log", "linear"]
        assert figures.curves(self.HISTORY, ["mse"], logarithmic=False).axes[0].get_yscale() == "linear"

    def test_refuses_an_empty_history(self):
        with pytest.raises(ValueError, match="empty"):
            figures.curves([])


def test_source_is_the_code_that_runs():
    shown = figures.source(figures.to_pixels, figures.curves).data
    assert shown.startswith("```python\ndef to_pixels(")
    assert "\n\ndef curves(" in shown
    assert shown.endswith("return figure\n```")
    assert figures.source(Critic.forward).data.startswith("```python\ndef forward(")  # a method, without its indent


class TestDrawing:
    def test_generator_by_its_own_numbers(self):
        steps, skips = figures.trace(InpaintingGenerator(WIDTHS), 64)
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
        steps, skips = figures.trace(Critic(64, WIDTHS, 20), 64)
        assert sum(step.times for step in steps if step.kind.startswith("conv")) == 13
        assert [step.shape for step in steps[-3:]] == [(12, 2, 2), (20,), (1,)]
        assert skips == []

    def test_the_second_network_subtracts(self):
        steps, skips = figures.trace(DeblurDenoiseNet(6), 32)
        assert len(steps) == 9
        assert set(skips) == {(3, 5, "+"), (2, 6, "+"), (1, 7, "+"), (0, 8, "−")}

    def test_cascade_is_both_in_a_row(self):
        steps, skips = figures.trace(Cascade(InpaintingGenerator(WIDTHS, 2), DeblurDenoiseNet(6)), 64)
        assert len(steps) == 12 + 8
        assert len(skips) == 5 + 4

    def test_a_skip_that_is_taken_away_is_not_drawn(self):
        class Without(DeblurDenoiseNet):
            def forward(self, images):
                x = images
                for layer in [*self.encoder, *self.decoder]:
                    x = layer(x)
                return images - self.residual(x)

        steps, skips = figures.trace(Without(6), 32)
        assert [step.times for step in steps] == [1, 7, 1]  # nothing ends between the seven: they are drawn as one
        assert skips == [(0, 2, "−")]

    def test_figure_says_shapes_and_signs(self):
        figure = figures.drawing(DeblurDenoiseNet(6), 32)
        assert texts(figure).count("6 × 32 × 32") == 7
        assert sorted(text for text in texts(figure) if text in "+−") == ["+", "+", "+", "−"]
        assert figure.get_facecolor() == to_rgba("white")  # also where the page is dark
        assert plt.get_fignums() == []

    def test_leaves_network_and_random_numbers_alone(self):
        network = InpaintingGenerator(WIDTHS, 1).eval()
        before = {name: value.clone() for name, value in network.state_dict().items()}
        state = torch.get_rng_state()
        figures.drawing(network, 32)
        assert not network.training
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
        assert torch.equal(torch.get_rng_state(), state)
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())

    def test_takes_a_network_on_any_device(self, device):
        assert len(figures.trace(nn.Sequential(nn.Conv2d(3, 4, 3)).to(device), 8)[0]) == 2
