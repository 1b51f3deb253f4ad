"""Short trainings behind the cpu profile's stage 1: `python -m benchmarks.choices PHOTOS --out FILE`.

PHOTOS is a folder of training photos of which `python -m data_scripts.folder PHOTOS --test 0.1` has put some aside; on
those each option is measured, so nothing is chosen on the test sets. An option changes one thing and sees as many crops
as the others: what is compared is what a processor learns in a few minutes.
"""

import argparse
import dataclasses
import shlex
import sys
from pathlib import Path

import torch

from cascade_core import data, evaluate, metrics, profiles, stages, training

CROPS = 19_200  # seen by each option
OPTIONS = {
    "as in the profile": {},
    "batch 32": {"stage1_batch": 32},
    "batch 64": {"stage1_batch": 64},
    "rate 3e-4": {"stage1_rate": 3e-4},
    "rate 3e-3": {"stage1_rate": 3e-3},
    "narrower": {"generator_widths": (24, 32, 64, 96, 64)},
    "wider": {"generator_widths": (48, 64, 128, 256, 256)},
    "Laplace start": {"generator_start": "laplace"},
    "crops at 1:1 only": {"scale": (0.0, 0.0)},
}


def measure(changes: dict, photos: data.Photos, held_out: data.Photos, out: Path) -> dict:
    """Train stage 1 with some settings changed; PSNR in the hole and SSIM of the held-out photos, cut and shrunk."""
    profile = profiles.read("cpu", changes)
    profile = dataclasses.replace(profile, stage1_steps=CROPS // profile.stage1_batch)
    run = stages.train(1, profile, photos, out)
    method, found = evaluate.network(run.networks["generator"]), {}
    for mode in ("crop", "shrink"):
        crops = data.test_crops(held_out, profile.size, mode)
        protocol = evaluate.Protocol(profile.size, profile.hole, mode)
        values = evaluate.evaluate({"": method}, crops, protocol)[""]["values"]
        for metric in ("psnr_hole", "ssim_whole_pasted"):
            found[f"{metric}, {mode}"] = round(values[metric].mean().item(), 4)
    return {"changes": changes, "steps": profile.stage1_steps, "seconds": run.record["seconds"], **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", help="a folder of photos with a manifest.json")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the networks are kept (default: runs)")
    parser.add_argument("--out", type=Path, required=True, help="the result, a JSON file")
    parser.add_argument("--force", action="store_true", help="replace a result that is there")
    args = parser.parse_args()
    try:
        evaluate.writable(args.out, args.force)
        photos, held_out = (data.open_photos(args.photos, split) for split in ("train", "test"))
        if set(photos.names) & set(held_out.names):
            raise ValueError(f"no photo of {args.photos} is put aside: python -m data_scripts.folder {args.photos}")
        crops = data.test_crops(held_out, 128, "crop")
        laplace = evaluate.evaluate({"laplace": evaluate.available()[0]["laplace"]}, crops, evaluate.Protocol())
        print(f"laplace: {metrics.mean_interval(laplace['laplace']['values']['psnr_hole']):.2f} dB", flush=True)
        rows = {}
        for name, changes in OPTIONS.items():
            rows[name] = measure(changes, photos, held_out, args.runs)
            print(name, rows[name], flush=True)
        content = {
            "kind": "choices",
            "photos": data.photos_record(photos),
            "held_out": data.photos_record(held_out),
            "options": rows,
            **training.circumstances(torch.device("cpu"), training.best_precision("auto", torch.device("cpu"))),
            "command": shlex.join(["python", "-m", "benchmarks.choices", *sys.argv[1:]]),
        }
        evaluate.write(args.out, content)
    except (ValueError, RuntimeError, OSError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
