import matplotlib.pyplot as plt
import pytest
import torch

from cascade_core.models import Critic
from cascade_lab.show import figures


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
        assert figures.to_rgb(images)[0, 0, 0].tolist() == [0, 128, 255]

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

    def test_only_the_losses_that_are_named(self):
        (axis,) = figures.curves(self.HISTORY, ["distance"]).axes
        assert axis.get_title() == "distance"

    def test_refuses_an_empty_history(self):
        with pytest.raises(ValueError, match="empty"):
            figures.curves([])


def test_source_is_the_code_that_runs():
    shown = figures.source(figures.to_pixels, figures.curves).data
    assert shown.startswith("```python\ndef to_pixels(")
    assert "\n\ndef curves(" in shown
    assert shown.endswith("return figure\n```")
    assert figures.source(Critic.forward).data.startswith("```python\ndef forward(")  # a method, without its indent
