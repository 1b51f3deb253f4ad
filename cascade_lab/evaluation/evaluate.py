"""The code under the book's tables: any methods, on any photos, by a written protocol.

From the shell, into a folder of `cascade_lab.evaluation.records`::

    cascade evaluate --photos PHOTOS --weights WEIGHTS --out FOLDER
"""

import dataclasses
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from cascade_core import metrics
from cascade_lab import data, published
from cascade_lab.data.overlap import refuse_overlap
from cascade_lab.evaluation import methods, records
from cascade_lab.evaluation.methods import Method, restore_all
from cascade_lab.evaluation.protocol import Protocol, degraded_images
from cascade_lab.training import checkpoints

ON_PHOTOS = ("k-nn", "classical chain", "blind chain")  # methods that need training photos


def evaluate(methods: Mapping[str, Method], crops: Tensor, protocol: Protocol) -> pd.DataFrame:
    """Measure each method on each image.

    Args:
        crops: the true images, ``(N, 3, size, size)`` in [0, 1], from `data.test_crops`.

    Returns:
        A row for each method and image: the protocol, "method", "image", "seconds" (of restoring an image, on
        average) and what `metrics.measure` says. What a network that has diverged returns is measured as NaN.
    """
    degraded, tables = degraded_images(crops, protocol), []
    for name, method in methods.items():
        begin = time.monotonic()
        outputs = restore_all(method, degraded, name)
        seconds = (time.monotonic() - begin) / len(crops)
        measured = metrics.measure(outputs, crops, degraded.masks)
        place = {"method": name, "image": range(len(crops)), "seconds": seconds}
        values = {metric: value.cpu().numpy() for metric, value in measured.items()}
        tables.append(pd.DataFrame({**dataclasses.asdict(protocol), **place, **values}))
    return pd.concat(tables, ignore_index=True)


@dataclass(frozen=True)
class Asked:
    """Which methods are to be measured, and what they are made of."""

    names: Sequence[str] = ()  #: the methods; ``()`` takes all that can run
    weights: Sequence[Path] = ()  #: files of trained stages; ``()`` takes the package's, where they fit the protocol
    vgg: str | None = None  #: "imagenet", "random" or a VGG-16 state dict, which `neural patch synthesis` runs on
    train: str | None = None  #: a folder of training photos, for k-NN and the chains
    crops: int = 12_000  #: how many training crops to take from them, 1 or more
    device: torch.device = torch.device("cpu")  #: where networks compute
    ensemble: bool = False  #: networks by their mean over eight flips and turns; their names end in ", x8"


def _resolve(asked: Asked, protocol: Protocol) -> tuple[list[str], dict[str, Method], list[Path]]:
    """The names that were asked for, the methods but those of `ON_PHOTOS`, and the weights in use."""
    usable, missing = methods.without_training()
    weights = list(asked.weights) or [path for path in published.available() if _fits(path, protocol)]
    networks = methods.from_weights(*weights, device=asked.device, vgg=asked.vgg, ensemble=asked.ensemble)
    known = usable | networks
    trained = ON_PHOTOS[: 1 if protocol.level == "none" else 2] if asked.train else ()
    lacking = missing if asked.train else missing | dict.fromkeys(ON_PHOTOS, "it needs training photos, --train FOLDER")
    names = asked.names or [*known, *trained]
    for name in names:
        if name in lacking:
            raise ValueError(f"{name}: {lacking[name]}")
        if name not in (*known, *ON_PHOTOS):
            hint = "" if weights else "; networks come with --weights FILE"
            raise ValueError(f"unknown method {name!r}; there are {', '.join([*known, *missing, *ON_PHOTOS])}{hint}")
    return list(dict.fromkeys(names)), known, weights if set(names) & set(networks) else []


def _fits(weights: Path, protocol: Protocol) -> bool:
    """Whether weights were trained for images and holes of the protocol's size."""
    settings = checkpoints.read_about(weights)["settings"]
    return (settings["size"], settings["hole"]) == (protocol.size, protocol.hole)


def _refuse_trained_on(weights: Sequence[Path], test: data.Photos) -> None:
    """Raise ``ValueError``, which names photos, where weights were trained on test photos; warn where nobody can tell.

    A training's record holds one hash over its photos, so they are looked into where they still lie. The stages before
    may have been trained on others.
    """
    trained = ((path, checkpoints.with_before(records.weights_record(path)["training"])) for path in weights)
    photos = ((path, record.get("photos", {})) for path, behind in trained for record in behind)
    for path, source, mark in dict.fromkeys((path, told.get("source"), told.get("hash")) for path, told in photos):
        if mark == test.hash:
            named = ", ".join(test.names[:3])
            raise ValueError(f"{path} was trained on all of these test photos, {named}: take others")
        train = None
        with suppress(ValueError, OSError), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it leaves out was said when it trained
            train = data.open_photos(None if source == "scikit-image" else source, "train") if source else None
        if not isinstance(train, data.Photos) or train.hash != mark:  # shards are not looked into
            why = f"those of its training, {source}, cannot be looked into" if source else "no record tells of its own"
            warnings.warn(f"{path}: whether test photos trained it is unknown, {why}", stacklevel=2)
            continue
        try:
            refuse_overlap(train, test)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


def _on_training_photos(
    names: Sequence[str], asked: Asked, protocol: Protocol, test: data.Photos
) -> tuple[dict[str, Method], dict[str, Any]]:
    """Methods of `ON_PHOTOS`, and what the record tells of them."""
    photos = data.open_photos(asked.train, "train", whole=True)
    refuse_overlap(photos, test)
    batches = data.training_batches(photos, protocol.size, 1, protocol.seed, 0, asked.crops)
    crops = torch.cat([crop.mul(255).byte() for crop in batches])
    made, chains, tuning = dict[str, Method](), {}, crops[: methods.TUNING_CROPS].float() / 255
    for name in names:
        if name == "k-nn":
            made[name] = methods.k_nearest(crops)
        else:
            made[name], chains[name] = methods.tuned_chain(tuning, protocol, blind=name == "blind chain")
    return made, {"train": {**data.photos_record(photos), "crops": len(crops)}, "chains": chains}


def evaluate_photos(
    asked: Asked, test: data.Photos, name: str, protocol: Protocol, out: Path, force: bool = False
) -> None:
    """Measure methods on test photos and record that in a folder: its table ``evaluations``.

    Args:
        name: of the data set in tables.

    Raises:
        ValueError: before the first image is restored: a method is unknown, lacks its package, weights or training
            photos, a test photo is among these, or the folder cannot be written or holds such rows.
    """
    records.check_output(out, "evaluations")
    names, known, weights = _resolve(asked, protocol)
    images = data.crop_names(test, protocol.size, protocol.mode)
    setting = {"data_set": name, **dataclasses.asdict(protocol)}
    records.merged(out, "evaluations", records.planned(setting, method=names, image=images), force)
    _refuse_trained_on([path for path in weights if path in asked.weights], test)
    about: dict[str, Any] = {"weights": [records.weights_record(path) for path in weights], "vgg": asked.vgg}
    if late := [method for method in names if method in ON_PHOTOS]:
        made, more = _on_training_photos(late, asked, protocol, test)
        known, about = known | made, about | more
    crops, tables = data.test_crops(test, protocol.size, protocol.mode), []
    for method in names:
        tables.append(evaluate({method: known[method]}, crops, protocol).assign(image=images))
        hole, whole, seconds = tables[-1][["psnr_hole", "ssim_whole", "seconds"]].mean(skipna=False)
        print(f"{method}: hole {hole:.2f} dB, whole SSIM {whole:.3f}, {1000 * seconds:.0f} ms an image", flush=True)
    table = pd.concat(tables, ignore_index=True)
    table.insert(0, "data_set", name)
    record = {
        "kind": "evaluation",
        "data_set": name,
        "protocol": dataclasses.asdict(protocol),
        "photos": [data.photos_record(test)],
        "methods": names,
        **about,
        **records.circumstances(asked.device),
    }
    records.write(out, "evaluations", table, record, force)
