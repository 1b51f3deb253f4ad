"""How large the four terms of the perceptual loss are: `python -m benchmarks.features --weights random caffe:FILE`.

Measured on the test photos that come with installed packages, at 128 px, and on the Laplace fill of their holes, so
that no training is needed. Equation 3 adds the four terms unweighted; what they are depends on VGG-16's weights.
"""

import argparse
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from cascade_core.fills import laplace
from cascade_core.losses import PerceptualLoss
from cascade_core.metrics import composite
from cascade_lab import data, published
from cascade_lab.evaluation import records
from cascade_lab.evaluation.protocol import Protocol, degraded_images
from cascade_lab.training.naming import hash_of

LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3")
PROTOCOL = Protocol(mode="resize")


@torch.no_grad()
def measure(features: PerceptualLoss, crops: Tensor, protocol: Protocol = PROTOCOL) -> list[dict]:
    """A row for each layer: the mean square of the photos' maps, and the squared distance of the Laplace fill's.

    Args:
        crops: ``(N, 3, size, size)`` in [0, 1], of the protocol's size.
    """
    images, masks, *_ = degraded_images(crops, protocol)
    filled = composite(laplace(images, masks), crops, masks)
    pairs = zip(LAYERS, features.maps(crops), features.maps(filled), strict=True)
    return [
        {"layer": layer, "mean_square": true.square().mean().item(), "distance": F.mse_loss(fill, true).item()}
        for layer, true, fill in pairs
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", nargs="+", default=["random"], help="as the setting perceptual_weights")
    parser.add_argument("--out", type=Path, default=published.folder(), help="the folder of the table")
    parser.add_argument("--force", action="store_true", help="replace a result that is there")
    args = parser.parse_args()
    photos = data.open_photos(None, "test")
    crops = data.test_crops(photos, PROTOCOL.size, PROTOCOL.mode)
    try:
        records.check_output(args.out, "features")
        for weights in args.weights:
            features, name = PerceptualLoss(weights), weights.partition(":")[0]
            record = {
                "kind": "features",
                "weights": name,
                "weights_hash": hash_of(features.state_dict()),
                "protocol": vars(PROTOCOL),
                "photos": [data.photos_record(photos)],
                **records.circumstances(torch.device("cpu")),
            }
            table = pd.DataFrame(measure(features, crops)).assign(weights=name)
            print(table.to_string(index=False))
            records.write(args.out, "features", table, record, args.force)
    except (ValueError, RuntimeError, OSError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
