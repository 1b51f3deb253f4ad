"""Short trainings behind the cpu profile: `python -m benchmarks.choices PHOTOS --stage 3 --out FOLDER`.

Stage 2 is a game, so what counts there is not the pixels seen but whether the critic stays alive and the generator
follows: all options make the same steps from one stage 1, and the critic's distance and gradient are recorded too.

PHOTOS is a folder of training photos of which `cascade data folder PHOTOS --test 0.1` has put some aside; on
those each option is measured, so nothing is chosen on the test sets. An option changes one thing and sees as many
pixels as the others, unless it is named after that: what is compared is what a processor learns in a few minutes.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch

from benchmarks.reference import DEGRADED
from cascade_core import degradations, metrics
from cascade_lab import data, devices
from cascade_lab.data.overlap import refuse_overlap
from cascade_lab.evaluation import records
from cascade_lab.evaluation.evaluate import evaluate
from cascade_lab.evaluation.methods import Method, from_network, restore_all, without_training
from cascade_lab.evaluation.perception import detail_share
from cascade_lab.evaluation.protocol import Protocol, degraded_images
from cascade_lab.training import profiles, stages
from cascade_lab.training.profiles import Profile

CROPS = 19_200  # of the profile's size, seen by each option
# With the authors' VGG-16, these weights make the gradients of squared error and perceptual loss at stage 1's images
# about alike; that of a young critic, clipped at 0.01, is two to three times as large.
GAME = {"critic_sees": "center", "perceptual_weight": 2e-8, "adversarial_weight": 0.1}
GAME |= {"stage2_rate": 2e-4, "critic_rate": 2e-4, "stage1_steps": CROPS // 16, "stage2_steps": 300}
OPTIONS = {
    1: {
        "as in the profile": {},
        "batch 32": {"stage1_batch": 32},
        "batch 64": {"stage1_batch": 64},
        "rate 3e-4": {"stage1_rate": 3e-4},
        "rate 3e-3": {"stage1_rate": 3e-3},
        "narrower": {"generator_widths": (24, 32, 64, 96, 64)},
        "wider": {"generator_widths": (48, 64, 128, 256, 256)},
        "Laplace start": {"generator_fill": "laplace"},
        "crops at 1:1 only": {"scale": (0.0, 0.0)},
    },
    2: {
        "balanced, rates 2e-4": GAME,
        "adversarial weight 1": GAME | {"adversarial_weight": 1.0},
        "clipped at 0.03": GAME | {"critic_clip": 0.03},
        "5 critic steps": GAME | {"critic_steps": 5},
    },
    3: {
        "as in the profile": {},
        "batch 64": {"stage3_batch": 64},
        "64 patches of 32 px": {"stage3_batch": 64, "stage3_patch": 32},
        "4 patches of 128 px": {"stage3_batch": 4, "stage3_patch": 128},
        "rate 3e-4": {"stage3_rate": 3e-4},
        "rate 3e-3": {"stage3_rate": 3e-3},
        "32 channels": {"deblur_denoise_width": 32},
        "96 channels": {"deblur_denoise_width": 96},
        "level medium alone": {"stage3_mix": {"medium": 1.0}},
        "crops at 1:1 only": {"scale": (0.0, 0.0)},
        "four times the crops": {"stage3_steps": 4 * 1_200},
        "four times the crops, rate 3e-3": {"stage3_steps": 4 * 1_200, "stage3_rate": 3e-3},
    },
}


def steps_of(stage: int, profile: Profile) -> int:
    """Steps in which the stage sees as many pixels as in ``CROPS`` crops of the unchanged profile's size."""
    plan, unchanged = stages.STAGES[stage], profiles.read(profile.name, {})
    return CROPS * plan.side(unchanged) ** 2 // (plan.setting(profile, "batch") * plan.side(profile) ** 2)


def filled(method: Method, photos: data.Photos, profile: Profile) -> list[dict]:
    """Stage 1: PSNR in the hole (dB) and SSIM with the context put back, of photos that are cut or resized."""
    found = []
    for mode in ("crop", "resize"):
        crops = data.test_crops(photos, profile.size, mode)
        values = evaluate({"": method}, crops, Protocol(profile.size, profile.hole, mode))
        for metric in ("psnr_hole", "ssim_whole_composited"):
            found.append({"mode": mode, "level": "none", "metric": metric, "value": round(values[metric].mean(), 4)})
    return found


def restored(method: Method, photos: data.Photos, profile: Profile) -> list[dict]:
    """Stage 3: PSNR (dB) of cut photos without a hole, for each level of blur and noise."""
    crops, found = data.test_crops(photos, profile.size, "crop"), []
    for level in DEGRADED:
        degraded = degradations.degrade(crops, None, {level: 1.0}, devices.random_for("cpu", 0))
        value = metrics.psnr(restore_all(method, degraded), crops).mean().item()
        found.append({"mode": "crop", "level": level, "metric": "psnr", "value": round(value, 4)})
    return found


def played(method: Method, photos: data.Photos, profile: Profile) -> list[dict]:
    """Stage 2: as stage 1, and the fills' share of the true detail."""
    found = filled(method, photos, profile)
    for mode in ("crop", "resize"):
        crops = data.test_crops(photos, profile.size, mode)
        degraded = degraded_images(crops, Protocol(profile.size, profile.hole, mode))
        value = detail_share(restore_all(method, degraded), crops, degraded.masks)
        found.append({"mode": mode, "level": "none", "metric": "detail_share", "value": round(value, 4)})
    return found


Score = Callable[[Method, data.Photos, Profile], list[dict]]
SCORES: dict[int, Score] = {1: filled, 2: played, 3: restored}
UNTRAINED = {1: "laplace", 2: "laplace", 3: "input"}
CURVES = ("distance", "critic_gradient")  # of stage 2, over the last quarter of the steps


def measure(stage: int, changes: dict, score: Score, photos: data.Photos, held_out: data.Photos, out: Path) -> list:
    """Train a stage with some settings changed, and measure it on the held-out photos: a row for each measure."""
    profile, steps = profiles.read("cpu", changes), f"stage{stage}_steps"
    if steps not in changes:
        profile = profile.changed(**{steps: steps_of(stage, profile)})
    run = stages.train(stage, profile, photos, out)
    method = from_network(run.networks[stages.STAGES[stage].networks[0]])
    found = score(method, held_out, profile)
    last = pd.DataFrame(run.history[-max(1, len(run.history) // 4) :]).mean()
    found += [{"mode": "", "level": "", "metric": name, "value": last[name]} for name in CURVES if name in last]
    return [{"steps": getattr(profile, steps), "seconds": run.record["seconds"], **row} for row in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", help="a folder of photos with a manifest.json")
    parser.add_argument("--stage", type=int, choices=OPTIONS, default=1, help="what is trained (default: 1)")
    parser.add_argument(
        "--vgg", default="caffe", help="of stage 2's perceptual loss, as the setting perceptual_weights"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the networks are kept (default: runs)")
    parser.add_argument("--out", type=Path, required=True, help="the folder of the table")
    parser.add_argument("--force", action="store_true", help="replace a result that is there")
    args = parser.parse_args()
    try:
        records.check_output(args.out, "choices")
        if (args.out / "choices.parquet").is_file() and not args.force:
            known = records.read_table(args.out, "choices")
            if args.stage in set(known["stage"]):
                raise ValueError(f"{args.out} holds the choices of stage {args.stage} already: --force replaces them")
        photos, held_out = (data.open_photos(args.photos, split) for split in ("train", "test"))
        refuse_overlap(photos, held_out)  # python -m data_scripts.folder puts photos aside
        untrained = UNTRAINED[args.stage]
        score = SCORES[args.stage]
        found = score(without_training()[0][untrained], held_out, profiles.read("cpu", {}))
        rows = [{"option": untrained, **row} for row in found]
        tried = [(args.stage, name, changes) for name, changes in OPTIONS[args.stage].items()]
        if args.stage == 2:  # its games start from one stage 1, which is measured too
            vgg = {"perceptual_weights": args.vgg}
            tried = [(1, "stage 1", GAME), *((stage, name, changes | vgg) for stage, name, changes in tried)]
        for stage, name, changes in tried:
            found = measure(stage, changes, score, photos, held_out, args.runs)
            print(name, *(f"{row['metric']} {row['mode']} {row['level']}: {row['value']}" for row in found), flush=True)
            rows += [{"option": name, **row} for row in found]
        record = {
            "kind": "choices",
            "stage": args.stage,
            "photos": [data.photos_record(photos)],
            "held_out": data.photos_record(held_out),
            "options": OPTIONS[args.stage],
            **records.circumstances(torch.device("cpu"), devices.best_precision("auto", torch.device("cpu"))),
        }
        table = pd.DataFrame(rows).assign(stage=args.stage).astype({"steps": "Int64"})
        records.write(args.out, "choices", table, record, args.force)
    except (ValueError, RuntimeError, OSError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
