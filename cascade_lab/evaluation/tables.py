"""Tables of measurements."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from cascade_core.metrics import PRIMARY, Interval, mean_interval, paired_interval


def table(
    measures: Mapping[str, Mapping[str, Tensor]], columns: Sequence[str] = PRIMARY, reference: str | None = None
) -> list[dict]:
    """Rows for a table: one for each method of {method: what `measure` returned}, all on the same images.

    A row holds "method", an Interval for each column and, beside a reference method, one for each column's paired
    difference to it ("psnr_hole - reference"); the reference's own row has None there. `json` writes rows as they are.
    Raises ValueError for a reference that is none of the methods.
    """
    if reference is not None and reference not in measures:
        raise ValueError(f"the reference {reference!r} is none of the methods: {', '.join(measures)}")
    rows = []
    for method, values in measures.items():
        row = {"method": method}
        for column in columns:
            row[column] = mean_interval(values[column])
            if reference is not None:
                difference = paired_interval(values[column], measures[reference][column])
                row[f"{column} - {reference}"] = difference if method != reference else None
        rows.append(row)
    return rows


def markdown(rows: Sequence[Mapping]) -> str:
    """Rows of `table` (also when read back from JSON) as a Markdown table; PSNR with 2 decimals, SSIM with 3.

    >>> print(markdown([{"method": "Laplace", "psnr_hole": (18.004, 17.31, 18.72, 100)}]))
    | method | psnr hole |
    | --- | --- |
    | Laplace | 18.00 [17.31, 18.72] |
    """
    if not rows:
        raise ValueError("no rows: a table needs at least one method")
    lines = [[key.replace("_", " ") for key in rows[0]], ["---"] * len(rows[0])]
    for row in rows:
        cells = [row["method"]]
        for key, value in list(row.items())[1:]:
            spec = ("+" if " - " in key else "") + (".3f" if key.startswith("ssim") else ".2f")
            cells.append("" if value is None else format(Interval(*value), spec))
        lines.append(cells)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
