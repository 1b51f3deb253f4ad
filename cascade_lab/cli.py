"""The one command: ``cascade train``, ``evaluate``, ``ablate``, ``restore`` and the rest.

The same option means the same thing everywhere: ``--photos`` a folder of photos, ``--device`` where to compute,
``--out`` what is written, ``--force`` that it may be replaced. A command opens what it is given, calls one function of
the laboratory and says what was written. Trouble that is to be expected ends in one line that names it.
"""

import math
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cascade_lab import PAUSED

app = typer.Typer(
    name="cascade",
    help="The deep cascade of Zhao et al. (2017): train it, measure it, restore photos with it.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

EXPECTED = (ValueError, RuntimeError, OSError, ImportError, AssertionError)  # AssertionError: torch has no such device


class DeviceName(StrEnum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


Device = Annotated[DeviceName, typer.Option(help="where to compute; auto takes a GPU if there is one")]
Photos = Annotated[str | None, typer.Option(metavar="FOLDER", help="photos (default: those that scikit-image carries)")]
ProfileName = Annotated[str, typer.Option("--profile", help="smoke, cpu, gpu or paper")]
Settings = Annotated[list[str], typer.Option("--set", metavar="NAME=VALUE", help="change a setting of the profile")]
Seed = Annotated[int, typer.Option(min=0)]
Minutes = Annotated[float, typer.Option(help="stop, saved, after so long (exit status 75); the same command goes on")]
Force = Annotated[bool, typer.Option("--force", help="replace files that are there")]


@app.callback()
def commands() -> None:
    """Without it, typer would take a single command for the whole program."""


@app.command()
def train(
    stages: Annotated[list[str], typer.Argument(help="1 to 4, or context_encoder; what they start from comes first")],
    profile: ProfileName = "smoke",
    photos: Photos = None,
    out: Annotated[Path, typer.Option(help="the folder of the trained networks")] = Path("runs"),
    seed: Seed = 0,
    settings: Settings = [],  # noqa: B006 (typer gives each call its own)
    device: Device = DeviceName.auto,
    devices: Annotated[int, typer.Option(min=1, help="GPUs, or processes on a CPU; each takes a whole batch")] = 1,
    nodes: Annotated[int, typer.Option(min=1, help="machines")] = 1,
    minutes: Minutes = math.inf,
) -> None:
    """Train stages of the cascade; what is finished is kept, what was cut goes on."""
    from cascade_lab import data, training
    from cascade_lab.devices import fabric_for

    until = time.monotonic() + 60 * minutes
    chosen = training.read(profile, dict(training.profiles.parse_setting(text) for text in settings))
    opened = data.open_photos(photos, "train")
    fabric = fabric_for(chosen.precision, device, devices, nodes)
    for name in stages:
        stage = int(name) if name.isdigit() else name
        try:
            run = training.train(stage, chosen, opened, out, seed, fabric, until)
        except training.Paused as pause:
            if fabric.is_global_zero:
                typer.echo(pause, err=True)
            raise typer.Exit(PAUSED) from pause
        if fabric.is_global_zero:
            typer.echo(f"{run.record['title']}: {run.folder / training.checkpoints.WEIGHTS}")


def main(arguments: list[str] | None = None) -> None:
    """Run the command; expected trouble becomes one line and exit status 1."""
    for stream in (sys.stdout, sys.stderr):  # what the terminal cannot show must not end a run
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        app(args=arguments)
    except EXPECTED as error:
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        sys.exit(f"error: {line}")


if __name__ == "__main__":
    main()
