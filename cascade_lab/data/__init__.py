"""Photos in, batches of crops in [0, 1] out: from a folder, from scikit-image's own photos or from tar shards.

Example::

    photos = open_photos("data/bsd300", "test")
    crops = test_crops(photos, 128, "crop")  # (N, 3, 128, 128)

    photos = open_photos("data/imagenet", "train")
    for crops in training_batches(photos, 128, batch=64, seed=0, start=0, stop=1000):
        ...
"""

from cascade_lab.data.crops import crop_names, test_crops, training_batches
from cascade_lab.data.photos import Photos, random_square, read_photo
from cascade_lab.data.shards import Readers, Shards
from cascade_lab.data.sources import open_photos, photos_record

__all__ = [
    "Photos",
    "Readers",
    "Shards",
    "crop_names",
    "open_photos",
    "photos_record",
    "random_square",
    "read_photo",
    "test_crops",
    "training_batches",
]
