"""Trains and measures all that `results/` holds, in slices that resume: `python -m benchmarks.reference FOLDER`.

FOLDER holds the photos and gets everything that is made of them, so it can travel between machines as one:

    FOLDER/train               photos to train on
    FOLDER/bsd300              photos to test on; never trained or tuned on
    FOLDER/imagenet            the same
    FOLDER/runs                trained stages and what their resuming needs
    FOLDER/results             the records, and the weights in half precision

What is there already is kept. With `--minutes` training stops before they are over (exit code 75) and the same command
goes on, on this machine or, with FOLDER carried along, on another. No network is needed: `--vgg` names the VGG-16
weights, and every record says which were used.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from cascade_lab import PAUSED, cli, data, devices, published
from cascade_lab.evaluation import ablation, evaluate
from cascade_lab.training import checkpoints, profiles, stages

SETS = {"bsd300": "BSD300", "imagenet": "ImageNet"}
MODES = ("crop", "shrink")
SPOILED = ("low", "medium", "high")  # the levels of blur and noise
CLASSICAL = ("input", "mean", "laplace", "biharmonic", "telea", "patchmatch", "k-nn")
NETWORKS = ("separate", "inpainted", "cascade", "inpainted+", "cascade+")
TRAINED = ("generator, MSE", "generator", *NETWORKS, "context encoder")
PATCHES = "neural patch synthesis"  # by itself: six seconds a photo on one core
CHAINS = ("input", "laplace", "classical chain", "blind chain", *NETWORKS)
# Two cores would take hours for an arm that trains both networks from scratch at 128 px: the cpu profile's arms are
# compared at half the size, on a tenth of 10,000, 200, 2,000 and 800 steps.
CPU_ARMS = ["size=64", "hole=28", "generator_widths=(24,32,64,96,64)", "deblur_denoise_width=24", "stage2_batch=16"]
CPU_ARMS += ["stage3_steps=2000", "stage4_steps=800"]

Task = tuple[Path | None, Callable[[list[str]], None], list[str]]
"""The file that is made (None: the command knows what is there), the command's ``main``, its arguments."""


def with_settings(changes: list[str]) -> list[str]:
    return [part for change in changes for part in ("--set", change)]


def train(arguments: list[str]) -> None:
    """``cascade train``, which ends with an exit status, as a function that returns when all went well."""
    try:
        cli.main(["train", *arguments])
    except SystemExit as end:
        if end.code:
            raise


def tasks(name: str, vgg: str, seeds: list[str]) -> Iterator[Task]:
    """All tasks in their order; paths are relative to the folder."""
    base, results = [f"perceptual_weights={vgg}"], Path("results")
    plus = [f"{key}={value}" for key, value in ablation.gains(profiles.read(name))["cascade+"].items()]
    photos = data.open_photos("train")

    def trained(stage: int | str, changes: list[str] = base) -> str:
        profile = profiles.read(name, dict(profiles.parse_setting(text) for text in changes))
        job = stages.Job(profile, photos, Path("runs"), 0, devices.fabric_for(profile.precision))
        return str(stages.folder_of(stage, job) / checkpoints.WEIGHTS)

    common = ["--profile", name, "--data", "train"]
    training = ["--profile", name, "--photos", "train"]
    yield None, train, ["4", *training, *with_settings(base)]
    yield None, train, ["context_encoder", *training, *with_settings(base)]
    yield None, train, ["4", *training, *with_settings(base + plus)]
    for kind, changes in {"cascade": base, "cascade+": base + plus}.items():
        out = results / published.NAMES[kind]
        yield out, published.main, [trained(4, changes), "--out", str(out)]

    own = [str(results / file) for file in published.NAMES.values()]
    every = ["--weights", *own, *(trained(stage) for stage in (1, 2, 3, "context_encoder"))]
    grid = results / "evaluation-scikit-image-grid.json"  # of photos that everybody has: a test measures them again
    methods = ["laplace", "inpainted", "cascade", "inpainted+", "cascade+"]
    yield grid, evaluate.main, ["--mode", "grid", "--weights", *own, "--methods", *methods, "--out", str(grid)]
    for folder, label in SETS.items():
        for mode in MODES:
            test = ["--images", folder, "--name", label, "--mode", mode, "--train", "train"]
            runs = {
                "": [*test, "--weights", "--methods", *CLASSICAL],
                "-trained": [*test, *every, "--methods", *TRAINED],
                **{f"-{level}": [*test, *every, "--level", level, "--methods", *CHAINS] for level in SPOILED},
                "-patches": [*test, "--weights", trained("context_encoder"), "--vgg", vgg, "--methods", PATCHES],
            }
            for kind, arguments in runs.items():
                out = results / f"evaluation-{folder}-{mode}{kind}.json"
                yield out, evaluate.main, [*arguments, "--out", str(out)]

    arms = ["intact", "no pre-training", "only GAN", *ablation.gains(profiles.read(name))]
    smaller = [*with_settings(CPU_ARMS), "--share", "0.1"] if name == "cpu" else []
    for folder, label in SETS.items():
        for mode in MODES:
            out = results / f"ablation-{folder}-{mode}.json"
            test = ["--test", folder, "--name", label, "--mode", mode, "--seeds", *seeds, "--arms", *arms]
            yield out, ablation.main, [*common, *with_settings(base), *smaller, *test, "--out", str(out)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="with the photos in train, bsd300 and imagenet")
    parser.add_argument("--profile", default="gpu", choices=("cpu", "gpu", "paper"), help="default: gpu")
    parser.add_argument("--vgg", default="imagenet", help="imagenet, random or a VGG-16 state dict (default: imagenet)")
    parser.add_argument("--seeds", nargs="+", default=["0", "1", "2"], help="of the arms of Table 2 (default: 0 1 2)")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop, saved, after so long (exit code 75)")
    args = parser.parse_args()
    until = time.monotonic() + 60 * args.minutes
    for name in ("train", *SETS):
        if not (args.folder / name).is_dir():
            parser.exit(1, f"error: there is no folder {args.folder / name}: put or link the photos there\n")
    os.chdir(args.folder)  # so that the records hold no path of one machine
    for out, command, arguments in tasks(args.profile, args.vgg, args.seeds):
        if out is not None and out.exists():
            continue
        left = (until - time.monotonic()) / 60
        if left <= 0:
            parser.exit(PAUSED, "paused between two tasks; the same command goes on\n")
        pausing = ["--minutes", str(left)] if command is not published.main and command is not evaluate.main else []
        print(f"{command.__module__} {' '.join(arguments)}", flush=True)
        command([*arguments, *(pausing if args.minutes < float("inf") else [])])
        sys.stdout.flush()


if __name__ == "__main__":
    main()
