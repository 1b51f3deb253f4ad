"""Table 2 and the questions behind it: the cascade with one thing changed, from one definition, on several seeds.

From the shell::

    python -m cascade_lab.evaluation.ablation --profile gpu --data PHOTOS --test TEST --out ablation.json --seeds 0 1 2

Arms share what they have in common: the stages before the change are trained once for each seed, and a run that was
cut is resumed, since `stages.train` does both.
"""

import argparse
import json
import math
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cascade_core.metrics import Interval
from cascade_core.models import Cascade
from cascade_lab import PAUSED, data, devices
from cascade_lab.evaluation import evaluate
from cascade_lab.training import profiles, stages
from cascade_lab.training.profiles import Profile

INTACT = "intact"
LEVELS = ("none", "medium")  # the hole alone, as in the paper's Table 2, and the hole with blur and noise

RECORDED = ("psnr_hole", "psnr_context", "psnr_whole", "ssim_hole", "ssim_whole")  # what a result's file keeps

Runs = dict[str, dict[str, Any]]
"""arm -> ``"changes"``, and ``"runs"``: for each seed ``"seed"``, ``"record"`` and ``"values"`` (level -> metric)."""


def arms(profile: Profile) -> dict[str, dict[str, Any]]:
    """What each arm changes in a profile. The first three are the paper's Table 2.

    Without pre-training, both networks start from fresh weights at the first stage's rate, and the generator gets as
    many steps as the three stages give the intact one's: what is missing is the order of the training, not its length.

    Example:
        >>> arms(profiles.read("smoke", {"stage1_steps": 30, "stage2_steps": 4, "stage4_steps": 6}))["no pre-training"]
        {'stage4_start': 'scratch', 'stage4_steps': 40, 'stage4_rate': 0.002}
    """
    scratch = {
        "stage4_start": "scratch",
        "stage4_steps": profile.stage1_steps + profile.stage2_steps + profile.stage4_steps,
        "stage4_rate": profile.stage1_rate,
    }
    return {
        INTACT: {},
        "no pre-training": scratch,
        "only GAN": {"stage4_networks": "generator"},
        "batch norm frozen": {"stage4_batch_norm": "freeze"},
        "batch norm plain": {"stage4_batch_norm": "plain"},
        "no perceptual loss": {"perceptual_weight": 0.0},
    }


def gains(profile: Profile) -> dict[str, dict[str, Any]]:
    """What makes the paper's cascade into ``cascade+``, one addition after the other, each on top of those before.

    Example:
        >>> list(gains(profiles.read("smoke")))
        ['Laplace start', 'and mask', 'cascade+']
    """
    return {
        "Laplace start": {"generator_fill": "laplace"},
        "and mask": {"generator_fill": "laplace and mask"},
        "cascade+": {"generator_fill": "laplace and mask", "hole_place": "anywhere"},
    }


def shortened(profile: Profile, share: float) -> Profile:
    """A profile with a share of every stage's steps, for arms that would take too long otherwise.

    Batch norm is measured on ten batches at least: a mean over fewer would be another kind of luck.

    Example:
        >>> shortened(profiles.read("gpu"), 0.1).stage1_steps
        4000
    """
    if not 0 < share <= 1:
        raise ValueError(f"the share of the steps must be above 0 and at most 1, got {share:g}")
    names = [f"stage{number}_steps" for number in stages.STAGES]
    steps = {name: max(1, round(share * getattr(profile, name))) for name in names}
    measured = min(profile.stage4_norm_steps, max(10, round(share * profile.stage4_norm_steps)))
    return profile.changed(**steps, stage4_norm_steps=measured)


def run(
    profile: Profile,
    photos: data.Photos,
    crops: Tensor,
    out: str | Path,
    seeds: Sequence[int] = (0, 1, 2),
    names: Sequence[str] | None = None,
    levels: Sequence[str] = LEVELS,
    report: Callable[[str], None] = print,
    until: float = math.inf,
) -> Runs:
    """Train every arm on every seed, or load what is trained, and measure each on the same images.

    Args:
        photos: the training photos.
        crops: the true test images, ``(N, 3, size, size)`` in [0, 1].
        out: where the networks are kept.
        names: the arms to run, of `arms` and `gains`; all of `arms` by default.
        report: gets a line before each training.
        until: the time of `time.monotonic` at which to stop at the latest.

    Raises:
        ValueError: an unknown arm, or a seed that is given twice; before anything is trained.
        Paused: ``until`` came first; the next call goes on.
    """
    every, names = arms(profile) | gains(profile), list(names or arms(profile))
    if unknown := [name for name in names if name not in every]:
        raise ValueError(f"unknown arm {unknown[0]!r}; the arms are {', '.join(every)}")
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds must be one or more different numbers, got {list(seeds)}")
    fabric = devices.fabric_for(profile.precision)
    results: Runs = {name: {"changes": every[name], "runs": []} for name in names}
    for i, seed in enumerate(seeds):
        for k, name in enumerate(names):
            report(f"{name}, seed {seed} ({i * len(names) + k + 1} of {len(names) * len(seeds)})")
            arm = profile.changed(**every[name])
            trained = stages.train(4, arm, photos, out, seed, fabric, until)
            method = evaluate.network(Cascade(**trained.networks).eval(), "restored")
            values = {}
            for level in levels:
                protocol = evaluate.Protocol(profile.size, profile.hole, level=level)
                values[level] = evaluate.evaluate({name: method}, crops, protocol)[name]["values"]
            results[name]["runs"].append({"seed": seed, "values": values, "record": trained.record})
    return results


def values_of(results: Mapping[str, Mapping[str, Any]], arm: str, level: str, metric: str) -> Tensor:
    """The values of an arm, ``(seeds, images)`` float64."""
    runs = results[arm]["runs"]
    return torch.stack([torch.as_tensor(one["values"][level][metric], dtype=torch.float64) for one in runs])


def crossed_interval(values: Tensor, resamples: int = 4000, seed: int = 0) -> Interval:
    """The mean over seeds and images with its 95 % interval: both are drawn anew in each resample (Owen 2007).

    Images alone would tell how sure the difference between these very networks is; what is asked is what the change
    does to a network trained with any seed. With three seeds the interval reaches about from the worst seed to the
    best, which holds the true mean three times in four as far as the seeds go: take it for a lower bound of the doubt.
    With one seed it is an interval over images alone.

    Args:
        values: ``(seeds, images)``, differences image by image and seed by seed.

    Example:
        >>> print(crossed_interval(torch.tensor([[1.0, 2.0, 3.0], [2.0, 3.0, 4.0]])))
        2.500 [1.333, 3.667]
    """
    if values.ndim != 2 or values.numel() == 0:
        raise ValueError(f"values must be (seeds, images), at least one of each, got {tuple(values.shape)}")
    values, draws = values.double(), []
    rng = torch.Generator().manual_seed(seed)
    for count in values.shape:
        chosen = torch.randint(count, (resamples, count), generator=rng)
        draws.append(torch.nn.functional.one_hot(chosen, count).double().mean(1))  # (resamples, count), weights
    means = ((draws[0] @ values) * draws[1]).sum(1)
    low, high = torch.quantile(means, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Interval(values.mean().item(), low, high, values.numel())


def difference(results: Mapping[str, Mapping[str, Any]], arm: str, level: str, metric: str) -> Tensor:
    """An arm less the intact one, ``(seeds, images)``: each network beside the one of the same seed."""
    seeds = [[one["seed"] for one in results[name]["runs"]] for name in (arm, INTACT)]
    if seeds[0] != seeds[1]:
        raise ValueError(f"differences need the same seeds: {arm} has {seeds[0]}, {INTACT} has {seeds[1]}")
    return values_of(results, arm, level, metric) - values_of(results, INTACT, level, metric)


def table_2(readings: Mapping[str, Mapping[str, Mapping[str, Any]]], level: str, data_set: str | None = None) -> str:
    """The book's Table 2 in Markdown: each arm's means and its differences to the intact one, the paper's beside them.

    Args:
        readings: "crop", "shrink" and the like -> results of `run`; of all but the first, differences of PSNR alone.
        level: of blur and noise, one of those that were run.
        data_set: "BSD300" or "ImageNet", whose column of the paper stands beside; ``None`` leaves the paper out.
    """
    theirs = evaluate.paper()["table 2"][data_set]["psnr"] if data_set else {}
    primary, rows, cells = next(iter(readings)), [], []
    for name in readings[primary]:
        row: dict[str, Any] = {"method": name}  # the word of `tables.markdown` for a row
        for mode, results in readings.items():
            for metric in ("psnr_hole", "ssim_whole") if mode == primary else ("psnr_hole",):
                if mode == primary:
                    mean = values_of(results, name, level, metric).mean().item()
                    row[f"{metric}, {mode}"] = Interval(mean, math.nan, math.nan, 1)  # differences have intervals
                gap = None if name == INTACT else crossed_interval(difference(results, name, level, metric))
                row[f"{metric} - intact, {mode}"] = gap
        rows.append(row)
        gap = f"<br>{theirs[name] - theirs[INTACT]:+.2f}" if name in theirs and name != INTACT else ""
        cells.append(f"{theirs[name]:.2f}{gap}" if name in theirs else "")
    table = evaluate.markdown(rows)
    return evaluate.beside(table, f"PSNR, paper on {data_set}", cells) if data_set else table


def verdict(interval: Interval, expected: float) -> str:
    """What a difference says about a claimed one, in words.

    Example:
        >>> verdict(Interval(-0.5, -0.8, -0.2, 54), -1.2), verdict(Interval(-0.1, -0.4, 0.2, 54), -1.2)
        ('same direction, smaller', 'cannot be told apart from no difference')
    """
    if not interval.low <= interval.high or interval.low <= 0 <= interval.high:
        return "cannot be told apart from no difference"
    if interval.mean * expected < 0:
        return "the opposite"
    if interval.low <= expected <= interval.high:
        return "holds"
    return "same direction, smaller" if abs(interval.mean) < abs(expected) else "same direction, larger"


def read(path: str | Path) -> dict[str, Any]:
    """A result that `main` wrote.

    Raises:
        ValueError: it is no such file.
    """
    try:
        content = json.loads(Path(path).read_text())
        for arm in content["arms"].values():
            for one in arm["runs"]:
                for level in one["values"].values():
                    level.update({metric: [float(v) for v in values] for metric, values in level.items()})
    except (OSError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} is no result of cascade_lab.evaluation.ablation ({error})") from error
    return content


def recorded(folder: str | Path) -> dict[str, dict[str, dict[str, Any]]]:
    """What a folder's ``ablation*.json`` hold: data set -> mode -> arms, as `run` returns them."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for path in sorted(Path(folder).glob("ablation*.json")):
        result = read(path)
        found.setdefault(result["name"], {})[result["mode"]] = result["arms"]
    return found


def kept(arm: Mapping[str, Any]) -> dict[str, Any]:
    """An arm of `run` as its file keeps it: with the metrics that its tables show."""
    runs = [
        {**one, "values": {level: {m: of[m] for m in RECORDED} for level, of in one["values"].items()}}
        for one in arm["runs"]
    ]
    return {**arm, "runs": runs}


def main(arguments: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(
        prog="python -m cascade_lab.evaluation.ablation",
        description="Train the arms of Table 2, or resume, and measure them.",
    )
    parser.add_argument("--profile", default="smoke", help=f"one of {', '.join(profiles.PROFILES)} (default: smoke)")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="change the profile")
    parser.add_argument("--share", type=float, default=1.0, help="of the profile's steps (default: 1)")
    parser.add_argument("--data", help="a folder of training photos (default: those that come with scikit-image)")
    parser.add_argument("--test", help="a folder of test photos (default: those that come with scikit-image)")
    parser.add_argument("--mode", default="crop", choices=("crop", "shrink", "grid"), help="of test photos (crop)")
    parser.add_argument("--name", help="the test set's name in tables, BSD300, say (default: the folder's)")
    parser.add_argument("--runs", default="runs", help="where the networks are kept (default: runs)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", help="default: those of Table 2")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop, saved, after so long (exit code 75)")
    parser.add_argument("--out", type=Path, required=True, help="the result, a JSON file")
    parser.add_argument("--force", action="store_true", help="replace a result that is there")
    args = parser.parse_args(arguments)
    until = time.monotonic() + 60 * args.minutes
    try:
        evaluate.writable(args.out, args.force)
        profile = profiles.read(args.profile, dict(profiles.parse_setting(text) for text in args.set))
        profile = shortened(profile, args.share)
        photos, test = data.open_photos(args.data, "train"), data.open_photos(args.test, "test")
        if photos.hash == test.hash:
            raise ValueError(
                f"--data and --test are the same photos ({photos.source}): a test photo may not be trained on"
            )
        crops, begin = data.test_crops(test, profile.size, args.mode), time.monotonic()
        results = run(
            profile, photos, crops, args.runs, args.seeds, args.arms, report=partial(print, flush=True), until=until
        )
        content = {
            "kind": "ablation",
            "name": args.name or (Path(args.test).name if args.test else "scikit-image"),
            "profile": profile.model_dump(),
            "mode": args.mode,
            "seeds": args.seeds,
            "photos": data.photos_record(test),
            "images": data.crop_names(test, profile.size, args.mode),
            "arms": {name: kept(arm) for name, arm in results.items()},
            **evaluate.circumstances(devices.fabric_for(profile.precision).device),
            "seconds": round(time.monotonic() - begin),
            "command": shlex.join(["python", "-m", "cascade_lab.evaluation.ablation", *arguments]),
        }
        evaluate.write(args.out, content)
    except stages.Paused as pause:
        parser.exit(PAUSED, f"{pause}\n")
    except (ValueError, RuntimeError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
    print(f"written: {args.out}")


if __name__ == "__main__":
    main()
