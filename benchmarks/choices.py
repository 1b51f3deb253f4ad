"""Short trainings behind the cpu profile: `python -m benchmarks.choices PHOTOS --stage 3 --out FILE`.

PHOTOS is a folder of training photos of which `cascade data folder PHOTOS --test 0.1` has put some aside; on
those each option is measured, so nothing is chosen on the test sets. An option changes one thing and sees as many
pixels as the others, unless it is named after that: what is compared is what a processor learns in a few minutes.
"""

import argparse
import shlex
import sys
from pathlib import Path

import torch

from benchmarks.reference import SPOILED
from cascade_core import degradations, metrics
from cascade_lab import data, devices, provenance
from cascade_lab.evaluation import evaluate
from cascade_lab.training import profiles, stages
from cascade_lab.training.profiles import Profile

CROPS = 19_200  # of the profile's size, seen by each option
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


def filled(method: evaluate.Method, photos: data.Photos, profile: Profile) -> dict[str, float]:
    """Stage 1: PSNR in the hole (dB) and SSIM with the context put back, of photos that are cut or shrunk."""
    found = {}
    for mode in ("crop", "shrink"):
        protocol = evaluate.Protocol(profile.size, profile.hole, mode)
        crops = data.test_crops(photos, profile.size, mode)
        values = evaluate.evaluate({"": method}, crops, protocol)[""]["values"]
        for metric in ("psnr_hole", "ssim_whole_composited"):
            found[f"{metric}, {mode}"] = round(values[metric].mean().item(), 4)
    return found


def refined(method: evaluate.Method, photos: data.Photos, profile: Profile) -> dict[str, float]:
    """Stage 3: PSNR (dB) of cut photos without a hole, for each level of blur and noise."""
    crops, found = data.test_crops(photos, profile.size, "crop"), {}
    for level in SPOILED:
        spoiled = degradations.degrade(crops, None, {level: 1.0}, devices.random_for("cpu", 0))
        found[f"psnr, {level}"] = round(metrics.psnr(evaluate.restored(method, spoiled), crops).mean().item(), 4)
    return found


SCORES = {1: filled, 3: refined}
UNTRAINED = {1: "laplace", 3: "input"}


def measure(stage: int, changes: dict, photos: data.Photos, held_out: data.Photos, out: Path) -> dict:
    """Train a stage with some settings changed, and measure it on the held-out photos."""
    profile, steps = profiles.read("cpu", changes), f"stage{stage}_steps"
    if steps not in changes:
        profile = profile.changed(**{steps: steps_of(stage, profile)})
    run = stages.train(stage, profile, photos, out)
    found = SCORES[stage](evaluate.network(*run.networks.values()), held_out, profile)
    return {"changes": changes, "steps": getattr(profile, steps), "seconds": run.record["seconds"], **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", help="a folder of photos with a manifest.json")
    parser.add_argument("--stage", type=int, choices=OPTIONS, default=1, help="what is trained (default: 1)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the networks are kept (default: runs)")
    parser.add_argument("--out", type=Path, required=True, help="the result, a JSON file")
    parser.add_argument("--force", action="store_true", help="replace a result that is there")
    args = parser.parse_args()
    try:
        evaluate.writable(args.out, args.force)
        photos, held_out = (data.open_photos(args.photos, split) for split in ("train", "test"))
        if set(photos.names) & set(held_out.names):
            raise ValueError(f"no photo of {args.photos} is put aside: cascade data folder {args.photos}")
        untrained = UNTRAINED[args.stage]
        found = SCORES[args.stage](evaluate.available()[0][untrained], held_out, profiles.read("cpu", {}))
        print(untrained, found, flush=True)
        rows = {untrained: found}
        for name, changes in OPTIONS[args.stage].items():
            rows[name] = measure(args.stage, changes, photos, held_out, args.runs)
            print(name, rows[name], flush=True)
        content = {
            "kind": "choices",
            "stage": args.stage,
            "photos": data.photos_record(photos),
            "held_out": data.photos_record(held_out),
            "options": rows,
            **provenance.circumstances(torch.device("cpu"), devices.best_precision("auto", torch.device("cpu"))),
            "command": shlex.join(["python", "-m", "benchmarks.choices", *sys.argv[1:]]),
        }
        evaluate.write(args.out, content)
    except (ValueError, RuntimeError, OSError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
