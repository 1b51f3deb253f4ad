"""Makes the pictures of the README and the first page anew: `python book/tools/picture.py` writes restored.png and the
curtain curtain.html into book/_static, from the weights that come with the book and photos that they never saw."""

from pathlib import Path

import torch

from cascade_core.conventions import from_pixels, to_pixels
from cascade_core.degradations import HOLE_COLOR, center_hole, degrade
from cascade_lab import data, devices, published, restoration
from cascade_lab.data.brush import brush_masks
from cascade_lab.evaluation.methods import from_weights
from cascade_lab.show import figures, interactive
from cascade_lab.training import checkpoints, stages

STATIC = Path(__file__).resolve().parents[1] / "_static"
SIDE = 384  # px of the curtain's photo
PEN = (0.012, 0.02)  # width of its scratches, as shares of the side


def columns(weights: Path) -> None:
    """Two crops of the size that was trained on, side by side with what each network makes of them."""
    settings = checkpoints.read_about(weights)["settings"]
    size, hole = settings["size"], settings["hole"]
    crops = data.test_crops(data.open_photos(None, "test"), size, "grid")[[1, 12]]
    masks = center_hole(len(crops), size, size, hole)
    degraded = degrade(crops, masks, {"low": 1.0}, devices.random_for("cpu", 3), HOLE_COLOR)
    methods = from_weights(weights)
    with torch.no_grad():
        columns = {
            "photo": crops,
            "blur, noise, hole": degraded.images,
            "generator": methods["inpainted"](degraded),
            "cascade": methods["cascade"](degraded),
        }
    figures.strip(columns, width=2.2).savefig(STATIC / "restored.png", dpi=110)


def curtain(weights: Path) -> None:
    """A whole photo, scratched, blurred and noisy, and what `cascade_lab.restoration` makes of it."""
    random = devices.random_for("cpu", 7)
    photo = data.test_crops([data.open_photos(None, "test")[0]], SIDE, "resize")
    mask = torch.stack([brush_masks(1, SIDE, SIDE, random, PEN) for _ in range(2)]).amax(0)
    degraded = degrade(photo, mask, {"low": 1.0}, random, HOLE_COLOR).images
    networks, settings = stages.load(weights), checkpoints.read_about(weights)["settings"]
    result = restoration.restore(to_pixels(degraded)[0], mask[0, 0].bool().numpy(), networks, settings, deblur=True)
    seen = "An astronaut in an orange suit before a flag and a model of a space shuttle"
    labels = ("blur, noise, scratches", "restored")
    html = interactive.curtain(degraded, from_pixels(result.restored), labels, seen, 560)
    (STATIC / "curtain.html").write_text(html.data)


if __name__ == "__main__":
    columns(published.weights("cascade"))
    curtain(published.weights("cascade+"))
    print(f"{STATIC}: restored.png, curtain.html")
