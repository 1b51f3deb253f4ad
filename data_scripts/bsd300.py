"""BSD300: 200 train and 100 test photos of 481 x 321 pixels, for testing only, as in the paper.

    cascade data bsd300 --out data/bsd300

The Berkeley Segmentation Dataset (Martin, Fowlkes, Tal, Malik, ICCV 2001) is free for non-commercial research and
education. Berkeley's own server is often out of reach, so the photos come from the mirror of its successor BSDS500
that BIDS keeps on GitHub, pinned to a commit: its train and val folders are BSD300's train and test. Each photo is
verified against bsd300.json, the manifest beside this file. Any archive that holds these very files does, so
`--url /home/me/BSDS300-images.tgz` takes a local one.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path, PurePosixPath

from cascade_lab import cli
from cascade_lab.data.manifest import NAME, read_manifest
from data_scripts.download import DataError, fetch, unpack
from data_scripts.verify import differences, few, is_whole, summary

COMMIT = "a04b7c6c3a9f0ace74bf205c72a43d32e1c72722"
URL = f"https://github.com/BIDS/BSDS500/archive/{COMMIT}.tar.gz"
MANIFEST = Path(__file__).with_name("bsd300.json")


def prepare(out: Path, url: str = URL, manifest: Path = MANIFEST) -> str:
    """Downloads, unpacks, verifies; `out` appears when all of it is there. Returns a summary."""
    rows = read_manifest(manifest)["files"]
    if not is_whole(out):
        # GitHub packs the archive when asked, so its hash may change; that of each photo in it may not.
        archive = fetch(url, out.with_name(out.name + ".archive"))
        rough, part = out.with_name(out.name + ".rough"), out.with_name(out.name + ".part")
        for leftover in (rough, part):
            shutil.rmtree(leftover, ignore_errors=True)
        files = {PurePosixPath(row["file"]).name: row["file"] for row in rows}
        unpack(archive, rough, keep=lambda name: PurePosixPath(name).name in files)
        for path in rough.rglob("*.jpg"):
            (part / files[path.name]).parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, part / files[path.name])
        shutil.rmtree(rough)
        if wrong := differences(part, rows):
            shutil.rmtree(part, ignore_errors=True)
            archive.unlink()
            raise DataError(
                f"{url} does not hold BSD300 as {manifest.name} lists it ({few(wrong)}). The download was thrown "
                "away: run the same command again, or name another archive with --url"
            )
        shutil.copyfile(manifest, part / NAME)
        os.replace(part, out)
        archive.unlink()
    return summary(out, rows, {})


if __name__ == "__main__":  # python -m data_scripts.bsd300
    cli.main(["data", "bsd300", *sys.argv[1:]])
