"""The paper's claims, and which of them the recorded results replicate."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
from pandas.io.formats.style import Styler

from cascade_core.metrics import Interval, mean_interval
from cascade_lab import published
from cascade_lab.evaluation import records, tables
from cascade_lab.evaluation.ablation import FULL, crossed_interval, difference

YES, ABOVE, DIRECTION, NO, UNKNOWN = "yes", "exceeded", "in direction", "no", "not measured"
COLUMNS = ("paper", "ours", "replicated?", "why")
SIZE = 128  # px, of the paper's test images
WORSE = "ours go the other way"
UNSURE = "ours cannot be told apart from no difference"
VARIANTS = {"no pre-training": "gain of pre-training", "only GAN": "gain of the second network"}


class Results(NamedTuple):
    """Recorded results of one data set: a row an image, and what is known of the runs."""

    evaluations: pd.DataFrame
    ablations: pd.DataFrame
    runs: Mapping[str, Mapping[str, Any]]


def verdicts(data_set: str = "BSD300", mode: str = "crop", results: Results | None = None) -> pd.DataFrame:
    """Each claim of the paper beside our result, in dB, with a verdict and its reason.

    The claims: the paper's row of Table 1 for each method; the lead of its cascade over each of the others, which is
    the order of the methods; the gains of pre-training and of the second network (section 4.3); and that one joint
    training is better than two separate ones (section 1, without a number).

    "yes": our interval contains the paper's number, and, where this is a difference, not zero. "exceeded": a row of
    Table 1 whose interval is above it. "in direction": a difference on the same side of zero, of another size. "no":
    none of these. A lead in the order of the methods and the joint training claim a sign alone, so an interval above
    zero is a "yes".

    Args:
        data_set: "BSD300" or "ImageNet".
        mode: "crop" or "resize", how photos became 128 px.
        results: the package's recorded ones by default.

    Returns:
        A frame with the claims as index and the columns "paper" (a number, or ``None`` for a claim without one), "ours"
        (an `Interval`), "replicated?" and "why". What was not measured has ``None`` for ours and "not measured".

    Raises:
        ValueError: an unknown data set, or no row of it in this mode.
    """
    every = results or recorded()
    theirs = tables.paper()["table 1"]
    if data_set not in theirs:
        raise ValueError(f"unknown data set {data_set!r}; the paper's are {', '.join(theirs)}")
    measured, variants = (rows[rows["data_set"] == data_set] for rows in (every.evaluations, every.ablations))
    here, alone = measured[measured["mode"] == mode], measured[measured["level"] == "none"]
    if here.empty:
        raise ValueError(f"there is no result of {data_set} in the mode {mode!r}")
    claims = _values(alone, mode, theirs[data_set]["psnr"], every.runs)
    claims |= _leads(alone[alone["mode"] == mode], theirs[data_set]["psnr"])
    claims |= _gains(variants[variants["mode"] == mode], tables.paper()["section 4.3"][data_set]["psnr"])
    claims |= _joint(here)
    frame = pd.DataFrame(claims.values(), columns=COLUMNS, index=pd.Index(claims), dtype=object)
    return frame.rename_axis(data_set, axis=1)


def recorded() -> Results:
    """The package's recorded results."""
    folder = published.folder()
    evaluations, ablations = (records.read_table(folder, name) for name in ("evaluations", "ablations"))
    return Results(evaluations, ablations, records.read_runs(folder)["runs"])


def table(frame: pd.DataFrame, caption: str = "") -> Styler:
    """What `verdicts` returns, for a page: PSNR in dB, and differences with their sign."""
    spec = {claim: "+.2f" if claim not in _rows_of_table_1() else ".2f" for claim in frame.index}
    shown = frame.copy()
    for column in ("paper", "ours"):
        shown[column] = [_text(cell, spec[claim]) for claim, cell in frame[column].items()]
    shown.columns = pd.Index(["paper, dB", "ours, dB", *COLUMNS[2:]], name=frame.columns.name)
    return tables.show(shown, caption)


def _text(cell: Any, spec: str) -> str:
    return "" if cell is None else format(cell, spec).replace(" [", "\n[").replace(", ", ",\N{NO-BREAK SPACE}")


def _rows_of_table_1() -> set[str]:
    return {_row(name) for rows in tables.paper()["table 1"].values() for name in rows["psnr"]}


def _row(method: str) -> str:
    return f"Table 1, {tables.title(method)}"


def judged(ours: Interval, claimed: float | None) -> tuple[str, str]:
    """The verdict on a difference, and why it is not a plain yes; ``None`` claims that it is above zero.

    >>> judged(Interval(0.5, 0.2, 0.8, 54), 1.2)
    ('in direction', 'ours is smaller')
    """
    sign = 1 if claimed is None or claimed > 0 else -1
    low, high = sorted((sign * ours.low, sign * ours.high))
    if not low <= high or low <= 0 <= high:
        return NO, UNSURE
    if high < 0:
        return NO, WORSE
    if claimed is None or low <= sign * claimed <= high:
        return YES, ""
    return DIRECTION, "ours is smaller" if sign * ours.mean < abs(claimed) else "ours is larger"


def _values(
    alone: pd.DataFrame, mode: str, theirs: Mapping[str, float], runs: Mapping[str, Mapping[str, Any]]
) -> dict[str, Sequence[Any]]:
    """The rows of Table 1: PSNR in the hole."""
    claims = dict[str, Sequence[Any]]()
    for method, number in theirs.items():
        rows = alone[alone["method"] == method]
        here = rows[rows["mode"] == mode]
        if here.empty:
            claims[_row(method)] = (number, None, UNKNOWN, "No result is recorded.")
            continue
        ours = mean_interval(here["psnr_hole"].tolist())
        verdict = YES if ours.low <= number <= ours.high else ABOVE if ours.low > number else NO
        reasons = [] if verdict == YES else [_distance(ours, number, rows[rows["mode"] != mode])]
        if verdict != YES and alone["data_set"].iloc[0] == "ImageNet":
            reasons.append(f"our {ours.n} photos are not the paper's draw")
        claims[_row(method)] = (number, ours, verdict, _sentence([*reasons, _handicap(method, here, runs)]))
    return claims


def _distance(ours: Interval, number: float, others: pd.DataFrame) -> str:
    """How far a mean is from the paper's, and what the other modes make of it."""
    where = f"ours is {abs(ours.mean - number):.2f} dB {'above' if ours.mean > number else 'below'}"
    means = others.groupby("mode")["psnr_hole"].mean()
    return where + "".join(f" ({mean:.2f} dB with {mode})" for mode, mean in means.items())


def _handicap(method: str, rows: pd.DataFrame, runs: Mapping[str, Mapping[str, Any]]) -> str:
    """What a row's rival lacks here that its authors gave it."""
    random = any(runs.get(run, {}).get("vgg") == "random" for run in rows["run"].unique())
    return "it compares random VGG-16 features here" if method == "neural patch synthesis" and random else ""


def _leads(here: pd.DataFrame, theirs: Mapping[str, float]) -> dict[str, Sequence[Any]]:
    """The order of the methods: the cascade's lead over each of the others in the paper's Table 1."""
    measures, claims = tables.by_method(here), dict[str, Sequence[Any]]()
    for method, number in theirs.items():
        if method == "cascade":
            continue
        claim, lead = f"order: cascade ahead of {tables.title(method)}", theirs["cascade"] - number
        if {"cascade", method} <= set(measures):
            ours = tables.paired(measures, "cascade", method, "psnr_hole")
            verdict, why = judged(ours, None)
            claims[claim] = (lead, ours, verdict, _sentence([why]))
        else:
            claims[claim] = (lead, None, UNKNOWN, "No result is recorded.")
    return claims


def _gains(variants: pd.DataFrame, losses: Mapping[str, float]) -> dict[str, Sequence[Any]]:
    """What pre-training and the second network are worth in the hole: section 4.3."""
    claims = dict[str, Sequence[Any]]()
    for variant, lost in losses.items():
        if not {variant, FULL} <= set(variants["variant"]):
            claims[VARIANTS[variant]] = (-lost, None, UNKNOWN, "No result is recorded.")
            continue
        ours = crossed_interval(-difference(variants, variant, "none", "psnr_hole"))
        verdict, why = judged(ours, -lost)
        reasons = [why, *(f"measured at {size} px" for size in variants["size"].unique() if size != SIZE)]
        if verdict != YES and variant == "no pre-training":
            reasons.append("the variant without it has as many steps here, and the paper does not say how many it had")
        elif verdict != YES and "medium" in set(variants["level"]):
            noisy = -difference(variants, variant, "medium", "psnr_whole").to_numpy().mean()
            reasons.append(f"its task is blur and noise, where it is worth {noisy:+.2f} dB on the whole image")
        claims[VARIANTS[variant]] = (-lost, ours, verdict, _sentence(reasons))
    return claims


def _joint(here: pd.DataFrame) -> dict[str, Sequence[Any]]:
    """Joint training over separate ones, with blur and noise, on the whole image."""
    claim = "joint ahead of separate training, blur and noise"
    measures = tables.by_method(here[here["level"] == "medium"])
    if not {"cascade", "separate"} <= set(measures):
        return {claim: (None, None, UNKNOWN, "No result is recorded.")}
    ours = tables.paired(measures, "cascade", "separate", "psnr_whole")
    verdict, why = judged(ours, None)
    if verdict == NO and {"cascade", "separate"} <= set(here.loc[here["level"] == "none", "method"]):
        clean = tables.paired(tables.by_method(here[here["level"] == "none"]), "cascade", "separate", "psnr_hole")
        why += f"; in the hole of clean photos it is worth {clean.mean:+.2f} dB"
    return {claim: (None, ours, verdict, _sentence([why]))}


def _sentence(parts: Sequence[str]) -> str:
    """The parts that say something, as one sentence."""
    text = "; ".join(part for part in parts if part)
    return f"{text[0].upper()}{text[1:]}." if text else ""
