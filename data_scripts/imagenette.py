"""Imagenette: ten classes of ImageNet, 9,469 photos to train on and 3,925 to validate, small enough for Colab.

    cascade data imagenette --size 320px          # to data/imagenette2-320

The archives and their MD5 are the ones of `torchvision.datasets.Imagenette`, and the folder is laid out as that class
reads it: `Imagenette("data", size="320px")`. What is done here rather than with its download=True: going on after a
break, safe unpacking, and a manifest. The sizes are the photos' short side.
"""

from __future__ import annotations

import os
import shutil
import sys
from functools import partial
from pathlib import Path

from torchvision.datasets import Imagenette

from cascade_lab import cli
from cascade_lab.data.manifest import NAME, read_manifest, write_manifest
from data_scripts.download import DataError, fetch, unpack
from data_scripts.verify import is_whole, list_photos, summary

ARCHIVES = Imagenette._ARCHIVES  # size -> (address, MD5); torchvision has no public name for it


def prepare_size(size: str, out: Path | None = None) -> str:
    """`prepare` of one of ``ARCHIVES``, by default to the folder that torchvision gives it below data."""
    url, md5 = ARCHIVES[size]
    return prepare(out or Path("data") / Path(url).stem, url, f"md5:{md5}")


def prepare(out: Path, url: str, digest: str) -> str:
    """Downloads, verifies, unpacks, decodes each photo once; `out` appears when all is there. Returns a summary."""
    if not is_whole(out):
        archive = fetch(url, out.with_name(out.name + ".tgz"), digest)
        rough = out.with_name(out.name + ".rough")
        shutil.rmtree(rough, ignore_errors=True)
        unpack(archive, rough)
        top = rough / Path(url).stem  # the archive holds one folder, imagenette2-320 or so
        if not all((top / split).is_dir() for split in ("train", "val")):
            shutil.rmtree(rough)
            raise DataError(f"{url} holds no {top.name}/train and {top.name}/val: it is not Imagenette")
        rows: list[dict] = []
        skipped: dict[str, str] = {}
        for split in ("train", "val"):
            found, broken = list_photos(top / split, partial(lambda split, file, digest: split, split))
            rows += [{**row, "file": f"{split}/{row['file']}"} for row in found]
            skipped |= {f"{split}/{file}": why for file, why in broken.items()}
        write_manifest(top / NAME, "Imagenette", f"{url} {digest}", rows, skipped)
        os.replace(top, out)
        shutil.rmtree(rough)
        archive.unlink()
    manifest = read_manifest(out / NAME)
    return summary(out, manifest["files"], manifest["skipped"])


if __name__ == "__main__":  # python -m data_scripts.imagenette
    cli.main(["data", "imagenette", *sys.argv[1:]])
