"""Table 2 and the questions behind it: the cascade with one thing changed, from one definition, on several seeds.

From the shell::

    cascade ablate --profile gpu --photos PHOTOS --test TEST --out FOLDER --seeds 0 --seeds 1 --seeds 2

Variants share what they have in common: the stages before the change are trained once for each seed, and a run that
was cut is resumed, since `stages.train` does both.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cascade_core.metrics import Interval
from cascade_core.models import Cascade
from cascade_lab import data, devices
from cascade_lab.data.overlap import refuse_overlap
from cascade_lab.evaluation import records, tables
from cascade_lab.evaluation.evaluate import evaluate
from cascade_lab.evaluation.methods import from_network
from cascade_lab.evaluation.protocol import Protocol
from cascade_lab.training import stages
from cascade_lab.training.profiles import Profile

FULL = "full model"
LEVELS = ("none", "medium")  # the hole alone, as in the paper's Table 2, and the hole with blur and noise
RECORDED = ["psnr_hole", "psnr_context", "psnr_whole", "ssim_hole", "ssim_whole"]  # the metrics that are kept


EXTENSIONS: dict[str, dict[str, Any]] = {
    "Laplace start": {"generator_fill": "laplace"},
    "and mask": {"generator_fill": "laplace and mask"},
    "cascade+": {"generator_fill": "laplace and mask", "hole_place": "anywhere"},
}
"""What makes the paper's cascade into ``cascade+``, one addition after the other, each on top of those before."""


def variants(profile: Profile) -> dict[str, dict[str, Any]]:
    """What each variant changes in a profile. The first three are the paper's Table 2.

    Without pre-training, both networks start from fresh weights at the first stage's
    rate, and the generator gets as many steps as the three stages give the full
    model's: what is missing is the order of the training, not its length.
    """
    steps = profile.stage1_steps + profile.stage2_steps + profile.stage4_steps
    scratch = {
        "stage4_start": "scratch",
        "stage4_steps": steps,
        "stage4_rate": profile.stage1_rate,
    }
    return {
        FULL: {},
        "no pre-training": scratch,
        "only GAN": {"stage4_networks": "generator"},
        "batch norm frozen": {"stage4_batch_norm": "freeze"},
        "batch norm plain": {"stage4_batch_norm": "plain"},
        "no perceptual loss": {"perceptual_weight": 0.0},
    }


def changes_of(profile: Profile, names: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """Variants and `EXTENSIONS` by name, all `variants` by default; ``ValueError`` if a name is unknown."""
    every = variants(profile) | EXTENSIONS
    if unknown := [name for name in names if name not in every]:
        raise ValueError(f"unknown variant {unknown[0]!r}; the variants are {', '.join(every)}")
    return {name: every[name] for name in names or variants(profile)}


def shortened(profile: Profile, share: float) -> Profile:
    """A profile with a share of every stage's steps, for variants that would take too long otherwise.

    Batch norm is measured on ten batches at least: a mean over fewer would be another kind of luck.
    """
    if not 0 < share <= 1:
        raise ValueError(f"the share of the steps must be above 0 and at most 1, got {share:g}")
    names = [f"stage{number}_steps" for number in stages.STAGES]
    steps = {name: max(1, round(share * getattr(profile, name))) for name in names}
    measured = min(profile.stage4_norm_steps, max(10, round(share * profile.stage4_norm_steps)))
    return profile.changed(**steps, stage4_norm_steps=measured)


def compare(
    profile: Profile,
    photos: data.Photos | data.Shards,
    crops: Tensor,
    out: str | Path,
    seeds: Sequence[int] = (0, 1, 2),
    names: Sequence[str] = (),
    report: Callable[[str], None] = print,
    until: float = math.inf,
) -> tuple[pd.DataFrame, dict[str, dict[str, Any]]]:
    """Train every variant on every seed, or load what is trained; measure all alike.

    Args:
        photos: the training photos.
        crops: the true test images, ``(N, 3, size, size)`` in [0, 1].
        out: where the networks are kept.
        names: of the variants, as in `changes_of`.
        report: gets a line before each training.
        until: the time of `time.monotonic` at which to stop at the latest.

    Returns:
        A row for each level of `LEVELS`, variant, seed and image: "level", "size",
        "hole", "variant", "seed", "image" and what `metrics.measure` says; and
        variant -> seed -> the training's record.

    Raises:
        ValueError: an unknown variant, or a seed that is given twice; before anything
            is trained.
        Paused: ``until`` came first; the next call goes on.
    """
    changes = changes_of(profile, names)
    if not seeds or len(set(seeds)) < len(seeds):
        given = list(seeds)
        raise ValueError(f"seeds must be one or more different numbers, got {given}")
    fabric, results = devices.fabric_for(profile.precision), list[pd.DataFrame]()
    trainings: dict[str, dict[str, Any]] = {name: {} for name in changes}
    for number, (seed, name) in enumerate(product(seeds, changes), 1):
        report(f"{name}, seed {seed} ({number} of {len(changes) * len(seeds)})")
        changed = profile.changed(**changes[name])
        trained = stages.train(4, changed, photos, out, seed, fabric, until)
        method = from_network(Cascade(**trained.networks).eval(), "restored")
        for level in LEVELS:
            protocol = Protocol(profile.size, profile.hole, level=level)
            rows = evaluate({name: method}, crops, protocol)
            results.append(rows.rename(columns={"method": "variant"}).assign(seed=seed))
        trainings[name][str(seed)] = trained.record
    rows = pd.concat(results, ignore_index=True).drop(columns=["mode", "seconds"])
    return rows, trainings


@dataclass(frozen=True)
class Plan:
    """An ablation to record: what is trained on which photos, and what it is tested on."""

    profile: Profile
    photos: data.Photos | data.Shards  #: the training photos
    test: data.Photos
    name: str  #: of the test photos in tables
    mode: str = "crop"  #: how test photos become images
    seeds: Sequence[int] = (0, 1, 2)
    variants: Sequence[str] = ()  #: as in `changes_of`


def ablate(plan: Plan, runs: Path, out: Path, force: bool = False, until: float = math.inf) -> None:
    """Train and measure variants, and record that in a folder: its table ``ablations``.

    The networks are kept in ``runs``. Raises as `compare`, and what else cannot work, before the first step.
    """
    records.check_output(out, "ablations")
    profile, begin, changes = plan.profile, time.monotonic(), changes_of(plan.profile, plan.variants)
    Protocol(profile.size, profile.hole, plan.mode)
    setting = {"data_set": plan.name, "mode": plan.mode, "size": profile.size, "hole": profile.hole}
    images = data.crop_names(plan.test, profile.size, plan.mode)
    planned = records.planned(setting, level=LEVELS, seed=plan.seeds, variant=changes, image=images)
    records.merged(out, "ablations", planned, force)
    refuse_overlap(plan.photos, plan.test)
    crops = data.test_crops(plan.test, profile.size, plan.mode)
    report = partial(print, flush=True)
    rows, trainings = compare(profile, plan.photos, crops, runs, plan.seeds, plan.variants, report, until)
    rows = rows.assign(**setting, image=[images[number] for number in rows["image"]])
    record = {
        "kind": "ablation",
        "data_set": plan.name,
        "mode": plan.mode,
        "photos": [data.photos_record(plan.test)],
        "seeds": list(plan.seeds),
        "profile": profile.model_dump(mode="json"),
        "variants": changes,
        "trainings": trainings,
        "seconds": round(time.monotonic() - begin),
        **records.circumstances(devices.fabric_for(profile.precision).device),
    }
    records.write(out, "ablations", rows[[*records.SETTING, "variant", "seed", "image", *RECORDED]], record, force)


def grid(rows: pd.DataFrame, variant: str, level: str, metric: str) -> pd.DataFrame:
    """The values of a variant, a row for each seed and a column for each image.

    Raises:
        ValueError: the variant was not run, has diverged, or the rows are of several data sets or modes.
    """
    chosen = rows[(rows["variant"] == variant) & (rows["level"] == level)]
    if chosen.empty:
        raise ValueError(f"there is no {variant!r} at level {level}; there are {', '.join(rows['variant'].unique())}")
    if chosen.duplicated(["seed", "image"]).any():
        raise ValueError(f"{variant} has several rows for a seed and an image: choose one data set and mode")
    tables.values_of({variant: chosen}, variant, metric)  # refuses NaN
    return chosen.pivot(index="seed", columns="image", values=metric)


def difference(rows: pd.DataFrame, variant: str, level: str, metric: str) -> pd.DataFrame:
    """A variant less the full model, a `grid` of differences; ``ValueError`` where their seeds differ."""
    one, full = (grid(rows, name, level, metric) for name in (variant, FULL))
    if list(one.index) != list(full.index):
        seeds = f"{variant} has {list(one.index)}, {FULL} has {list(full.index)}"
        raise ValueError(f"differences need the same seeds: {seeds}")
    return one - full


def crossed_interval(
    values: Tensor | pd.DataFrame,
    resamples: int = 4000,
    seed: int = 0,
) -> Interval:
    """The mean over seeds and images and its 95 % interval, both drawn anew (Owen 2007).

    Images alone would tell how sure the difference between these very networks is. The
    question is what the change does to a network trained with any seed. With three
    seeds the interval reaches about from the worst seed to the best, which holds the
    true mean three times in four as far as the seeds go: take it for a lower bound of
    the uncertainty. With one seed it is an interval over images alone.

    Args:
        values: ``(seeds, images)``, differences image by image and seed by seed;
            ``ValueError`` for another shape.

    Example:
        >>> print(f"{crossed_interval(torch.tensor([[1.0, 2.0, 3.0], [2.0, 3.0, 4.0]])):.3f}")
        2.500 [1.333, 3.667]
    """
    values = torch.from_numpy(np.asarray(values).astype(np.float64))
    if values.ndim != 2 or values.numel() == 0:
        expected, shape = "(seeds, images), at least one of each", tuple(values.shape)
        raise ValueError(f"values must be {expected}, got {shape}")
    weights, rng = [], torch.Generator().manual_seed(seed)
    for count in values.shape:
        chosen = torch.randint(count, (resamples, count), generator=rng)
        times = torch.zeros(resamples, count, dtype=torch.float64)
        times.scatter_(1, chosen, 1.0, reduce="add")
        weights.append(times / count)
    means = ((weights[0] @ values) * weights[1]).sum(1)
    ends = torch.tensor([0.025, 0.975], dtype=torch.float64)
    low, high = torch.quantile(means, ends).tolist()
    return Interval(values.mean().item(), low, high, values.numel())


def table_2(rows: pd.DataFrame, level: str, data_set: str | None = None) -> pd.DataFrame:
    """The book's Table 2: each variant's means and its differences to the full model, the paper's beside them.

    Args:
        rows: from `compare` with a column "mode", or recorded, of one data set; of all modes but the first,
            differences of PSNR alone.
        data_set: "BSD300" or "ImageNet", whose column of the paper stands beside; ``None`` leaves the paper out.
    """
    theirs = tables.paper()["table 2"][data_set]["psnr"] if data_set else {}
    modes = {str(mode): part for mode, part in rows.groupby("mode", sort=False)}
    primary, cells = next(iter(modes)), dict[str, dict[str, Any]]()
    for name in modes[primary]["variant"].unique():
        row = cells.setdefault(name, {})
        for mode, part in modes.items():
            for metric in ("psnr_hole", "ssim_whole") if mode == primary else ("psnr_hole",):
                if mode == primary:
                    row[f"{metric}, {mode}"] = float(grid(part, name, level, metric).to_numpy().mean())
                gap = None if name == FULL else crossed_interval(difference(part, name, level, metric))
                row[f"{metric} - {FULL}, {mode}"] = gap
        if data_set:
            below = f"\n{theirs[name] - theirs[FULL]:+.2f}" if name in theirs and name != FULL else ""
            row[f"PSNR, paper on {data_set}"] = f"{theirs[name]:.2f}{below}" if name in theirs else None
    return tables.frame(cells, "variant")


def verdict(interval: Interval, expected: float) -> str:
    """What a difference says about a claimed one, in words.

    >>> verdict(Interval(-0.5, -0.8, -0.2, 54), -1.2)
    'same direction, smaller'
    """
    if not interval.low <= interval.high or interval.low <= 0 <= interval.high:
        return "cannot be told apart from no difference"
    if interval.mean * expected < 0:
        return "the opposite"
    if interval.low <= expected <= interval.high:
        return "holds"
    return "same direction, smaller" if abs(interval.mean) < abs(expected) else "same direction, larger"
