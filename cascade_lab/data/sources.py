"""Where photos come from, and what counts as one: scikit-image's own photos, a folder, or tar shards."""

from __future__ import annotations

import hashlib
import importlib.resources
import os
import warnings
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from cascade_lab.data.manifest import NAME, SPLITS, pick_split, read_manifest
from cascade_lab.data.photos import FORMATS, Photos
from cascade_lab.data.shards import Shards, open_shards

# Free photos in wheels that the book needs anyway: package -> folder and names. Both views of the motorcycle stand on
# one side of the split.
WHEEL_TEST = {
    "skimage": "data/astronaut.png data/chelsea.png",
    "sklearn": "datasets/images/china.jpg datasets/images/flower.jpg",
    "matplotlib": "mpl-data/sample_data/grace_hopper.jpg",
}
WHEEL_TRAIN = {
    "skimage": "data/coffee.png data/hubble_deep_field.jpg data/ihc.png data/motorcycle_left.png "
    "data/motorcycle_right.png data/retina.jpg data/rocket.jpg"
}
WHEEL_REPEATS = 64  # seven photos, each far larger than a crop: an epoch visits each so many times
SYSTEM = ("__MACOSX", "@eaDir", "$RECYCLE.BIN")  # folders that systems put beside photos, of copies and thumbnails
VERIFY = 5000  # photos; of a larger set that is split already, only the headers are read when it is opened
ASIDE = 0.1  # about this share of a plain folder's photos is put aside for tests


def open_photos(source: str | Path | None = None, split: str = "train", whole: bool = False) -> Photos | Shards:
    """Open a set of photos.

    Files and folders whose names begin with a dot are never photos, nor are those of `SYSTEM`. A link to a folder is
    followed, once. What is left out is named in a warning, and in ``skipped``.

    Args:
        source: one of
            None: photos that come with installed packages. Seven of scikit-image train. The test set is its astronaut
            and chelsea, scikit-learn's china and flower, and matplotlib's grace_hopper.
            A folder with a manifest.json (`data_scripts` writes it): the files that it lists for the split.
            A folder with sub-folders train, val or test (or Train, TEST): everything below the one named by `split`.
            A folder that is called train, val or test itself: everything below it, for that split alone.
            Any other folder: everything below it, split by content. About a tenth of the photos, at least one and
            never all, is put aside for "val" and "test". Copies of a photo, whatever their names and formats, are on
            one side, and but in a folder of very few photos they stay there when others are added.
            Tar shards: a pattern such as "/data/train-{000000..000099}.tar", an address, or their folder.
        split: "train", "val" or "test"; where there is no "test", "val" is taken for it.
        whole: do not split the last two kinds of folder: all their photos serve one purpose, to be tested on, say.

    Raises:
        ValueError: there is no such folder or split, no photo in it that can be read, or only one to split.
    """
    if source is None:
        train = pick_split(SPLITS, split, "scikit-image") == "train"
        files = [
            Path(str(importlib.resources.files(package))) / name
            for package, names in (WHEEL_TRAIN if train else WHEEL_TEST).items()
            for name in names.split()
        ]
        paths = {file.name: file for file in files}
        return Photos("scikit-image", paths, repeats=WHEEL_REPEATS, decode=True)
    if not str(source).strip():
        raise ValueError("the folder's name is empty: is a variable unset? None takes scikit-image's photos")
    if "://" in str(source) or str(source).endswith(".tar"):
        return open_shards(str(source), split)
    folder = Path(source)
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}; None takes scikit-image's photos")
    return _listed_photos(folder, split) if (folder / NAME).is_file() else _found_photos(folder, split, whole)


def _found_photos(folder: Path, split: str, whole: bool) -> Photos:
    """The photos of a folder without a manifest."""
    found = [path for path in sorted(folder.iterdir()) if path.name.lower() in SPLITS and path.is_dir()]
    splits = {path.name.lower(): path for path in found}
    if len(splits) < len(found):
        names = ", ".join(path.name for path in found)
        raise ValueError(f"{folder} holds a split under two names ({names}): put its photos into one folder")
    own = folder.absolute().name.lower()
    plain = not found and own not in SPLITS and not whole
    if not found:
        splits = dict.fromkeys(SPLITS if plain or whole else [own], folder)
    else:
        warn_of_photos_beside(folder, found)
    folder = splits[pick_split(splits, split, str(folder))]
    paths, left_out = find_files(folder)
    photos = Photos(str(folder), paths, left_out, decode=plain or len(paths) <= VERIFY)
    return _side(photos, split) if plain else photos


def warn_of_photos_beside(folder: Path, splits: list[Path]) -> None:
    """Say that what lies beside a folder's splits is not used, where it may be photos."""
    used, kinds = tuple(f"{split.name}/" for split in splits), Image.registered_extensions()
    found = sorted(name for name in find_files(folder)[0] if not name.startswith(used))
    beside = [name for name in found if kinds.get(Path(name).suffix.lower()) in FORMATS]
    if beside:
        names, first = " and ".join(split.name for split in splits), ", ".join(beside[:3])
        more = f" and {len(beside) - 3} more" if len(beside) > 3 else ""
        warnings.warn(
            f"{folder}: only the photos in {names} are used; {first}{more} beside them are not: move them there",
            stacklevel=4,
        )


def find_files(folder: Path) -> tuple[dict[str, Path], dict[str, str]]:
    """Everything below a folder that may be a photo, and the folders that are left out with the reason, by name."""
    paths, left_out = {}, {}
    seen = {str(parent) for parent in folder.resolve().parents}  # a link may not lead back to them either

    def refuse(error: OSError) -> None:
        left_out[Path(error.filename).relative_to(folder).as_posix()] = f"cannot be read: {error.strerror}"

    for root, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        place, real = Path(root), os.path.realpath(root)
        if real in seen:
            left_out[place.relative_to(folder).as_posix()] = "a folder that is read under another name, or holds this"
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if name not in SYSTEM and not name.startswith("."))
        for name in files:
            if not name.startswith("."):
                paths[(place / name).relative_to(folder).as_posix()] = place / name
    return paths, left_out


def _side(photos: Photos, split: str) -> Photos:
    """One side of a plain folder, by a hash of each photo's decoded pixels."""
    reading = tqdm(photos.items(), "splitting", len(photos), leave=False, delay=5)
    marks = {name: hashlib.sha256(f"{photo.size}".encode() + photo.tobytes()).digest() for name, photo in reading}
    distinct = sorted(set(marks.values()))
    if len(distinct) < 2:
        raise ValueError(
            f"{photos.source} holds one photo, which cannot both train and test: add others, or put it into a "
            "sub-folder train or test"
        )
    aside = {mark for mark in distinct[:-1] if mark[0] < ASIDE * 256} or {distinct[0]}
    test = [name for name in photos.names if marks[name] in aside]
    train = [name for name in photos.names if marks[name] not in aside]
    warnings.warn(
        f"{photos.source}: {len(train)} photos to train on, {len(test)} put aside for tests, by content", stacklevel=1
    )
    return photos.only(train if split == "train" else test)


def _listed_photos(folder: Path, split: str) -> Photos | Shards:
    """What a manifest lists, by the names that the split's folder alone would give."""
    manifest = read_manifest(folder / NAME)
    if any(row["file"].endswith(".tar") for row in manifest["files"]):
        return open_shards(str(folder), split)
    name = pick_split({row["split"] for row in manifest["files"]}, split, str(folder / NAME))
    others, prefix = set(SPLITS) - {name}, f"{name}/"
    skipped = {file: why for file, why in manifest["skipped"].items() if file.split("/")[0] not in others}
    left_out = {file.removeprefix(prefix): why for file, why in skipped.items()}
    paths, digests = {}, {}
    for row in manifest["files"]:
        file, path = row["file"].removeprefix(prefix), folder / row["file"]
        if row["split"] != name:
            continue
        if not path.is_file():
            left_out[file] = "listed in the manifest but missing"
        elif path.stat().st_size != row["size"]:
            left_out[file] = f"{path.stat().st_size} bytes long, {row['size']} by the manifest"
        else:
            paths[file], digests[file] = path, row["sha256"]
    return Photos(str(folder), paths, left_out, digests)


def photos_record(photos: Photos | Shards) -> dict[str, Any]:
    """Which photos they were, for the record of a run."""
    skipped = len(photos.skipped)
    return {"source": photos.source, "count": len(photos), "left_out": skipped, "hash": photos.hash}
