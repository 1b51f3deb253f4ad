"""Tables: means with intervals, the paper's numbers beside them, and how they look on a page."""

import math
import re

import pandas as pd
import pytest
import torch

from cascade_core.metrics import Interval, mean_interval, paired_interval
from cascade_lab.evaluation import tables
from cascade_lab.evaluation.tables import by_method, frame, paper, show, table

NO_BREAK = "\N{NO-BREAK SPACE}"


def rows(mode="crop", method="laplace", **columns):
    """Tidy rows of two images."""
    return pd.DataFrame({"mode": mode, "method": method, "image": ["a", "b"], **columns})


class TestPaper:
    def test_both_tables_have_the_same_last_row(self):
        for data_set in ("ImageNet", "BSD300"):
            for metric in ("psnr", "ssim"):
                one, two = (paper()[f"table {i}"][data_set][metric] for i in (1, 2))
                assert one["cascade"] == two["full model"]

    def test_the_text_rounds_the_table(self):
        for data_set in ("ImageNet", "BSD300"):
            psnr = paper()["table 2"][data_set]["psnr"]
            for variant, drop in paper()["section 4.3"][data_set]["psnr"].items():
                assert psnr[variant] - psnr["full model"] == pytest.approx(drop, abs=0.07)

    def test_table_1(self):
        values = {"psnr_hole": [17.0, 19.0], "ssim_whole": [0.8, 0.9], "ssim_whole_composited": [0.8, 0.9]}
        both = pd.concat([rows(**values), rows(method="cascade", **values)])
        found = tables.table_1(pd.concat([both, rows("resize", **values)]), "BSD300")
        cells = show(found).data
        assert cells.columns[0] == "PSNR in the hole (dB), crop"
        assert cells.columns[3] == "PSNR in the hole (dB), resize"
        assert (
            cells.loc["Laplace fill"].iloc[0] == cells.loc["Laplace fill"].iloc[3] == f"18.00\n[17.00,{NO_BREAK}19.00]"
        )
        assert cells.loc["Laplace fill"].iloc[-1] == ""
        assert list(cells.loc["Cascade"].iloc[3:]) == ["", "", "18.41\n0.855"]
        assert list(cells.loc["Context Encoder, not run"]) == [""] * 5 + ["18.09\n0.844"]


def test_table_3():
    keys = ("psnr_hole", "psnr_context", "psnr_whole", "ssim_whole")
    values = {key: 0.5 + i for i, key in enumerate(keys)}
    found = show(tables.table_3(pd.concat([rows(**values), rows("resize", **values)]))).data
    assert sum("crop" in column for column in found) == 4
    assert sum("resize" in column for column in found) == 2
    means = [cell.split("\n")[0] for cell in found.iloc[0]]
    assert means == ["0.50", "1.50", "2.50", "3.500", "0.50", "2.50"]


class TestByMethod:
    def test_keeps_the_order_and_the_images(self):
        found = by_method(pd.concat([rows(method="b", x=[1, 2]), rows(method="a", x=[3, 4])]))
        assert list(found) == ["b", "a"]
        assert (found["a"]["x"] - found["b"]["x"]).to_dict() == {"a": 2, "b": 2}

    def test_refuses(self):
        with pytest.raises(ValueError, match="laplace has several rows for an image"):
            by_method(pd.concat([rows("crop"), rows("resize")]))
        with pytest.raises(ValueError, match="mean was measured on other images than laplace"):
            by_method(pd.concat([rows(), rows(method="mean").assign(image=["a", "c"])]))


class TestTable:
    @pytest.fixture
    def measures(self):
        hole = torch.linspace(14, 22, 50, dtype=torch.float64)
        columns = {"psnr_hole": hole, "ssim_whole": hole / 25}
        return {"Laplace": columns, "ours": {name: values + 0.01 * hole for name, values in columns.items()}}

    def test_rows(self, measures):
        found = table(measures, columns=("psnr_hole", "ssim_whole"), reference="Laplace")
        assert list(found) == ["psnr_hole", "psnr_hole - Laplace", "ssim_whole", "ssim_whole - Laplace"]
        assert list(found.index) == ["Laplace", "ours"]
        assert found.loc["Laplace", "psnr_hole - Laplace"] is None
        assert found.loc["Laplace", "psnr_hole"] == mean_interval(measures["Laplace"]["psnr_hole"])
        difference = paired_interval(measures["ours"]["ssim_whole"], measures["Laplace"]["ssim_whole"])
        assert found.loc["ours", "ssim_whole - Laplace"] == difference
        assert list(table(measures, columns=["ssim_whole"])) == ["ssim_whole"]

    def test_on_a_page(self, measures):
        cells = show(table(measures, columns=("psnr_hole", "ssim_whole"), reference="Laplace")).data
        assert list(cells) == [
            "PSNR in the hole (dB)",
            "PSNR in the hole (dB) - Laplace",
            "SSIM of the whole",
            "SSIM of the whole - Laplace",
        ]
        assert cells.columns.name == "method"
        assert cells.loc["Laplace", "PSNR in the hole (dB)"].startswith("18.00\n[")
        assert cells.loc["ours", "PSNR in the hole (dB) - Laplace"].startswith("+0.18\n[+")

    def test_refuses(self, measures):
        with pytest.raises(ValueError, match="no rows"):
            table({})
        with pytest.raises(ValueError, match="no rows"):
            tables.table_3(rows().iloc[:0])
        with pytest.raises(ValueError, match=r"reference 'k-NN'.*Laplace, ours"):
            table(measures, columns=["psnr_hole"], reference="k-NN")

    def test_a_method_that_has_diverged_is_named(self, measures):
        measures["ours"]["ssim_whole"][3] = math.nan
        with pytest.raises(ValueError, match="ours has diverged: ssim_whole is not a number for 1 of 50 images"):
            table(measures, columns=("psnr_hole", "ssim_whole"))
        assert table(measures, columns=["psnr_hole"]).shape == (2, 1)

    def test_equal_images_are_infinite(self):
        cells = table({"input": {"psnr_context": [math.inf] * 3}}, ["psnr_context"])
        assert show(cells).data.iloc[0, 0] == "\N{INFINITY} (identical)"
        assert show(frame({"a": {"ratio": math.inf, "gap": -math.inf}})).data.iloc[0].tolist() == ["∞", "-∞"]

    def test_a_mean_that_is_not_a_number(self):
        """Infinite less infinite."""
        cells = frame({"a": {"psnr_context - b": Interval(math.nan, math.nan, math.nan, 3)}}, "method")
        assert show(cells).data.iloc[0, 0] == "no value"


class TestShow:
    CELLS = frame(
        {
            "a": {"psnr_hole": Interval(17.0, 16.0, 18.0, 9), "psnr_hole - b": Interval(0.5, 0.25, 0.75, 9), "n": 1200},
            "b <c>": {"psnr_hole": Interval(18.5, 17.0, 19.0, 9), "psnr_hole - b": None, "n": pd.NA},
        },
        "method",
    )

    def test_html(self):
        html = show(self.CELLS, "what & why").to_html()
        assert "<caption>what &amp; why</caption>" in html
        assert f">18.50<br>[17.00,{NO_BREAK}19.00]<" in html
        assert f">+0.50<br>[+0.25,{NO_BREAK}+0.75]<" in html
        assert ">b &lt;c&gt;<" in html
        assert ">1,200<" in html
        assert ">PSNR in the hole (dB) - b<" in html
        assert ">method<" in html

    def test_the_best_mean_is_bold_and_no_difference(self):
        html = show(self.CELLS).to_html()
        (rule,) = re.findall(r"#(\S+) {\s*font-weight: bold;\s*}", html)
        assert rule.endswith("row1_col0")
        assert f'<td id="{rule}"' in html

    def test_html_is_plain(self):
        """No ids that clash, no colors that fail in the dark, the theme's own class, the same in every build."""
        html = show(self.CELLS).to_html()
        ids = re.findall(r' id="([^"]+)"', html)
        assert len(ids) == len(set(ids)) == 2
        assert not set(ids) & set(re.findall(r' id="([^"]+)"', show(self.CELLS, "other").to_html()))
        assert not any(word in html for word in ("color", "sticky", "nan", "None"))
        assert 'class="dataframe"' in html
        assert html == show(self.CELLS).to_html()

    def test_formats(self):
        cells = pd.DataFrame({"share": [0.5, None], "name": ["x<y", "z"], "gap": [Interval(1, 0, 2, 3)] * 2})
        found = show(cells, formats={"share": ".0%", "gap": "+.4f"})
        assert found.data["share"].tolist() == ["50%", ""]
        assert "x&lt;y" in found.to_html()
        assert found.data["gap"][0] == f"+1.0000\n[+0.0000,{NO_BREAK}+2.0000]"

    def test_methods_are_named_in_words(self):
        """In a table of methods, and where every row is one; a row "mean" of another table is left alone."""
        assert list(show(frame({"telea": {"n": 1}, "ours": {"n": 2}}, "method")).data.index) == ["Telea", "ours"]
        assert list(show(frame({"mean": {"n": 1}, "telea": {"n": 2}})).data.index) == ["Mean color", "Telea"]
        assert list(show(frame({"mean": {"n": 1}, "largest": {"n": 2}})).data.index) == ["mean", "largest"]

    def test_rows_of_the_same_name(self):
        """As in a table of tasks, each in several ways."""
        assert show(pd.DataFrame({"seconds": [1.0, 2.0]}, index=["blur", "blur"])).to_html().count(">blur<") == 2
