"""Tables of measurements: from tidy rows to means with intervals, and from those to a page."""

import html
import importlib.resources
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from cascade_core.metrics import PRIMARY, Interval, mean_interval, paired_interval

Measures = Mapping[str, Mapping[str, Tensor | pd.Series]]
"""Method -> metric -> a value for each image: what `metrics.measure` returns, or rows of `by_method`."""

Format = str | Callable[[Any], str]


def paper() -> dict[str, Any]:
    """The paper's own numbers: table (or section) -> data set -> "psnr" or "ssim" -> row -> number.

    Example:
        >>> paper()["table 1"]["BSD300"]["psnr"]["cascade"]
        18.41
    """
    return json.loads(importlib.resources.files("cascade_lab.evaluation").joinpath("paper_tables.json").read_text())


def by_method(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Method -> its rows by image, of one data set, mode and level, which `evaluate` or a recorded table holds.

    Raises:
        ValueError: an image has several rows, or the methods were measured on different images.
    """
    groups = {name: group.set_index("image") for name, group in rows.groupby("method", sort=False)}
    first = next(iter(groups.values()), None)
    for name, group in groups.items():
        if not group.index.is_unique:
            raise ValueError(f"{name} has several rows for an image: choose one data set, mode and level")
        if not group.index.equals(first.index):
            raise ValueError(f"{name} was measured on other images than {next(iter(groups))}: measure both on the same")
    return groups


def _values(measures: Measures, method: str, metric: str) -> np.ndarray:
    values = np.asarray(measures[method][metric]).astype(np.float64)
    if np.isnan(values).any():
        raise ValueError(
            f"{method} has diverged: {metric} is not a number for {np.isnan(values).sum()} of {values.size} images; "
            "leave it out, or train it again"
        )
    return values


def paired(measures: Measures, one: str, other: str, metric: str) -> Interval:
    """The mean difference of two methods on the same images, with its interval.

    Raises:
        ValueError: one of them has diverged: a value is NaN.
    """
    return paired_interval(_values(measures, one, metric), _values(measures, other, metric))


def table(measures: Measures, columns: Sequence[str] = PRIMARY, reference: str | None = None) -> pd.DataFrame:
    """A row for each method, all measured on the same images.

    It holds an Interval for each column and, beside a reference method, one for each column's paired difference to it
    ("psnr_hole - reference"); the reference's own row has None there.

    Raises:
        ValueError: no method, a reference that is none of them, and a method that has diverged.
    """
    if not measures:
        raise ValueError("no rows: a table needs at least one method")
    if reference is not None and reference not in measures:
        raise ValueError(f"the reference {reference!r} is none of the methods: {', '.join(measures)}")
    rows: dict[str, dict[str, Interval | None]] = {}
    for method in measures:
        row = rows.setdefault(method, {})
        for column in columns:
            row[column] = mean_interval(_values(measures, method, column))
            if reference is not None:
                row[f"{column} - {reference}"] = (
                    paired(measures, method, reference, column) if method != reference else None
                )
    return frame(rows, "method")


def frame(rows: Mapping[str, Mapping[str, Any]], name: str = "") -> pd.DataFrame:
    """Row -> column -> cell as a DataFrame of such objects; ``name`` stands over the rows' names."""
    cells = pd.DataFrame(list(rows.values()), index=pd.Index(list(rows)), dtype=object)
    cells.columns.name = name or None
    return cells


def by_mode(rows: pd.DataFrame, columns: Sequence[str], fewer: Sequence[str]) -> pd.DataFrame:
    """`table` of the first mode in the rows, and beside it ``fewer`` columns of each other mode."""
    modes = {mode: by_method(group) for mode, group in rows.groupby("mode", sort=False)}
    if not modes:
        raise ValueError("no rows: a table needs at least one method")
    first = next(iter(modes))
    parts = [
        table(measures, columns if mode == first else fewer).add_suffix(f", {mode}") for mode, measures in modes.items()
    ]
    cells = pd.concat([parts[0], *(part.reindex(parts[0].index) for part in parts[1:])], axis=1)
    cells.columns.name = "method"
    return cells


def table_1(rows: pd.DataFrame, data_set: str | None = None) -> pd.DataFrame:
    """The book's Table 1, the hole alone: a row for each method, the paper's numbers beside ours.

    Args:
        rows: of one data set, from `evaluate` or recorded; the first mode's methods are the rows, and of the other
            modes PSNR on the hole and SSIM on the whole are shown.
        data_set: "BSD300" or "ImageNet", whose column of the paper stands beside; its methods that were not run here
            get a row all the same. ``None`` leaves the paper out.
    """
    cells = by_mode(rows, PRIMARY, PRIMARY[:2])
    if data_set is None:
        return cells
    theirs = paper()["table 1"][data_set]
    numbers = {name: f"{value:.2f}\n{theirs['ssim'][name]:.3f}" for name, value in theirs["psnr"].items()}
    run = list(cells.index)
    cells = cells.reindex([*run, *(name for name in numbers if name not in run)])
    cells[f"paper on {data_set}"] = [numbers.get(name) for name in cells.index]
    return cells.rename(index=lambda name: name if name in run else f"{name}, not run")


def table_3(rows: pd.DataFrame) -> pd.DataFrame:
    """The book's Table 3, hole, blur and noise at once: PSNR by region, and SSIM on the whole."""
    return by_mode(rows, ("psnr_hole", "psnr_context", "psnr_whole", "ssim_whole"), ("psnr_hole", "psnr_whole"))


@dataclass(frozen=True)
class Shown:
    """A table on a page: HTML in a notebook, plain text elsewhere.

    Attributes:
        cells: its texts by row and column.
        caption: what stands over it.
        best: the cells, by row and column, that are printed bold.
    """

    cells: pd.DataFrame
    caption: str = ""
    best: set[tuple[int, int]] = field(default_factory=set)

    def _repr_html_(self) -> str:
        marked = self.cells.map(lambda text: html.escape(text, quote=False).replace("\n", "<br>")).astype(object)
        for row, column in self.best:
            mean, line, interval = marked.iat[row, column].partition("<br>")
            marked.iat[row, column] = f"<strong>{mean}</strong>{line}{interval}"
        styler = marked.style.format_index(escape="html", axis=0).format_index(escape="html", axis=1)
        if self.caption:
            styler.set_caption(html.escape(self.caption, quote=False))
        # Without styles, a table has no ids that could clash, and its colors are those of the page.
        text = styler.to_html(exclude_styles=True).replace("<table>", '<table class="dataframe">', 1)
        return f'<div class="pst-scrollable-table-container">{text}</div>'

    def __repr__(self) -> str:
        text = self.cells.map(lambda text: text.replace("\n", " ")).to_string()
        return f"{self.caption}\n{text}" if self.caption else text


def show(cells: pd.DataFrame, caption: str = "", formats: Mapping[str, Format] | None = None) -> Shown:
    """A DataFrame for a page: intervals under the means, and in a column of means the best one bold.

    Args:
        cells: Intervals, numbers, texts and None, by row and column; the index holds the rows' names.
        caption: what stands over it.
        formats: column -> format of its numbers, or a function from a cell to its text. By default PSNR has two
            decimals, SSIM three, a difference ("a - b") its sign, other numbers two, and whole ones none.
    """
    best = set()
    for j in range(cells.shape[1]):
        means = {i: cell.mean for i, cell in enumerate(cells.iloc[:, j]) if isinstance(cell, Interval)}
        if len(means) > 1 and " - " not in str(cells.columns[j]):
            best |= {(i, j) for i, mean in means.items() if mean == max(means.values())}
    return Shown(_texts(cells, formats or {}, "\n"), caption, best)


def markdown(cells: pd.DataFrame, formats: Mapping[str, Format] | None = None) -> str:
    """A DataFrame as `show` takes it, as a table in Markdown.

    Example:
        >>> print(markdown(frame({"laplace": {"psnr_hole": Interval(18.004, 17.31, 18.72, 100)}}, "method")))
        | method | PSNR hole |
        | --- | --- |
        | laplace | 18.00 [17.31, 18.72] |
    """
    texts = _texts(cells, formats or {}, " ")
    lines = [[texts.columns.name or "", *texts.columns], ["---"] * (1 + texts.shape[1])]
    lines += [[str(name), *row] for name, row in zip(texts.index, texts.to_numpy(), strict=True)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _texts(cells: pd.DataFrame, formats: Mapping[str, Format], between: str) -> pd.DataFrame:
    """Cells as texts, ``between`` a mean and its interval; columns named as on a page."""
    texts = {}
    for column in cells:
        label = str(column).replace("psnr", "PSNR").replace("ssim", "SSIM").replace("_", " ")
        usual = ("+" if " - " in label else "") + (".3f" if "SSIM" in label else ".2f")
        texts[label] = [_text(cell, formats.get(column, usual), between) for cell in cells[column]]
    return pd.DataFrame(texts, index=cells.index, columns=pd.Index(list(texts), name=cells.columns.name), dtype=object)


def _text(cell: Any, spec: Format, between: str) -> str:
    if cell is None or cell is pd.NA or (isinstance(cell, float) and np.isnan(cell)):
        return ""
    if callable(spec):
        return spec(cell)
    if isinstance(cell, Interval):
        text = format(cell, spec)
        return text if between == " " else text.replace(" [", f"{between}[").replace(", ", ",\N{NO-BREAK SPACE}")
    if isinstance(cell, str):
        return cell
    return format(cell, ",d" if isinstance(cell, int | np.integer) and spec.endswith("f") else spec)
