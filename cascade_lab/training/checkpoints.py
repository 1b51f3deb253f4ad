"""What a training run saves, atomically, and what is refused when it is read again.

A run's folder holds, while it trains, ``resume.pt`` (the last step that was saved, with all that resuming needs), and
when it is done ``weights.safetensors``, ``losses.csv`` and, written last, ``record.json``. Everything is written under
a temporary name and renamed when it is whole, so a killed run leaves the step before, never half a file.
"""

import csv
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

WEIGHTS, RESUME, LOSSES, RECORD = "weights.safetensors", "resume.pt", "losses.csv", "record.json"


@contextmanager
def explained(fault: str, advice: str) -> Iterator[None]:
    """Make whatever a damaged file makes its readers raise into a ``ValueError`` of one line: fault, reason, advice."""
    try:
        yield
    except Exception as error:
        lines = [line for line in str(error).splitlines() if not line.endswith(":")] or [type(error).__name__]
        reason = f"it has no {lines[0]}" if isinstance(error, KeyError) else lines[0].split(". ")[0].strip()
        raise ValueError(f"{fault} ({reason}); {advice}") from error


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Make a full disk, which each library reports in its own way, into an ``OSError`` that says how to go on."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise OSError(
            f"{folder} cannot be written ({reason}); "
            "make room there: the same command goes on from the last step that was saved"
        ) from error


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Call ``write`` with a temporary name beside ``path``, then rename it: the file is whole or not there."""
    temporary = _temporary(path)
    try:
        write(temporary)
        os.umask(mask := os.umask(0))  # there is no other way to read it
        temporary.chmod(0o666 & ~mask)  # safetensors' own files are for their owner alone
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def refuse_output(out: Path, suffix: str, force: bool) -> None:
    """Raise ``ValueError`` for a file of another kind, or one that is there and may not be replaced."""
    if out.suffix != suffix:
        raise ValueError(f"{out}: name it {suffix}")
    if out.exists() and not (force and out.is_file()):
        raise ValueError(f"{out} is there already; --force replaces a file")


def try_writing(path: Path) -> None:
    """Raise ``OSError`` where ``path`` cannot be written; leaves no file behind."""
    trial = _temporary(path)  # a name that is too long is longer yet
    try:
        trial.touch()
    finally:
        trial.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.{os.getpid()}")


def clear(folder: Path) -> None:
    """Remove what `write_atomically` had begun when it was killed."""
    for path in folder.glob(".*.[0-9]*"):
        path.unlink(missing_ok=True)


def save_weights(path: Path, networks: Mapping[str, nn.Module | dict[str, Tensor]], about: Mapping[str, Any]) -> None:
    """One safetensors file: every network's state by ``name.parameter``, and ``about`` as JSON in its header."""
    states = {name: n.state_dict() if isinstance(n, nn.Module) else n for name, n in networks.items()}
    state = {
        f"{name}.{key}": value.detach().cpu().contiguous()
        for name, values in states.items()
        for key, value in values.items()
    }
    write_atomically(path, lambda file: save_file(state, file, {"about": json.dumps(about)}))


@contextmanager
def opened(path: Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    """An open weights file, and what its header says; ValueError if it is missing, truncated, or of another program."""
    with explained(f"{path} holds no whole weights of this package", "make it again"), safe_open(path, "pt") as file:
        about = json.loads((file.metadata() or {})["about"])
        yield file, {**about, "settings": renamed(about["settings"])}


RENAMED = {"fill": "hole_color", "generator_start": "generator_fill", "refiner_width": "deblur_denoise_width"}
"""Settings in the headers of files that were written before they got their present names."""


def renamed(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {RENAMED.get(name, name): value for name, value in settings.items()}


def read_about(path: Path) -> dict[str, Any]:
    """What the header of a weights file says; the weights are not read. Raises as `read_weights`."""
    with opened(path) as (_, about):
        return about


def networks_in(path: Path) -> set[str]:
    """The names of the networks in a weights file; the weights are not read. Raises as `read_weights`."""
    with opened(path) as (file, _):
        return {_network(key) for key in file.keys()}  # noqa: SIM118 (it is not a dict)


def _network(key: str) -> str:
    name = key.partition(".")[0]
    return "deblur_denoise" if name == "refiner" else name  # of files from before the network got its name


def read_weights(path: Path) -> dict[str, dict[str, Tensor]]:
    """The states in a weights file by network.

    Raises:
        ValueError: the file is missing, truncated, or not of this package, or a weight is not a number.
    """
    with opened(path) as (file, _):
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (it is not a dict)
    states: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if value.isnan().any():
            raise ValueError(f"{path}: {key} is not a number, the training has diverged; train it anew")
        states.setdefault(_network(key), {})[key.partition(".")[2]] = value
    return states


def save_step(folder: Path, state: Mapping[str, Any]) -> None:
    """Save one step of a run in place of the one before: whatever of tensors and numbers resuming needs."""
    with writing(folder):
        write_atomically(folder / RESUME, lambda file: torch.save(state, file))


def load_step(folder: Path, restore: Callable[[dict[str, Any]], None]) -> None:
    """Give ``restore`` the step that was saved, if there is one.

    Raises:
        ValueError: it cannot be read, or not restored; the message names it and how to go on.
    """
    path = folder / RESUME
    if path.is_file():
        with explained(f"{path} cannot be resumed from", "remove it to start this stage again"):
            restore(torch.load(path, map_location="cpu", weights_only=True))


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def finish(
    folder: Path, networks: Mapping[str, nn.Module], about: Mapping[str, Any], history: list, record: dict
) -> None:
    """Write a run's results, the record last; its presence says that the run is done. Removes the saved step."""

    def write_losses(file: Path) -> None:
        with open(file, "w", newline="") as text:
            writer = csv.DictWriter(text, fieldnames=list(history[0]))
            writer.writeheader()
            writer.writerows(history)

    with writing(folder):
        save_weights(folder / WEIGHTS, networks, about)
        write_atomically(folder / LOSSES, write_losses)
        record = {**record, "losses": history[-1], "weights_sha256": sha256(folder / WEIGHTS)}
        write_atomically(folder / RECORD, lambda file: file.write_text(json.dumps(record, indent=1)))
    (folder / RESUME).unlink(missing_ok=True)


def read_record(folder: Path) -> dict[str, Any]:
    """What made a finished run.

    Raises:
        ValueError: the record is not whole.
    """
    with explained(f"{folder / RECORD} is not a whole record of a training", f"remove {folder} to train it again"):
        record = json.loads((folder / RECORD).read_text())
        return {**record, "weights_sha256": record["weights_sha256"]}


def record_beside(weights: Path) -> dict[str, Any] | None:
    """The record in the folder of a weights file, if it tells of this very file."""
    if not (weights.parent / RECORD).is_file():
        return None
    record = read_record(weights.parent)
    return record if weights.is_file() and sha256(weights) == record["weights_sha256"] else None


def training_of(weights: Path) -> dict[str, Any] | None:
    """The record of a weights file's training, from beside it or from its header; ``None`` if it has none."""
    return record_beside(weights) or read_about(weights).get("training")


def with_before(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The record of a training, and those of all trainings that it stands on."""
    records = [record]
    for each in records:
        records += each.get("before", [])  # which are looked at in their turn
    return records


def finished(folder: Path) -> tuple[list[dict[str, float]], dict] | None:
    """The loss history and the record of a finished run; ``None`` if it is not finished.

    Raises:
        ValueError: the weights are not those of the record, or a file is damaged or missing.
    """
    if not (folder / RECORD).is_file():
        return None
    record = record_beside(folder / WEIGHTS)
    if record is None:
        raise ValueError(
            f"{folder / WEIGHTS} is not the file that {RECORD} tells of; remove {folder} to train it again"
        )
    with (
        explained(f"{folder / LOSSES} is not a whole loss curve", f"remove {folder} to train it again"),
        open(folder / LOSSES, newline="") as text,
    ):
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(text)], record
