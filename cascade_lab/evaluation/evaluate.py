"""The code under the book's tables: any methods, on any photos, by a written protocol.

From the shell::

    cascade evaluate --photos PHOTOS --weights WEIGHTS --out FOLDER

The folder gets every image's values, so means, intervals and paired differences can be taken from it at any time, and
what made them: see `cascade_lab.evaluation.records`.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from cascade_core import metrics
from cascade_lab import data, published
from cascade_lab.data.overlap import refuse_overlap
from cascade_lab.evaluation import records
from cascade_lab.evaluation.methods import (
    TUNING_CROPS,
    Method,
    from_weights,
    k_nearest,
    restore_all,
    tuned_chain,
    without_training,
)
from cascade_lab.evaluation.protocol import Protocol, degraded_images
from cascade_lab.training import checkpoints

CHAINS = {"classical chain": False, "blind chain": True}  # blind or not
ON_PHOTOS = ("k-nn", *CHAINS)  # methods that need training photos


def evaluate(
    methods: Mapping[str, Method],
    crops: Tensor,
    protocol: Protocol,
    images: Sequence[str] | None = None,
    progress: Callable[[int], None] | None = None,
) -> pd.DataFrame:
    """Measure each method on each image.

    Args:
        crops: the true images, ``(N, 3, size, size)`` in [0, 1], from `data.test_crops`.
        images: the name of each image; their numbers by default.
        progress: called with the number of images that a method has restored.

    Returns:
        A row for each method and image: the protocol, "method", "image", "seconds" (of restoring an image, on
        average) and what `metrics.measure` says. What a network that has diverged returns is measured as NaN.
    """
    degraded, tables = degraded_images(crops, protocol), []
    for name, method in methods.items():
        begin = time.monotonic()
        outputs = restore_all(method, degraded, progress=progress)
        seconds = (time.monotonic() - begin) / len(crops)
        measured = metrics.measure(outputs, crops, degraded.masks)
        place = {"method": name, "image": range(len(crops)) if images is None else images, "seconds": seconds}
        values = {metric: value.cpu().numpy() for metric, value in measured.items()}
        tables.append(pd.DataFrame({**dataclasses.asdict(protocol), **place, **values}))
    return pd.concat(tables, ignore_index=True)


@dataclass(frozen=True)
class Asked:
    """Which methods are to be measured, and what they are made of.

    Attributes:
        names: the methods; ``()`` takes all that can run.
        weights: files of trained stages; ``()`` takes those of the package, where they are for such images.
        vgg: "imagenet", "random" or a VGG-16 state dict, which `neural patch synthesis` runs on.
        train: a folder of training photos, for k-NN and the chains.
        crops: how many training crops to take from them.
        device: where networks compute.
    """

    names: Sequence[str] = ()
    weights: Sequence[Path] = ()
    vgg: str | None = None
    train: str | None = None
    crops: int = 12_000
    device: torch.device = torch.device("cpu")

    def __post_init__(self) -> None:
        if self.crops < 1:
            raise ValueError(f"--crops must be at least 1, got {self.crops}")


def resolve(asked: Asked, protocol: Protocol) -> tuple[dict[str, Method | None], list[Path]]:
    """The methods that were asked for, ``None`` for those that `on_training_photos` makes, and the weights in use.

    Raises:
        ValueError: one is unknown, or lacks its package, its weights or its training photos.
    """
    usable, missing = without_training()
    weights = list(asked.weights) or _fitting(protocol)
    networks = from_weights(*weights, device=asked.device, vgg=asked.vgg)
    usable |= networks
    trained = ON_PHOTOS[: 1 if protocol.level == "none" else 2] if asked.train else ()
    names = list(dict.fromkeys(asked.names)) or [*usable, *trained]
    for name in names:
        if name in missing:
            raise ValueError(f"{name}: {missing[name]}")
        if name in ON_PHOTOS and not asked.train:
            raise ValueError(f"{name} needs training photos: --train FOLDER")
        if name not in usable and name not in ON_PHOTOS:
            hint = "" if weights else "; networks come with --weights FILE"
            raise ValueError(f"unknown method {name!r}; there are {', '.join([*usable, *missing, *ON_PHOTOS])}{hint}")
    return {name: usable.get(name) for name in names}, weights if set(names) & set(networks) else []


def _fitting(protocol: Protocol) -> list[Path]:
    """The weights of the package, if they were trained for images and holes of the protocol's size."""
    own = published.available()
    settings = [checkpoints.read_about(path)["settings"] for path in own]
    return own if all((s["size"], s["hole"]) == (protocol.size, protocol.hole) for s in settings) else []


def on_training_photos(
    names: Sequence[str], asked: Asked, protocol: Protocol, test: data.Photos
) -> tuple[dict[str, Method], dict[str, Any]]:
    """Those of `ON_PHOTOS` that are named, and what the record tells of them.

    Raises:
        ValueError: a test photo is among the training photos.
    """
    photos = data.open_photos(asked.train, "train", whole=True)
    refuse_overlap(photos, test)
    batches = data.training_batches(photos, protocol.size, 1, protocol.seed, 0, asked.crops)
    crops = torch.cat([crop.mul(255).byte() for crop in batches])
    methods, about = {}, {"train": {**data.photos_record(photos), "crops": len(crops)}, "chains": {}}
    if "k-nn" in names:
        methods["k-nn"] = k_nearest(crops)
    for name in [name for name in CHAINS if name in names]:
        tuning = crops[:TUNING_CROPS].float() / 255
        methods[name], about["chains"][name] = tuned_chain(tuning, protocol, CHAINS[name])
    return methods, about


def _advance(bar: tqdm, done: int) -> None:
    bar.update(done - bar.n)


def evaluate_photos(
    asked: Asked, test: data.Photos, name: str, protocol: Protocol, out: Path, force: bool = False
) -> None:
    """Measure methods on test photos and record that in a folder: its table ``evaluations``.

    Args:
        name: of the data set in tables.

    Raises:
        ValueError: what cannot work, raised before the first image is restored.
    """
    setting = {"data_set": name, **dataclasses.asdict(protocol)}
    records.check_output(out, "evaluations")
    images = data.crop_names(test, protocol.size, protocol.mode)
    methods, weights = resolve(asked, protocol)
    records.merged(out, "evaluations", records.planned(setting, method=methods, image=images), force)
    about: dict[str, Any] = {"weights": [records.weights_record(path) for path in weights], "vgg": asked.vgg}
    if late := [name for name, method in methods.items() if method is None]:
        made, more = on_training_photos(late, asked, protocol, test)
        about |= more
        methods = {**methods, **made}
    crops, tables = data.test_crops(test, protocol.size, protocol.mode), []
    for name, method in methods.items():
        assert method is not None  # those that wait for training photos were made above
        with tqdm(total=len(crops), desc=name, disable=None, leave=False) as bar:
            table = evaluate({name: method}, crops, protocol, images, partial(_advance, bar))
        hole, whole, seconds = table[["psnr_hole", "ssim_whole", "seconds"]].mean(skipna=False)
        print(f"{name}: hole {hole:.2f} dB, whole SSIM {whole:.3f}, {1000 * seconds:.0f} ms an image", flush=True)
        tables.append(table)
    record = {
        "kind": "evaluation",
        "data_set": setting["data_set"],
        "protocol": dataclasses.asdict(protocol),
        "photos": [data.photos_record(test)],
        "methods": list(methods),
        **about,
        **records.circumstances(asked.device),
    }
    table = pd.concat(tables, ignore_index=True).assign(**setting)
    records.write(out, "evaluations", table[[*setting, *(c for c in table if c not in setting)]], record, force)
