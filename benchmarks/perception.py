"""What an eye sees in the filled holes: `python -m benchmarks.perception FOLDER --vgg caffe:FILE --weights ...`.

FOLDER holds photos as for `benchmarks.reference`: train, bsd300 and imagenet. Each method fills the holes of both test
sets; measured are PSNR, the share of the true detail, the radial power spectrum, distances of VGG-16's features, and
how often a small network tells two methods apart, trained on training photos, asked on the test photos, at 1:1. With
the package lpips and its weights at hand, LPIPS too. The table of the folder of results gets a row a measure.
"""

import argparse
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torchvision.transforms.functional import center_crop

from benchmarks.reference import MODES, SETS
from cascade_core import metrics
from cascade_core.losses import PerceptualLoss
from cascade_lab import data, published
from cascade_lab.data.overlap import refuse_overlap
from cascade_lab.evaluation import methods, perception, records
from cascade_lab.evaluation.methods import Method
from cascade_lab.evaluation.protocol import Protocol, degraded_images, open_test_photos
from cascade_lab.training.naming import hash_of

PHOTO = "photo"  # the true photo among the methods
RIM = 4  # px of known pixels around the hole, which is what an eye compares a fill with
TRAINED_ON = 500  # photos that the network learns on which tells methods apart
PAIRS = [("generator, MSE", "generator"), ("generator, MSE", "cascade"), ("generator+, MSE", "generator+")]
PAIRS += [("generator+, MSE", "cascade+"), ("laplace", "cascade")]


def filled(chosen: Mapping[str, Method], crops: Tensor, protocol: Protocol) -> dict[str, Tensor]:
    """Each method's images with the known pixels put back, in [0, 1]; the true photos among them."""
    degraded, images = degraded_images(crops, protocol), {PHOTO: crops}
    for name, method in chosen.items():
        output = methods.restore_all(method, degraded, name).clamp(0, 1)
        images[name] = metrics.composite(output, crops, degraded.masks)
    return images


def measures(
    images: Mapping[str, Tensor], protocol: Protocol, features: PerceptualLoss, lpips: Any = None
) -> Iterator[dict]:
    """A row for each method and measure; the spectrum has one for each frequency, in periods a hole's side."""
    true = images[PHOTO]
    masks = degraded_images(true, protocol).masks
    hole, seen = [protocol.hole] * 2, [protocol.hole + 2 * RIM] * 2
    real = perception.patch_features(features, center_crop(true, seen))
    scale = real.square().mean().sqrt()  # so that the Fréchet distance does not depend on the size of the features
    for name, image in images.items():
        row = {"method": name, "other": "", "images": len(true)}
        part = center_crop(image, seen)
        values = {
            "psnr_hole": metrics.psnr(image, true, masks).mean().item(),
            "detail_share": perception.detail_share(image, true, masks),
            "feature_distance": perception.feature_distance(features, part, center_crop(true, seen)).mean().item(),
        }
        sample = perception.patch_features(features, part) / scale
        if len(sample) > 2 * sample.shape[1]:  # of the photos themselves, the distance of two halves is the bias
            half = sample.chunk(2)
            values["frechet_distance"] = perception.frechet_distance(
                *(half if name == PHOTO else (sample, real / scale))
            )
        if lpips is not None:
            with torch.no_grad():
                values["lpips"] = lpips(2 * part - 1, 2 * center_crop(true, seen) - 1).mean().item()
        yield from ({**row, "measure": measure, "value": value} for measure, value in values.items())
        for frequency, power in enumerate(perception.radial_spectrum(center_crop(image, hole)).tolist()):
            yield {**row, "measure": "spectrum", "frequency": frequency, "value": power}


def pairs_of(names: Iterable[str]) -> list[tuple[str, str]]:
    """Those of `PAIRS` that are there, and each of their methods with the photo."""
    pairs = [pair for pair in PAIRS if set(pair) <= set(names)]
    return [*pairs, *((name, PHOTO) for name in dict.fromkeys(chain(*pairs)))]


def told_apart(train: Mapping[str, Tensor], test: Mapping[str, Tensor], protocol: Protocol) -> Iterator[dict]:
    """A row for each of `pairs_of` the methods."""
    seen = [protocol.hole + 2 * RIM] * 2
    for pair in pairs_of(test):
        sides = [tuple(center_crop(images[name], seen) for name in pair) for images in (train, test)]
        row = {"method": pair[0], "other": pair[1], "measure": "told_apart", "images": len(test[PHOTO])}
        yield {**row, "value": perception.told_apart(*sides)}


def lpips_of(net: str = "alex") -> Any:
    """LPIPS (Zhang et al. 2018), or ``None`` where its package is not installed or its weights cannot be fetched."""
    try:
        from lpips import LPIPS

        return LPIPS(net=net, verbose=False).eval()
    except Exception as error:  # no package, no network
        print(f"no LPIPS: {error}")
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="with the photos in train, bsd300 and imagenet")
    parser.add_argument("--weights", type=Path, nargs="+", default=published.available(), help="default: the package's")
    parser.add_argument("--vgg", default="caffe", help="trained weights, as the setting perceptual_weights")
    parser.add_argument("--methods", nargs="+", default=["mean", "laplace", "patchmatch"], help="without training")
    parser.add_argument("--out", type=Path, default=published.folder(), help="the folder of the table")
    parser.add_argument("--force", action="store_true", help="replace results that are there")
    args = parser.parse_args()
    try:
        records.check_output(args.out, "perception")
        features, lpips = PerceptualLoss(args.vgg), lpips_of()
        usable, missing = methods.without_training()
        if unknown := [name for name in args.methods if name not in usable]:
            raise ValueError(f"{unknown[0]}: {missing.get(unknown[0], 'no such method')}")
        networks = methods.from_weights(*args.weights)
        chosen = {name: usable[name] for name in args.methods}
        chosen |= {name: method for name, method in networks.items() if not name.startswith("inpainted")}
        train = data.open_photos(args.folder / "train", whole=True)
        compared = {name: chosen[name] for pair in pairs_of(chosen) for name in pair if name != PHOTO}
        learned = filled(compared, data.test_crops(train[:TRAINED_ON], Protocol().size, "crop"), Protocol())
        for folder, label in SETS.items():
            test = open_test_photos([str(args.folder / folder)])
            refuse_overlap(train, test)
            for mode in MODES:
                protocol = Protocol(mode=mode)
                images = filled(chosen, data.test_crops(test, protocol.size, mode), protocol)
                rows = list(measures(images, protocol, features, lpips))
                if mode == "crop":
                    rows += told_apart(learned, images, protocol)
                table = pd.DataFrame(rows).assign(data_set=label, mode=mode).astype({"frequency": "Int64"})
                record = {
                    "kind": "perception",
                    "protocol": vars(protocol),
                    "photos": [data.photos_record(test), data.photos_record(train[:TRAINED_ON])],
                    "weights": [records.weights_record(path) for path in args.weights],
                    "perceptual_weights": args.vgg.partition(":")[0],
                    "perceptual_hash": hash_of(features.state_dict()),
                    "lpips": lpips is not None,
                    **records.circumstances(torch.device("cpu")),
                }
                records.write(args.out, "perception", table, record, args.force)
                print(table[table.measure != "spectrum"].to_string(index=False), flush=True)
    except (ValueError, RuntimeError, OSError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
