"""How photos become test images: the protocol, and the degraded images that it asks for."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cascade_core.degradations import HOLE_COLOR, LEVELS, Degraded, center_hole, degrade
from cascade_lab import data, devices

MODES = ("crop", "resize", "grid")


@dataclass(frozen=True)
class Protocol:
    """How photos become test images, and how these are degraded. The defaults are the primary ones.

    Attributes:
        size: side of the test images, px.
        hole: side of the hole in the center, px.
        mode: "crop", the center at one pixel per pixel, or "resize", the whole short side; "grid" for few large photos.
        level: of blur and noise before the hole, a name in `degradations.LEVELS`.
        seed: of blur and noise.

    Raises:
        ValueError: an unknown mode or level, or a hole that is not smaller than the image.
    """

    size: int = 128
    hole: int = 56
    mode: str = "crop"
    level: str = "none"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in (("mode", MODES), ("level", tuple(LEVELS))):
            if getattr(self, name) not in known:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}; the {name}s are {', '.join(known)}")
        if not 0 < self.hole < self.size:
            raise ValueError(f"the hole must be between 0 and the size ({self.size}), got {self.hole}")


@dataclass(frozen=True)
class PhotoSet:
    """Photos to test on.

    Attributes:
        name: of the data set in tables.
        photos: one set for each folder; they are taken together.
    """

    name: str
    photos: tuple[data.Photos, ...]

    def crops(self, protocol: Protocol) -> Tensor:
        """The true test images, ``(N, 3, size, size)`` in [0, 1]."""
        return torch.cat([data.test_crops(part, protocol.size, protocol.mode) for part in self.photos])

    def images(self, protocol: Protocol) -> list[str]:
        """The name of each test image; of several folders, the folder's name too.

        Raises:
            ValueError: two images have the same name.
        """
        names = [
            f"{part.source}/{name}" if len(self.photos) > 1 else name
            for part in self.photos
            for name in data.crop_names(part, protocol.size, protocol.mode)
        ]
        if len(set(names)) < len(names):
            twice = next(name for i, name in enumerate(names) if name in names[:i])
            raise ValueError(f"the photos hold {twice} twice: give each folder once")
        return names

    def record(self) -> list[dict[str, Any]]:
        """Which photos they are, for the record of a run."""
        return [data.photos_record(part) for part in self.photos]


def open_photo_set(folders: Sequence[str] = (), name: str | None = None) -> PhotoSet:
    """The test photos of some folders, named after the first of them; of no folder, those of scikit-image."""
    photos = tuple(data.open_photos(folder, "test") for folder in folders or [None])
    return PhotoSet(name or Path(folders[0] if folders else "scikit-image").name, photos)


def degraded_images(crops: Tensor, protocol: Protocol) -> Degraded:
    """The test images of a protocol: blur and noise of its level, then the hole; one seed gives one set.

    Args:
        crops: the true images, ``(N, 3, size, size)`` in [0, 1].
    """
    masks = center_hole(len(crops), *crops.shape[-2:], protocol.hole)
    return degrade(crops, masks, {protocol.level: 1.0}, devices.random_for("cpu", protocol.seed), HOLE_COLOR)
