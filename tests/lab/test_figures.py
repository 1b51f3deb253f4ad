import math

import matplotlib.pyplot as plt
import pytest
import torch

from cascade_core.metrics import Interval
from cascade_core.models import Critic
from cascade_lab.evaluation import tables
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
        with pytest.raises(ValueError, match=r"the size of the masks, \(64, 64\).*'b': \(32, 64\)"):
            figures.photos({"a": photos, "b": photos[:, :, :32]}, torch.ones(1, 1, 64, 64))
        with pytest.raises(ValueError, match="each column needs"):
            figures.strip({})

    def test_columns_that_are_too_many_for_the_page_go_on_below(self, photos):
        figure = figures.strip({str(i): photos[:2] for i in range(7)})
        assert figure.get_size_inches()[0] == pytest.approx(4 * 1.7)
        assert [axis.get_title() for axis in figure.axes] == ["0", "1", "2", "3", "4", "5", "6"] * 2
        tops = [round(axis.get_position().y1, 6) for axis in figure.axes[:7]]
        assert len(set(tops[:4])) == len(set(tops[4:])) == 1
        assert tops[4] < tops[0]

    @pytest.mark.parametrize("columns", [1, 4, 5, 6, 7, 9, 14])
    def test_is_no_wider_than_the_page(self, photos, columns):
        figure = figures.strip({str(i): photos[:1] for i in range(columns)}, width=2.0)
        assert figure.get_size_inches()[0] <= figures.PAGE + 1e-6
        assert all(axis.get_window_extent().width > 115 for axis in figure.axes)

    def test_pictures_of_different_sizes(self, photos):
        """As a map of SSIM, which lacks the border, beside its photo."""
        wide, tall = figures.strip({"a": photos[:1, :, :32], "b": photos[:1, :, :, 10:]}).axes
        assert wide.get_position().y1 == tall.get_position().y1
        assert wide.get_window_extent().height == pytest.approx(wide.get_window_extent().width / 2)

    def test_methods_are_named_in_words(self, photos):
        figure = figures.strip(
            {"neural patch synthesis": photos[:1]}, {"neural patch synthesis": ["18.2 dB, 0.850"]}, 1.3
        )
        assert figure.axes[0].get_title() == "Neural Patch\nSynthesis"
        figure.canvas.draw()
        box, whole = figure.axes[0].get_tightbbox(), figure.bbox
        assert (box.y0, whole.y1) > (whole.y0, box.y1), "a text is cut off"

    def test_the_hole_stands_enlarged_below_its_photo(self, photos):
        masks = torch.zeros(2, 1, 64, 64)
        masks[0, :, 20:40, 24:40] = 1
        masks[1, :, 0:10, 50:64] = 1  # at the border the square moves inward
        figure = figures.photos({"a": photos[:2], "b": photos[:2]}, masks, {"b": ["one", "two"]})
        whole, enlarged = figure.axes[::2], figure.axes[1::2]
        shown = figures.to_rgb(photos[:2])
        assert (enlarged[0].images[0].get_array() == shown[0, 16:44, 18:46]).all()
        assert (enlarged[2].images[0].get_array() == shown[1, 0:22, 42:64]).all()
        assert [axis.patches[0].get_bbox().bounds for axis in whole[::2]] == [
            (17.5, 15.5, 28, 28),
            (41.5, -0.5, 22, 22),
        ]
        assert [axis.get_xlabel() for axis in enlarged] == ["", "one", "", "two"]
        assert all(a.get_position().y0 > b.get_position().y1 for a, b in zip(whole, enlarged, strict=True))
        with pytest.raises(ValueError, match="a mask without a hole"):
            figures.photos({"a": photos}, torch.zeros(1, 1, 64, 64))
        assert plt.get_fignums() == []

    @pytest.mark.parametrize("columns", [1, 3, 4, 5, 8])
    def test_photos_are_large_enough_to_judge(self, photos, columns):
        mask = torch.zeros(1, 1, 64, 64)
        mask[..., 20:44, 20:44] = 1
        figure = figures.photos({str(i): photos[:2] for i in range(columns)}, mask)
        assert len(figure.axes) == 4 * columns
        assert figure.get_size_inches()[0] <= figures.PAGE + 1e-6  # the page shows it in its full size
        assert all(axis.get_window_extent().width >= 160 for axis in figure.axes)  # 100 px an inch, on the page too

    def test_refuses_other_channels(self):
        with pytest.raises(ValueError, match=r"\(2, 4, 8, 8\)"):
            figures.strip({"a": torch.rand(2, 4, 8, 8)})
        assert plt.get_fignums() == []  # an open figure would be shown beside the error


class TestCurves:
    HISTORY = [{"step": 10, "mse": 0.2, "distance": 0.1}, {"step": 20, "mse": 0.1, "distance": -0.1}]

    def test_a_panel_for_each_loss(self):
        figure = figures.curves(self.HISTORY)
        assert [axis.get_title() for axis in figure.axes] == ["MSE", "distance"]
        assert figure.axes[0].lines[0].get_xydata().tolist() == [[10, 0.2], [20, 0.1]]

    def test_logarithmic_only_above_zero(self):
        assert [axis.get_yscale() for axis in figures.curves(self.HISTORY).axes] == ["log", "linear"]

    def test_only_the_losses_that_are_named(self):
        (axis,) = figures.curves(self.HISTORY, ["distance"]).axes
        assert axis.get_title() == "distance"

    def test_two_panels_a_line(self):
        history = [{"step": 1, "a": 1.0, "b": 1.0, "c": 1.0}]
        figure = figures.curves(history)
        assert [axis.get_title() for axis in figure.axes] == ["a", "b", "c"]
        assert figure.get_size_inches()[0] <= figures.PAGE

    def test_refuses_an_empty_history(self):
        with pytest.raises(ValueError, match="empty"):
            figures.curves([])


class TestForest:
    CELLS = tables.frame(
        {
            "laplace": {"psnr_hole": Interval(18.5, 18.0, 19.0, 9), "psnr_hole - laplace": None},
            "cascade": {"psnr_hole": Interval(18.8, 18.3, 19.4, 9), "psnr_hole - laplace": Interval(0.3, 0.1, 0.4, 9)},
            "telea": {"psnr_hole": Interval(18.4, 17.5, 19.0, 9), "psnr_hole - laplace": Interval(-0.1, -0.3, 0.1, 9)},
        },
        "method",
    )

    def points(self, axis):
        """Row -> (mean, marker, filled) of a panel's points."""
        points = [line for line in axis.lines if line.get_marker() != "None"]
        return {
            int(p.get_ydata()[0]): (p.get_xdata()[0], p.get_marker(), p.get_markerfacecolor() != "white")
            for p in points
        }

    def test_a_panel_for_each_column_and_a_line_for_each_interval(self):
        figure = figures.forest(self.CELLS)
        left, right = figure.axes
        assert (left.get_xlabel(), right.get_xlabel()) == (
            "PSNR in the hole (dB)",
            "PSNR in the hole (dB) minus\nLaplace fill",
        )
        assert [text.get_text() for text in left.get_yticklabels()] == ["Laplace fill", "Cascade", "Telea"]
        lines = [lines.get_segments()[0].tolist() for lines in left.collections]
        assert lines == [[[18.0, 0], [19.0, 0]], [[18.3, 1], [19.4, 1]], [[17.5, 2], [19.0, 2]]]
        assert left.get_ylim() == (2.5, -0.5)
        assert plt.get_fignums() == []

    def test_the_best_is_a_star_and_an_interval_with_zero_is_hollow(self):
        left, right = figures.forest(self.CELLS).axes
        assert self.points(left) == {0: (18.5, "o", True), 1: (18.8, "*", True), 2: (18.4, "o", True)}
        assert self.points(right) == {1: (0.3, "*", True), 2: (-0.1, "o", False)}
        assert [(text.get_text(), text.get_weight()) for text in right.texts] == [
            ("reference", "normal"),
            ("+0.30", "bold"),
            ("-0.10", "normal"),
        ]
        (least,) = figures.forest(self.CELLS, ["psnr_hole"], best=min).axes
        assert self.points(least)[2][1] == "*"
        (none,) = figures.forest(self.CELLS, ["psnr_hole"], best=None).axes
        assert {marker for _, marker, _ in self.points(none).values()} == {"o"}

    def test_zero_has_a_line_only_among_differences(self):
        left, right = figures.forest(self.CELLS).axes
        upright = [
            [list(line.get_xdata()) for line in axis.lines if len(line.get_xdata()) == 2] for axis in (left, right)
        ]
        assert upright == [[], [[0, 0]]]
        assert right.get_xlim()[0] < 0 < right.get_xlim()[1]

    def test_what_has_no_finite_mean_is_said_in_words(self):
        cells = tables.frame({"a": {"psnr_context": Interval(math.inf, math.nan, math.nan, 9)}, "b": {}}, "method")
        (axis,) = figures.forest(cells).axes
        assert [text.get_text() for text in axis.texts] == ["\N{INFINITY} (identical)", "no value"]
        assert self.points(axis) == {}

    def test_units_and_numbers_of_other_columns(self):
        cells = tables.frame({"a": {"seconds": 1.25}, "b": {"seconds": 3.0}})
        (axis,) = figures.forest(cells, ["seconds"], "s", min, {"seconds": ".3f"}).axes
        assert axis.get_xlabel() == "seconds (s)"
        assert [text.get_text() for text in axis.texts] == ["1.250", "3.000"]
        assert self.points(axis) == {0: (1.25, "*", True), 1: (3.0, "o", True)}

    def test_refuses(self):
        with pytest.raises(ValueError, match=r"no column 'ssim'.*psnr_hole"):
            figures.forest(self.CELLS, ["ssim"])
        with pytest.raises(ValueError, match="needs rows, and a column of Intervals"):
            figures.forest(tables.frame({"a": {"n": 3}}))
        with pytest.raises(ValueError, match="needs rows"):
            figures.forest(self.CELLS.iloc[:0], ["psnr_hole"])
        assert plt.get_fignums() == []


def test_labels_are_about_as_large_as_the_page_s_text():
    """An inch is 100 px of the page, whose text has 16 px."""
    figure = figures.forest(TestForest.CELLS)
    for axis in figure.axes:
        shown = [*axis.get_xticklabels(), *axis.get_yticklabels(), *axis.texts, axis.xaxis.label]
        assert all(13.5 <= 100 / 72 * text.get_fontsize() <= 17 for text in shown)


def test_source_is_the_code_that_runs():
    shown = figures.source(figures.to_pixels, figures.curves).data
    assert shown.startswith("```python\ndef to_pixels(")
    assert "\n\ndef curves(" in shown
    assert shown.endswith("return figure\n```")
    assert figures.source(Critic.forward).data.startswith("```python\ndef forward(")  # a method, without its indent
