"""What comes with the package, trained and measured: weights that restore a photo at once, and the recorded results."""

import importlib.resources
from pathlib import Path
from typing import Any

import torch

from cascade_lab.training import checkpoints

CRITICS = ("critic", "discriminator")  # networks in weights files that restore nothing
NAMES = {"cascade": "cascade.safetensors", "cascade+": "cascade-plus.safetensors"}
# single stages of the paper's cascade and of cascade+, to look at and to train on from
STAGES = {"stage 1": "cascade-stage1.safetensors", "stage 1+": "cascade-plus-stage1.safetensors"}


def folder() -> Path:
    """Where the recorded results and the weights are: ``results`` of the checkout, or of the installed package."""
    checkout = Path(__file__).parents[1] / "results"
    return checkout if checkout.is_dir() else Path(str(importlib.resources.files("cascade_lab"))) / "results"


def weights(name: str = "cascade") -> Path:
    """The weights file of the paper's ``"cascade"``, of ``"cascade+"`` with its Laplace fill, or of a stage.

    Raises:
        ValueError: no such name, or the file is not there.
    """
    path = path_of(name, folder())
    if not path.is_file():
        raise ValueError(f"{path} is missing: take a whole copy of the repository")
    return path


def path_of(name: str, folder: Path) -> Path:
    """Where the weights file of that name stands in a folder, or will; ``ValueError`` for no such name."""
    files = NAMES | STAGES
    if name not in files:
        raise ValueError(f"there are no weights {name!r}; there are {', '.join(files)}")
    return folder / files[name]


def available() -> list[Path]:
    """The weights files of the package that are there."""
    return [path for file in (NAMES | STAGES).values() if (path := folder() / file).is_file()]


def trainings(name: str = "cascade") -> dict[int, dict[str, Any]]:
    """The record of each stage behind some weights, where one was trained further that of the last training."""
    return {record["stage"]: record for record in every_training(name)}


def every_training(name: str = "cascade") -> list[dict[str, Any]]:
    """The records of all trainings behind some weights, by stage and then in their order.

    They stand in the header of `weights`, whose errors this has.
    """
    records = checkpoints.with_before(checkpoints.read_about(weights(name))["training"])
    return sorted(map(dict, reversed(records)), key=lambda record: record["stage"])


def training(name: str = "cascade") -> str:
    """On what and how long some weights were trained, in words, for a caption; from the header of `weights`.

    Example:
        >>> training("cascade").startswith("trained on ")
        True
    """
    records = every_training(name)
    photos = {f"{record['photos']['count']:,}" for record in records}
    machines = " and ".join(sorted({record["device"] for record in records}))
    hours = sum(record["seconds"] for record in records) / 3600
    return f"trained on {' and '.join(sorted(photos))} photos in {hours:.1f} hours on {machines}"


def publish(trained: Path, out: Path, force: bool = False) -> None:
    """Write the networks of a finished run, large tensors in half precision, the run's record in the header.

    A critic stays in the file of stage 2, from which stage 4 may go on with it.

    Args:
        trained: a run's ``weights.safetensors``; its ``record.json`` must lie beside it.
        out: the file to write, named .safetensors.
        force: replace a file that is there; never the run's own.

    Raises:
        ValueError: the run is not finished, its weights do not bear half precision, or ``out`` cannot be written.
    """
    if not trained.is_file():
        raise ValueError(f"{trained} is not a file: name a finished run's {checkpoints.WEIGHTS}")
    if out.exists() and out.samefile(trained):
        raise ValueError(f"{out} is the run's own file, and replacing it would ruin the run: name another --out")
    checkpoints.refuse_output(out, ".safetensors", force)
    record = checkpoints.record_beside(trained)
    if record is None:
        raise ValueError(f"no record beside {trained} tells of it: train it to its end first")
    dropped = () if record.get("stage") == 2 else CRITICS
    kept = {name: state for name, state in checkpoints.read_weights(trained).items() if name not in dropped}
    for name, state in kept.items():
        for key, value in state.items():
            if value.dim() > 1:  # biases and batch norm's values stay as they are
                state[key] = value.half()
            if not torch.isfinite(state[key]).all():
                raise ValueError(f"{trained}: {name}.{key} is too large for half precision")
    checkpoints.save_weights(out.resolve(), kept, {**checkpoints.read_about(trained), "training": record})
