"""How photos become test images: the protocol, and the degraded images that it asks for."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from cascade_core.degradations import HOLE_COLOR, LEVELS, Degraded, center_hole, degrade
from cascade_lab import data, devices
from cascade_lab.data import Photos

MODES = ("crop", "resize", "grid")


@dataclass(frozen=True)
class Protocol:
    """How photos become test images, and how these are degraded. The defaults are the primary ones.

    Raises:
        ValueError: an unknown mode or level, or a hole that is not smaller than the image.
    """

    size: int = 128  #: side of the test images, px
    hole: int = 56  #: side of the hole in the center, px
    mode: str = "crop"  #: the center at 1:1; "resize", the whole short side; "grid", for few large photos
    level: str = "none"  #: of blur and noise before the hole, a name in `degradations.LEVELS`
    seed: int = 0  #: of blur and noise

    def __post_init__(self) -> None:
        for name, known in (("mode", MODES), ("level", tuple(LEVELS))):
            if getattr(self, name) not in known:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}; the {name}s are {', '.join(known)}")
        if not 0 < self.hole < self.size:
            raise ValueError(f"the hole must be between 0 and the size ({self.size}), got {self.hole}")


def open_test_photos(folders: Sequence[str] = ()) -> Photos:
    """The test photos of some folders as one set, their names led by the folder's; of no folder, scikit-image's."""
    parts = []
    for folder in folders or (None,):
        photos = data.open_photos(folder, "test", whole=True)
        if isinstance(photos, data.Shards):
            raise ValueError(f"{photos.source} is a stream of shards: take test photos from a folder")
        parts.append(photos)
    if len(parts) == 1:
        return parts[0]
    paths = {f"{part.source}/{name}": path for part in parts for name, path in part.paths.items()}
    return Photos(" and ".join(part.source for part in parts), paths)


def degraded_images(crops: Tensor, protocol: Protocol) -> Degraded:
    """The test images of a protocol: blur and noise of its level, then the hole.

    One seed gives one set.

    Args:
        crops: the true images, ``(N, 3, size, size)`` in [0, 1].
    """
    masks = center_hole(len(crops), crops.shape[2], crops.shape[3], protocol.hole)
    rng = devices.random_for("cpu", protocol.seed)
    return degrade(crops, masks, {protocol.level: 1.0}, rng, HOLE_COLOR)
