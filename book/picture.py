"""Makes the README's and the first page's picture anew: `python book/picture.py` writes book/_static/restored.png."""

import sys
from pathlib import Path

import torch

from cascade_core import data, evaluate, figures, profiles, stages, training
from cascade_core.degradations import FILL, center_hole, degrade


def main(runs: str = "_build/runs/picture") -> None:
    profile = profiles.read("smoke")
    run = stages.train(4, profile, data.open_photos(), runs)
    crops = data.test_crops(data.open_photos(None, "test"), profile.size, "grid")[[1, 12]]
    masks = center_hole(len(crops), profile.size, profile.size, profile.hole)
    spoiled = degrade(crops, masks, {"low": 1.0}, training.random_for("cpu", 3), FILL)
    methods = evaluate.of_weights(run.folder / "weights.safetensors")
    with torch.no_grad():
        columns = {
            "photo": crops,
            "blur, noise, hole": spoiled.images,
            "generator": methods["generator"](spoiled),
            "cascade": methods["cascade"](spoiled),
        }
    path = Path(__file__).parent / "_static" / "restored.png"
    figures.strip(columns, width=2.2).savefig(path, dpi=110)
    print(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
