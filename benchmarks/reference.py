"""Trains and measures all that `results/` holds, in slices that resume: `python -m benchmarks.reference FOLDER`.

FOLDER holds the photos and gets everything that is made of them, so it can travel between machines as one:

    FOLDER/train               photos to train on
    FOLDER/bsd300              photos to test on; never trained or tuned on
    FOLDER/imagenet            the same
    FOLDER/runs                trained stages and what their resuming needs
    FOLDER/results             the tables, and the weights in half precision

What is there already is kept. With `--minutes` training stops before they are over (exit code 75) and the same command
goes on, on this machine or, with FOLDER carried along, on another. No network is needed: `--vgg` names the VGG-16
weights, and every record says which were used.
"""

import argparse
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from cascade_lab import PAUSED, data, devices, published
from cascade_lab.evaluation import ablation, records
from cascade_lab.evaluation.evaluate import Asked, evaluate_photos
from cascade_lab.evaluation.protocol import Protocol, open_test_photos
from cascade_lab.training import checkpoints, profiles, stages

SETS = {"bsd300": "BSD300", "imagenet": "ImageNet"}
MODES = ("crop", "resize")
RESULTS = Path("results")
DEGRADED = ("low", "medium", "high")  # the levels of blur and noise
CLASSICAL = ("input", "mean", "laplace", "biharmonic", "telea", "patchmatch", "k-nn")
NETWORKS = ("separate", "inpainted", "cascade", "inpainted+", "cascade+")
PUBLISHED = {"cascade": {"cascade": 4, "stage 1": 1}, "cascade+": {"cascade+": 4, "stage 1+": 1}}  # and their stages
TRAINED = ("generator, MSE", "generator", *NETWORKS, "context encoder")
PATCHES = "neural patch synthesis"  # by itself: six seconds a photo on one core
CHAINS = ("input", "laplace", "classical chain", "blind chain", *NETWORKS)
# Two cores would take hours for a variant that trains both networks from scratch at 128 px: the cpu profile's variants
# are compared at half the size, on a tenth of 10,000, 200, 2,000 and 800 steps.
CPU_VARIANTS = {"size": 64, "hole": 28, "generator_widths": (24, 32, 64, 96, 64), "deblur_denoise_width": 24}
CPU_VARIANTS |= {"stage2_batch": 16, "stage3_steps": 2000, "stage4_steps": 800}

Task = tuple[str, Callable[[float], None]]
"""What is made, and what makes it: a function of the time of `time.monotonic` at which to stop at the latest."""


def networks(name: str, base: dict[str, Any]) -> Iterator[Task]:
    """The trained networks, and the published weights in half precision."""
    photos = data.open_photos("train")
    for kind, changes in {"cascade": base, "cascade+": profiles.PLUS | base}.items():
        profile = profiles.read(name, changes)
        for stage in (4, "context_encoder") if kind == "cascade" else (4,):

            def train(until: float, stage: int | str = stage, profile: profiles.Profile = profile) -> None:
                stages.train(stage, profile, photos, "runs", until=until)

            yield f"stage {stage} of {kind}", train
        for weights, stage in PUBLISHED[kind].items():
            out = published.path_of(weights, RESULTS)
            if not out.exists():
                trained = weights_of(stage, profile, photos)
                yield str(out), lambda until, trained=trained, out=out: published.publish(trained, out)


def weights_of(stage: int | str, profile: profiles.Profile, photos: data.Photos) -> Path:
    job = stages.Job(profile, photos, Path("runs"), 0, devices.fabric_for(profile.precision))
    return stages.folder_of(stage, job) / checkpoints.WEIGHTS


def evaluations(name: str, vgg: str, base: dict[str, Any]) -> Iterator[Task]:
    """The rows of ``evaluations.parquet``; what stands there already is passed over."""
    own = [RESULTS / file for file in published.NAMES.values()]
    profile, photos = profiles.read(name, base), data.open_photos("train")
    every = [*own, *(weights_of(stage, profile, photos) for stage in (1, 2, 3, "context_encoder"))]
    # Photos that everybody has: a test measures them again.
    grid = Asked(("laplace", "inpainted", "cascade", "inpainted+", "cascade+"), own)
    yield from evaluation(grid, (), None, Protocol(mode="grid"))
    for folder, label in SETS.items():
        for mode in MODES:
            yield from evaluation(Asked(CLASSICAL, train="train"), (folder,), label, Protocol(mode=mode))
            yield from evaluation(Asked((PATCHES,), every[-1:], vgg), (folder,), label, Protocol(mode=mode))
            yield from evaluation(Asked(TRAINED, every), (folder,), label, Protocol(mode=mode))
            for level in DEGRADED:
                asked = Asked(CHAINS, every, train="train")
                yield from evaluation(asked, (folder,), label, Protocol(mode=mode, level=level))


def evaluation(asked: Asked, folders: Sequence[str], label: str | None, protocol: Protocol) -> Iterator[Task]:
    """One task, or none if its rows are there."""
    place = {"data_set": label or "scikit-image", "mode": protocol.mode, "level": protocol.level}
    if not recorded("evaluations", "method", asked.names, place):
        yield (
            ", ".join([*place.values(), *asked.names]),
            lambda until: evaluate_photos(asked, open_test_photos(folders), place["data_set"], protocol, RESULTS),
        )


def recorded(table: str, column: str, names: Sequence[str], place: dict[str, str]) -> bool:
    """Whether a table has rows of all these names at a place."""
    if not (RESULTS / f"{table}.parquet").is_file():
        return False
    rows = records.read_table(RESULTS, table)
    return set(names) <= set(rows.loc[(rows[list(place)] == list(place.values())).all(axis=1), column])


def ablations(name: str, base: dict[str, Any], seeds: list[int]) -> Iterator[Task]:
    """The rows of ``ablations.parquet``; what stands there already is passed over."""
    profile = profiles.read(name, base | (CPU_VARIANTS if name == "cpu" else {}))
    profile = ablation.shortened(profile, 0.1) if name == "cpu" else profile
    names = [ablation.FULL, "no pre-training", "only GAN", *ablation.EXTENSIONS]
    for folder, label in SETS.items():
        for mode in MODES:
            if not recorded("ablations", "variant", names, {"data_set": label, "mode": mode}):
                photos, test = data.open_photos("train"), open_test_photos((folder,))
                plan = ablation.Plan(profile, photos, test, label, mode, seeds, names)
                yield (
                    f"variants on {label}, {mode}",
                    lambda until, plan=plan: ablation.ablate(plan, Path("runs"), RESULTS, until=until),
                )


def tasks(name: str, vgg: str, seeds: list[int]) -> Iterator[Task]:
    """All that is still to be done, in its order; paths are relative to the folder."""
    base = {"perceptual_weights": vgg}
    yield from networks(name, base)
    yield from evaluations(name, vgg, base)
    yield from ablations(name, base, seeds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="with the photos in train, bsd300 and imagenet")
    parser.add_argument("--profile", default="gpu", choices=("cpu", "gpu", "paper"), help="default: gpu")
    parser.add_argument("--vgg", default="imagenet", help="imagenet, random or a VGG-16 state dict (default: imagenet)")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the variants of Table 2 (default: 0 1 2)"
    )
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop, saved, after so long (exit code 75)")
    args = parser.parse_args()
    until = time.monotonic() + 60 * args.minutes
    for name in ("train", *SETS):
        if not (args.folder / name).is_dir():
            parser.exit(1, f"error: there is no folder {args.folder / name}: put or link the photos there\n")
    os.chdir(args.folder)  # so that the records hold no path of one machine
    try:
        for made, make in tasks(args.profile, args.vgg, args.seeds):
            if time.monotonic() >= until:
                parser.exit(PAUSED, "paused between two tasks; the same command goes on\n")
            print(made, flush=True)
            make(until)
    except stages.Paused as pause:
        parser.exit(PAUSED, f"{pause}\n")
    except (ImportError, ValueError, RuntimeError, OSError) as error:
        parser.exit(1, f"error: {error}\n")


if __name__ == "__main__":
    main()
