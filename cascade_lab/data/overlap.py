"""Photos that stand in two sets: found by what they show, whatever their names, formats and compression."""

import numpy as np
from PIL import Image, ImageOps

from cascade_lab.data.photos import Photos
from cascade_lab.data.shards import Shards
from cascade_lab.data.sources import VERIFY

BITS = 4  # of 64 that may differ between two copies of a photo
COLOR = 8  # of 255: by so much their small copies may differ on average


def overlap(train: Photos | Shards, test: Photos) -> list[tuple[str, str]]:
    """The photos that stand in both sets, as (name in ``train``, name in ``test``), also where one is mirrored.

    Two photos are the same if nearly all bits of their difference hashes agree (which of two neighboring pixels of a
    9 x 8 copy is brighter; Krawetz 2013) and their 8 x 8 copies have the same colors: so copies that were saved anew
    or resized are found. Of more than `VERIFY` photos, only the files are compared; shards are not looked into.
    """
    if isinstance(train, Shards) or not len(train):
        return []
    if max(len(train), len(test)) > VERIFY:
        by_file = dict(zip(train.file_digests(), train.names, strict=True))
        found = zip(test.file_digests(), test.names, strict=True)
        return [(by_file[digest], name) for digest, name in found if digest in by_file]
    hashes, colors = map(np.stack, zip(*map(_marks, train), strict=True))
    pairs = []
    for name, photo in test.items():
        same = np.zeros(len(train), dtype=bool)
        for bits, color in (_marks(photo), _marks(ImageOps.mirror(photo))):
            same |= ((hashes != bits).sum(1) <= BITS) & (abs(colors - color).mean((1, 2, 3)) <= COLOR)
        pairs += [(train.names[i], name) for i in np.flatnonzero(same)]
    return pairs


def refuse_overlap(train: Photos | Shards, test: Photos) -> None:
    """Raise ``ValueError``, which names photos, where a test photo is among the training photos."""
    if pairs := overlap(train, test):
        named = "; ".join(f"{one} of {train.source} is {other} of {test.source}" for one, other in pairs[:3])
        more = f"; {len(pairs) - 3} more" if len(pairs) > 3 else ""
        raise ValueError(
            f"a test photo may not be trained or tuned on, but {len(pairs)} are ({named}{more}): take other photos"
        )


def _marks(photo: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """Difference hash ``(64,)`` of booleans, and colors ``(8, 8, 3)`` from 0 to 255."""
    gray = np.asarray(photo.convert("L").resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    colors = np.asarray(photo.resize((8, 8), Image.Resampling.BOX), dtype=np.int16)
    return (gray[:, 1:] > gray[:, :-1]).ravel(), colors
