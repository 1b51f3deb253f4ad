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

from cascade_lab import data, devices
from cascade_lab.evaluation import ablation
from cascade_lab.evaluation.evaluate import Asked, evaluate_photos
from cascade_lab.evaluation.protocol import Protocol, open_test_photos
from cascade_lab.training import profiles, stages

app = typer.Typer(
    name="cascade",
    help="The deep cascade of Zhao et al. (2017): train it, measure it, restore photos with it.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

PAUSED = 75  # exit status: "temporary failure, try again" (sysexits.h)
EXPECTED = (ValueError, RuntimeError, OSError, ImportError, AssertionError)  # AssertionError: torch has no such device


class DeviceName(StrEnum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


def not_empty(parameter: typer.CallbackParam, value: str | list[str] | None) -> str | list[str] | None:
    """Refuse the empty name that a shell makes of an unset variable: as a path it would be the working folder."""
    if any(not text.strip() for text in ([value] if isinstance(value, str) else value or [])):
        raise ValueError(f"--{parameter.name} is empty: name a folder, or leave the option out")
    return value


def name_of(folders: list[str]) -> str:
    """The data set's name where none is given: that of the first folder."""
    return Path(folders[0]).name if folders else "scikit-image"


Device = Annotated[DeviceName, typer.Option(help="where to compute; auto takes a GPU if there is one")]
Photos = Annotated[
    str | None,
    typer.Option(metavar="FOLDER", callback=not_empty, help="photos (default: those that scikit-image carries)"),
]
ProfileName = Annotated[str, typer.Option("--profile", help="smoke, cpu, gpu or paper")]
Settings = Annotated[list[str], typer.Option("--set", metavar="NAME=VALUE", help="change a setting of the profile")]
Seed = Annotated[int, typer.Option(min=0)]
Minutes = Annotated[float, typer.Option(help="stop, saved, after so long (exit status 75); the same command goes on")]
Force = Annotated[bool, typer.Option("--force", help="replace files that are there")]
TestPhotos = Annotated[
    list[str],
    typer.Option(
        metavar="FOLDER", callback=not_empty, help="test photos; given again, taken together (scikit-image's)"
    ),
]
TrainPhotos = Annotated[str | None, typer.Option(metavar="FOLDER", callback=not_empty, help="training photos")]
SetName = Annotated[str | None, typer.Option(help="of the test set in tables, BSD300, say (default: the folder's)")]
Mode = Annotated[str, typer.Option(help="how a photo becomes a test image: crop, resize or grid")]
Results = Annotated[
    str, typer.Option(metavar="FOLDER", callback=not_empty, help="gets the table of the results, or more rows of it")
]


@app.command()
def evaluate(
    out: Results,
    photos: TestPhotos = [],  # noqa: B006 (typer copies it)
    weights: Annotated[
        list[Path], typer.Option(metavar="FILE", help="of trained stages, again for more (default: the package's)")
    ] = [],  # noqa: B006
    methods: Annotated[list[str], typer.Option(metavar="NAME", help="again for more (default: all that can run)")] = [],  # noqa: B006
    train: TrainPhotos = None,
    crops: Annotated[int, typer.Option(help="training crops for k-nn and the chains")] = Asked.crops,
    vgg: Annotated[str | None, typer.Option(help="imagenet, random or a file, for neural patch synthesis")] = None,
    name: SetName = None,
    size: Annotated[int, typer.Option(help="of the test images, px")] = Protocol.size,
    hole: Annotated[int, typer.Option(help="of the hole, px")] = Protocol.hole,
    mode: Mode = Protocol.mode,
    level: Annotated[str, typer.Option(help="of blur and noise: none, low, medium or high")] = Protocol.level,
    seed: Seed = Protocol.seed,
    device: Device = DeviceName.auto,
    force: Force = False,
) -> None:
    """Measure methods on photos."""
    protocol = Protocol(size, hole, mode, level, seed)
    where = devices.fabric_for("32-true", device.value).device
    asked = Asked(methods, weights, vgg, train, crops, where)
    evaluate_photos(asked, open_test_photos(photos), name or name_of(photos), protocol, Path(out), force)
    typer.echo(f"written: {out}")


@app.command()
def ablate(
    out: Results,
    profile: ProfileName = "smoke",
    set: Settings = [],  # noqa: A002, B006
    share: Annotated[float, typer.Option(help="of the profile's steps")] = 1.0,
    photos: TrainPhotos = None,
    test: TestPhotos = [],  # noqa: B006
    mode: Mode = Protocol.mode,
    name: SetName = None,
    runs: Annotated[Path, typer.Option(help="where the networks are kept")] = Path("runs"),
    seeds: Annotated[list[int], typer.Option(help="of the trainings, again for more")] = [0, 1, 2],  # noqa: B006
    variants: Annotated[list[str], typer.Option(metavar="NAME", help="again for more (default: Table 2's)")] = [],  # noqa: B006
    minutes: Minutes = math.inf,
    force: Force = False,
) -> None:
    """Train the variants of Table 2, or go on with them, and measure them."""
    until = time.monotonic() + 60 * minutes
    chosen = profiles.read(profile, dict(stages.read_setting(text) for text in set))
    chosen = ablation.shortened(chosen, share)
    training, testing = data.open_photos(photos, "train"), open_test_photos(test)
    plan = ablation.Plan(chosen, training, testing, name or name_of(test), mode, seeds, variants)
    try:
        ablation.ablate(plan, runs, Path(out), force, until)
    except stages.Paused as pause:
        typer.echo(str(pause), err=True)
        raise typer.Exit(PAUSED) from pause
    typer.echo(f"written: {out}")


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
