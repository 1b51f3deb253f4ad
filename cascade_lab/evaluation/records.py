"""Recorded results: tidy tables in Parquet, and beside them what made each row.

A folder of results, such as ``results/`` of the repository, holds ``evaluations.parquet`` (a row for each image, method
and protocol), ``ablations.parquet`` (a row for each image, variant, seed and level), and ``runs.json``: under "runs"
the record of each run that a table's column ``run`` names, under "trainings" what trained the weights, by their
SHA-256.
"""

import datetime
import hashlib
import importlib.metadata
import json
import shlex
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from cascade_lab import provenance
from cascade_lab.training import checkpoints

SETTING = ["data_set", "mode", "level", "size", "hole"]
KEYS = {
    "evaluations": [*SETTING, "seed", "method"],
    "ablations": [*SETTING, "seed", "variant"],
    "benchmarks": ["device", "benchmark"],
    "choices": ["stage"],
    "features": ["weights"],
    "perception": ["data_set", "mode", "method", "other"],
}
"""Table -> what tells its rows apart, besides the images: a new run replaces the rows that agree with it in these."""
RUNS = "runs.json"
DECIMALS = 5  # of PSNR and SSIM; float32 holds so many of values below 128


def read_table(folder: str | Path, name: str) -> pd.DataFrame:
    """A table of `KEYS` from a folder of results; measured values as float64, rounded to `DECIMALS`.

    Raises:
        ValueError: the file is missing, cannot be read, or is another table.
    """
    path = Path(folder) / f"{name}.parquet"
    with checkpoints.explained(f"{path} holds no recorded {name}", "record them anew"):
        table = pd.read_parquet(path)
        if lacking := [column for column in ["run", *KEYS[name]] if column not in table]:
            raise ValueError(f"it lacks the column {lacking[0]}")
    measured = table.select_dtypes("float32").columns
    return table.astype(dict.fromkeys(measured, "float64")).round(dict.fromkeys(measured, DECIMALS))


def read_runs(folder: str | Path) -> dict[str, dict[str, Any]]:
    """What made the results of a folder: "runs" by their keys, "trainings" by the SHA-256 of their weights.

    Raises:
        ValueError: the file is missing or another one.
    """
    path = Path(folder) / RUNS
    with checkpoints.explained(f"{path} holds no records of runs", "record them anew"):
        content = json.loads(path.read_text())
        return {part: dict(content[part]) for part in ("runs", "trainings")}


def planned(setting: Mapping[str, Any], **columns: Iterable[Any]) -> pd.DataFrame:
    """The rows that a run is going to have, one for each combination of the columns' values."""
    return pd.DataFrame([{**setting, **dict(zip(columns, row, strict=True))} for row in product(*columns.values())])


def merged(folder: str | Path, name: str, new: pd.DataFrame, force: bool = False) -> pd.DataFrame:
    """A folder's table with new rows, each in the place of those that agree with it in `KEYS`.

    Raises:
        ValueError: such rows are there and ``force`` is not given, or rows of the same data set are of other images.
    """
    path, keys = Path(folder) / f"{name}.parquet", KEYS[name]
    if not path.is_file():
        return new
    old = read_table(folder, name)
    if "image" in old:
        for setting, rows in new.groupby(["data_set", "mode", "size", "hole"]):
            same = (old[["data_set", "mode", "size", "hole"]] == list(setting)).all(axis=1)
            if same.any() and set(old.image[same]) != set(rows.image):
                raise ValueError(f"{path} holds results of other images by the name {setting[0]}: give another --name")
    again = pd.MultiIndex.from_frame(old[keys]).isin(pd.MultiIndex.from_frame(new[keys]))
    if again.any() and not force:
        row = ", ".join(f"{key} {value}" for key, value in old.loc[again, keys].iloc[0].items())
        raise ValueError(f"{path} holds results of {row} already: --force replaces them")
    return pd.concat([old[~again], new], ignore_index=True)


def check_output(folder: str | Path, name: str) -> None:
    """Raise ``ValueError`` where a table cannot be written; a folder that is made to find out goes again."""
    folder, made = Path(folder), []
    try:
        if folder.is_file():
            raise ValueError(f"{folder} is a file: --out takes a folder, which gets {name}.parquet and {RUNS}")
        made = [part for part in (folder, *folder.parents) if not part.exists()]
        for file in (folder / f"{name}.parquet", folder / RUNS):
            if file.is_dir():
                raise ValueError(f"{file} is a folder: remove it, or give another --out")
            checkpoints.try_writing(file)
    except OSError as error:
        raise ValueError(f"{folder} cannot be written: {error}") from error
    finally:
        for part in made:
            if part.is_dir():
                part.rmdir()


def write(folder: str | Path, name: str, new: pd.DataFrame, record: Mapping[str, Any], force: bool = False) -> None:
    """Put new rows into a folder's table and their record into its ``runs.json``; both files are whole at any time.

    A training's record inside the record is kept once, by its weights' SHA-256. Raises as `merged`.
    """
    path, runs = Path(folder) / f"{name}.parquet", Path(folder) / RUNS
    known = read_runs(folder) if runs.is_file() else {"runs": {}, "trainings": {}}
    record = _without_trainings(record, known["trainings"])
    key = f"{name}-{hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:8]}"
    table = merged(folder, name, new.assign(run=key)[["run", *new]], force)
    referred = {*read_table(folder, name)["run"]} if path.is_file() else set()
    kept = {k: r for k, r in known["runs"].items() if not k.startswith(f"{name}-") or k in referred}
    text = _a_line_each({**known, "runs": {**kept, key: record}})
    checkpoints.write_atomically(runs, lambda file: file.write_text(text))
    measured = list(table.select_dtypes("float").columns) if "image" in table else []
    table = table.round(dict.fromkeys(measured, DECIMALS)).astype(dict.fromkeys(measured, "float32"))
    small = partial(table.to_parquet, index=False, compression="zstd", compression_level=19)
    others = [column for column in table if column not in measured]
    checkpoints.write_atomically(path, partial(small, use_dictionary=others, use_byte_stream_split=measured))


def _a_line_each(parts: Mapping[str, Mapping[str, Any]]) -> str:
    """JSON with a line for each record: a change shows as the lines of its records, and no space goes into depth."""

    def braced(entries: Mapping[str, str]) -> str:
        return "{\n" + ",\n".join(f"{json.dumps(key)}: {text}" for key, text in entries.items()) + "\n}"

    records = {name: {key: json.dumps(record) for key, record in part.items()} for name, part in parts.items()}
    return braced({name: braced(lines) for name, lines in records.items()}) + "\n"


def _without_trainings(node: Any, trainings: dict[str, Any]) -> Any:
    """A record with the hash of the weights in place of each training's record, which goes into ``trainings``."""
    if isinstance(node, Mapping):
        found = {key: _without_trainings(value, trainings) for key, value in node.items()}
        digest = found.pop("weights_sha256", None)
        return found if digest is None else trainings.setdefault(digest, found) and digest
    return [_without_trainings(item, trainings) for item in node] if isinstance(node, list | tuple) else node


def weights_record(path: Path) -> dict[str, Any]:
    """A weights file's hash, and its training's record: the one beside it, if it tells of this file, or its header."""
    training = checkpoints.training_of(path) or checkpoints.read_about(path)
    return {"file": f"{path.parent.name}/{path.name}", "sha256": checkpoints.sha256(path), "training": training}


def circumstances(device: torch.device, precision: str = "32-true") -> dict[str, Any]:
    """Device, versions, commit, date and command; the versions of what the baselines stand on too."""
    known = provenance.circumstances(device, precision)
    for name in ("numpy", "scikit-image", "PyPatchMatch", "opencv-python-headless", "opencv-python", "PyWavelets"):
        with suppress(importlib.metadata.PackageNotFoundError):
            known["versions"][name] = importlib.metadata.version(name)
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {**known, "date": date, "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])}
