"""Tables of measurements: from tidy rows to means with intervals, and from those to a page."""

import html
import importlib.resources
import json
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from cascade_core.metrics import PRIMARY, Interval, mean_interval, paired_interval

Measures = Mapping[str, Any]
"""Method -> metric -> a value for each image: what `metrics.measure` returns, or `by_method`."""

REGIONS = {"hole": "in the hole", "rim": "in the rim", "context": "in the context", "whole": "of the whole"}
TITLES = {
    "input": "Degraded input",
    "mean": "Mean color",
    "laplace": "Laplace fill",
    "biharmonic": "Biharmonic fill",
    "telea": "Telea",
    "patchmatch": "PatchMatch",
    "k-nn": "k-NN",
    "context encoder": "Context Encoder",
    "neural patch synthesis": "Neural Patch Synthesis",
    "classical chain": "Classical chain",
    "blind chain": "Blind chain",
    "generator": "Generator",
    "generator, MSE": "Generator, MSE only",
    "generator+": "Generator of cascade+",
    "generator+, MSE": "Generator of cascade+, MSE only",
    "deblur_denoise": "Deblurring-denoising",
    "separate": "Separate networks",
    "inpainted": "Cascade, generator's output",
    "cascade": "Cascade",
    "inpainted+": "Cascade+, generator's output",
    "cascade+": "Cascade+",
}
"""The methods' names as a page shows them."""


def paper() -> dict[str, Any]:
    """The paper's own numbers: table (or section) -> data set -> "psnr" or "ssim" -> row -> number.

    >>> paper()["table 1"]["BSD300"]["psnr"]["cascade"]
    18.41
    """
    return json.loads(importlib.resources.files("cascade_lab.evaluation").joinpath("paper_tables.json").read_text())


def by_method(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Method -> its rows by image, of one data set, mode and level, which `evaluate` or a recorded table holds.

    Raises:
        ValueError: an image has several rows, or the methods were measured on different images.
    """
    groups = {str(name): group.set_index("image") for name, group in rows.groupby("method", sort=False)}
    first = next(iter(groups), "")
    for name, group in groups.items():
        if not group.index.is_unique:
            raise ValueError(f"{name} has several rows for an image: choose one data set, mode and level")
        if not group.index.equals(groups[first].index):
            raise ValueError(f"{name} was measured on other images than {first}: measure both on the same")
    return groups


def values_of(measures: Measures, method: str, metric: str) -> Any:
    """A method's value for each image, ``(N,)`` float64; ``ValueError`` if one is NaN: the method has diverged."""
    values = np.asarray(measures[method][metric]).astype(np.float64)
    if count := np.isnan(values).sum():
        fault = f"{metric} is not a number for {count} of {values.size} images"
        raise ValueError(f"{method} has diverged: {fault}; leave it out, or train it again")
    return values


def paired(measures: Measures, one: str, other: str, metric: str) -> Interval:
    """The mean difference of two methods on the same images, with its interval. Raises as `values_of`."""
    return paired_interval(values_of(measures, one, metric), values_of(measures, other, metric))


def table(measures: Measures, columns: Sequence[str] = PRIMARY, reference: str | None = None) -> pd.DataFrame:
    """An `Interval` for each method and column, and beside it the paired difference to a reference, if one is named.

    The difference's column is called "psnr_hole - reference", and the reference's own row has None there.

    Raises:
        ValueError: no method, a reference that is none of them, and a method that has diverged.
    """
    if not measures:
        raise ValueError("no rows: a table needs at least one method")
    if reference is not None and reference not in measures:
        raise ValueError(f"the reference {reference!r} is none of the methods: {', '.join(measures)}")
    rows: dict[str, dict[str, Interval | None]] = {method: {} for method in measures}
    for method, row in rows.items():
        for column in columns:
            row[column] = mean_interval(values_of(measures, method, column))
            if reference is not None:
                own = method == reference
                row[f"{column} - {reference}"] = None if own else paired(measures, method, reference, column)
    return frame(rows, "method")


def frame(rows: Mapping[str, Mapping[str, Any]], name: str = "") -> pd.DataFrame:
    """Row -> column -> cell as a DataFrame of such objects; ``name`` stands over the rows' names."""
    cells = pd.DataFrame(list(rows.values()), index=pd.Index(list(rows)), dtype=object)
    return cells.rename_axis(name or None, axis=1)


def by_mode(rows: pd.DataFrame, columns: Sequence[str], fewer: Sequence[str]) -> pd.DataFrame:
    """`table` of the first mode in the rows, and beside it ``fewer`` columns of each other mode."""
    modes = list(rows.groupby("mode", sort=False)) or [("", rows)]
    parts = [
        table(by_method(group), fewer if i else columns).add_suffix(f", {mode}")
        for i, (mode, group) in enumerate(modes)
    ]
    cells = pd.concat([part.reindex(parts[0].index) for part in parts], axis=1)
    return cells.rename_axis("method", axis=1)


def table_1(rows: pd.DataFrame, data_set: str) -> pd.DataFrame:
    """The book's Table 1, the hole alone: a row for each method, the paper's numbers beside ours.

    Args:
        rows: of one data set, from `evaluate` or recorded; the first mode's methods are the rows, and of the other
            modes PSNR on the hole and SSIM on the whole are shown.
        data_set: "BSD300" or "ImageNet", whose column of the paper stands beside; its methods that were not run here
            get a row all the same.
    """
    cells, theirs = by_mode(rows, PRIMARY, PRIMARY[:2]), paper()["table 1"][data_set]
    numbers = {name: f"{value:.2f}\n{theirs['ssim'][name]:.3f}" for name, value in theirs["psnr"].items()}
    run = list(cells.index)
    cells = cells.reindex([*run, *(name for name in numbers if name not in run)])
    cells[f"paper on {data_set}"] = [numbers.get(name) for name in cells.index]
    return cells.rename(index=lambda name: name if name in run else f"{name}, not run")


def table_3(rows: pd.DataFrame) -> pd.DataFrame:
    """The book's Table 3, hole, blur and noise at once: PSNR by region, and SSIM on the whole."""
    return by_mode(rows, ("psnr_hole", "psnr_context", "psnr_whole", "ssim_whole"), ("psnr_hole", "psnr_whole"))


def title(method: str) -> str:
    """A method's name as a page shows it; a name that is none of `TITLES` stays.

    >>> title("patchmatch"), title("patchmatch, not run"), title("ours")
    ('PatchMatch', 'PatchMatch, not run', 'ours')
    """
    name, comma, rest = method.rpartition(", ")
    return TITLES.get(method) or (TITLES.get(name, name) + comma + rest)


def label(column: object) -> str:
    """A column's name as a page shows it: metric, region and unit in words.

    >>> label("psnr_hole, crop")
    'PSNR in the hole (dB), crop'
    >>> label("ssim_whole_composited - laplace")
    'SSIM of the whole, composited - Laplace fill'
    """
    metric = r"\b(psnr|ssim)_(hole|rim|context|whole)(_composited)?\b"

    def words(found: re.Match) -> str:
        unit = " (dB)" if found[1] == "psnr" else ""
        return f"{found[1].upper()} {REGIONS[found[2]]}{', composited' if found[3] else ''}{unit}"

    name, minus, rest = re.sub(metric, words, str(column)).partition(" - ")
    reference, comma, mode = rest.partition(", ")
    return f"{name}{minus}{title(reference)}{comma}{mode}"


def number_format(column: object) -> str:
    """The format of a column's numbers: two decimals, three for SSIM, and the sign of a difference ("a - b")."""
    return ("+" if " - " in str(column) else "") + (".3f" if "ssim" in str(column).lower() else ".2f")


def without_number(mean: float, row: str, column: str) -> str:
    """What stands for a mean that is infinite or not a number: the sign with its meaning, or a word.

    >>> without_number(math.inf, "cascade", "psnr_context"), without_number(math.nan, "laplace", "psnr_hole - laplace")
    ('∞ (identical)', 'reference')
    """
    if math.isinf(mean):
        identical = "psnr" in column.lower() and " - " not in column and mean > 0
        return f"{'-' * (mean < 0)}∞{' (identical)' * identical}"
    reference = column.partition(" - ")[2]
    return "reference" if reference and reference.partition(", ")[0] == row else "no value"


def show(cells: pd.DataFrame, caption: str = "", formats: Mapping[str, str] | None = None) -> Styler:
    """A DataFrame for a page: intervals under the means, and in a column of means the best one bold.

    Args:
        cells: Intervals, numbers, texts and None, by row and column; the index holds the rows' names.
        caption: what stands over it.
        formats: column -> format of its numbers. By default PSNR has two decimals, SSIM three, a difference ("a - b")
            its sign, other numbers two, and whole ones none.
    """
    texts, bold = {}, pd.DataFrame("", cells.index, range(cells.shape[1]))
    for j, column in enumerate(cells):
        spec = (formats or {}).get(str(column), number_format(column))
        texts[label(column)] = [_text(cell, spec, str(row), str(column)) for row, cell in cells[column].items()]
        means = [cell.mean if isinstance(cell, Interval) else -math.inf for cell in cells[column]]
        if " - " not in str(column) and len(set(means)) > 1:
            bold[j] = ["font-weight: bold" if mean == max(means) else "" for mean in means]
    shown = pd.DataFrame(texts, index=cells.index)
    shown.columns.name = cells.columns.name
    if shown.columns.name == "method" or set(shown.index) <= set(TITLES):
        shown = shown.rename(index=title)
    uuid = f"{zlib.crc32((caption + shown.to_string()).encode()):x}"  # another for each table, the same in each build
    styler = Styler(shown, uuid=uuid, caption=html.escape(caption, quote=False) or None, cell_ids=False)
    styler.set_table_attributes('class="dataframe"').format_index(escape="html").format_index(escape="html", axis=1)
    styler.format(lambda text: html.escape(str(text), quote=False).replace("\n", "<br>"))
    return styler.apply(lambda _: bold.to_numpy(), axis=None) if bold.any(axis=None) else styler


def _text(cell: Any, spec: str, row: str, column: str) -> str:
    if isinstance(cell, str):
        return cell
    if not isinstance(cell, Interval) and pd.isna(cell):
        return ""
    mean = cell.mean if isinstance(cell, Interval) else cell
    if math.isinf(mean) or (isinstance(cell, Interval) and math.isnan(mean)):
        return without_number(mean, row, column)
    if isinstance(cell, Interval):
        return format(cell, spec).replace(" [", "\n[").replace(", ", ",\N{NO-BREAK SPACE}")
    return format(cell, ",d" if isinstance(cell, int | np.integer) and spec.endswith("f") else spec)
