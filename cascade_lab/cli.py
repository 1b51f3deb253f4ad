"""The one command: ``cascade train``, ``evaluate``, ``ablate``, ``restore`` and the rest.

The same option means the same thing everywhere. A command opens what it is given, calls one function of the laboratory
and says what was written. Trouble that is to be expected ends in one line. torch is imported in the commands, with all
that stands on it, so that the shell need not wait for it.
"""

import importlib.metadata
import math
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from cascade_lab import PAUSED

app = typer.Typer(
    name="cascade",
    help="The deep cascade of Zhao et al. (2017): train it, measure it, restore photos with it.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
data = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Prepare a data set: fetch, verify, list photos.")
app.add_typer(data, name="data")

Device = Annotated[
    Literal["auto", "cpu", "cuda", "mps"], typer.Option(help="where to compute; auto takes a GPU if there is one")
]
ProfileName = Annotated[str, typer.Option("--profile", help="smoke, cpu, gpu or paper")]
Settings = Annotated[list[str], typer.Option("--set", metavar="NAME=VALUE", help="change a setting of the profile")]
Plus = Annotated[bool, typer.Option("--plus", help="train cascade+, which departs from the paper")]
Seed = Annotated[int, typer.Option(min=0)]
Minutes = Annotated[float, typer.Option(help="stop, saved, after so long (exit status 75); the same command goes on")]
Force = Annotated[bool, typer.Option("--force", help="replace files that are there")]
Ensemble = Annotated[
    bool, typer.Option("--ensemble", help="mean over eight flips and turns: a little better, eight times the time")
]
TestPhotos = Annotated[
    list[str], typer.Option(metavar="FOLDER", help="test photos; given again, taken together (scikit-image's)")
]
Photos = Annotated[str | None, typer.Option(metavar="FOLDER", help="training photos (scikit-image's)")]
SetName = Annotated[str | None, typer.Option(help="of the test set in tables, BSD300, say (default: the folder's)")]
Mode = Annotated[str, typer.Option(help="how a photo becomes a test image: crop, resize or grid")]
Results = Annotated[Path, typer.Option(metavar="FOLDER", help="gets the table of the results, or more rows of it")]


@app.command()
def evaluate(
    out: Results,
    photos: TestPhotos = [],  # noqa: B006 (typer copies it)
    weights: Annotated[list[Path], typer.Option(help="trained; repeat for more (default: the package's)")] = [],  # noqa: B006
    methods: Annotated[list[str], typer.Option(metavar="NAME", help="repeat for more (default: all)")] = [],  # noqa: B006
    train: Annotated[str | None, typer.Option(metavar="FOLDER", help="training photos")] = None,
    crops: Annotated[int, typer.Option(min=1, help="training crops for k-nn and the chains")] = 12_000,
    vgg: Annotated[str | None, typer.Option(help="imagenet, random or a file, for neural patch synthesis")] = None,
    name: SetName = None,
    size: Annotated[int, typer.Option(help="of the test images, px")] = 128,
    hole: Annotated[int, typer.Option(help="of the hole, px")] = 56,
    mode: Mode = "crop",
    level: Annotated[str, typer.Option(help="of blur and noise: none, low, medium or high")] = "none",
    ensemble: Ensemble = False,
    seed: Seed = 0,
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Measure methods on photos."""
    from cascade_lab import devices
    from cascade_lab.evaluation.evaluate import Asked, evaluate_photos
    from cascade_lab.evaluation.protocol import Protocol, open_test_photos

    asked = Asked(methods, weights, vgg, train, crops, devices.fabric_for("32-true", device).device, ensemble)
    protocol = Protocol(size, hole, mode, level, seed)
    evaluate_photos(
        asked, open_test_photos(photos), name or Path([*photos, "scikit-image"][0]).name, protocol, out, force
    )
    typer.echo(f"written: {out}")


@app.command()
def ablate(
    out: Results,
    profile: ProfileName = "smoke",
    settings: Settings = [],  # noqa: B006
    share: Annotated[float, typer.Option(help="of the profile's steps")] = 1.0,
    photos: Photos = None,
    test: TestPhotos = [],  # noqa: B006
    mode: Mode = "crop",
    name: SetName = None,
    runs: Annotated[Path, typer.Option(help="where the networks are kept")] = Path("runs"),
    seeds: Annotated[list[int], typer.Option(help="of the trainings; repeat for more")] = [0, 1, 2],  # noqa: B006
    variants: Annotated[list[str], typer.Option(metavar="NAME", help="repeat for more (default: Table 2's)")] = [],  # noqa: B006
    minutes: Minutes = math.inf,
    force: Force = False,
) -> None:
    """Train and measure the variants of Table 2."""
    from cascade_lab import data, training
    from cascade_lab.evaluation import ablation
    from cascade_lab.evaluation.protocol import open_test_photos

    until = time.monotonic() + 60 * minutes
    chosen = training.read(profile, dict(training.profiles.parse_setting(text) for text in settings))
    chosen = ablation.shortened(chosen, share)
    opened, tested = data.open_photos(photos, "train"), open_test_photos(test)
    name = name or Path([*test, "scikit-image"][0]).name
    plan = ablation.Plan(chosen, opened, tested, name, mode, seeds, variants)
    try:
        ablation.ablate(plan, runs, out, force, until)
    except training.Paused as pause:
        typer.echo(pause, err=True)
        raise typer.Exit(PAUSED) from pause
    typer.echo(f"written: {out}")


@app.command()
def train(
    stages: Annotated[list[str], typer.Argument(help="1 to 4, or context_encoder; what they start from comes first")],
    profile: ProfileName = "smoke",
    photos: Photos = None,
    out: Annotated[Path, typer.Option(help="the folder of the trained networks")] = Path("runs"),
    seed: Seed = 0,
    plus: Plus = False,
    settings: Settings = [],  # noqa: B006 (typer copies it)
    device: Device = "auto",
    devices: Annotated[int, typer.Option(min=1, help="GPUs, or processes on a CPU; each takes a whole batch")] = 1,
    nodes: Annotated[int, typer.Option(min=1, help="machines, which share the output folder")] = 1,
    given: Annotated[
        list[Path],
        typer.Option("--from", metavar="FILE", help="weights of a stage before, or of this one; repeat for more"),
    ] = [],  # noqa: B006
    minutes: Minutes = math.inf,
) -> None:
    """Train stages of the cascade, or go on with them."""
    from cascade_lab import data, training
    from cascade_lab.devices import fabric_for
    from cascade_lab.nodes import check_folder, check_variables

    until = time.monotonic() + 60 * minutes
    departures = training.profiles.PLUS if plus else {}
    chosen = training.read(profile, departures | dict(map(training.profiles.parse_setting, settings)))
    opened = data.open_photos(photos, "train")
    check_variables(nodes)
    fabric = fabric_for(chosen.precision, device, devices, nodes)
    if nodes > 1:
        check_folder(out, fabric)
    asked = [int(name) if name.isdigit() else name for name in stages]
    training.stages.refuse_unused(given, asked, chosen)
    for stage in asked:
        try:
            run = training.train(stage, chosen, opened, out, seed, fabric, until, given)
        except training.Paused as pause:
            if fabric.is_global_zero:
                typer.echo(pause, err=True)
            raise typer.Exit(PAUSED) from pause
        if fabric.is_global_zero:
            typer.echo(f"{run.record['title']}: {run.folder / training.checkpoints.WEIGHTS}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; expected trouble becomes one line and exit status 1, Ctrl-C one line and 130."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):  # what the terminal cannot show must not end a run
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    warnings.formatwarning = lambda message, *_, **__: f"note: {message}\n"
    try:
        refuse_empty(arguments)
        app(args=arguments, prog_name="cascade")
    except (SystemExit, KeyboardInterrupt) as stopped:
        if getattr(stopped, "code", 130) != 130:  # click makes Ctrl-C into an exit
            raise
        print("stopped by Ctrl-C", file=sys.stderr)
        sys.exit(130)
    except (ValueError, RuntimeError, OSError, ImportError, MemoryError, AssertionError) as error:
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        print(f"error: {line}", file=sys.stderr)
        sys.exit(1)


def refuse_empty(arguments: Sequence[str]) -> None:
    """An empty argument is a shell's variable that is not set, and would mean the default or the folder here."""
    for before, argument in zip(["", *arguments], arguments, strict=False):
        if not argument.strip() or (argument.startswith("--") and argument.endswith("=")):
            name = argument.rstrip("=").strip() or (before if before.startswith("-") else "an argument")
            print(f"error: {name} is empty: is a variable not set?", file=sys.stderr)
            sys.exit(2)


@app.callback(invoke_without_command=True)
def options(version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False) -> None:
    if version:
        typer.echo(f"cascade {importlib.metadata.version('cascade-core')}")
        raise typer.Exit


@app.command()
def restore(
    photo: Annotated[Path, typer.Argument(metavar="PHOTO")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="the restored photo: .png, .jpg, .webp, .tif, ...")],
    mask: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="of the photo's size; lighter than half is missing, transparent is not"),
    ] = None,
    deblur: Annotated[bool, typer.Option("--deblur", help="remove blur and noise from the whole photo")] = False,
    inpainted: Annotated[Path | None, typer.Option(metavar="FILE", help="the image between the two networks")] = None,
    weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="trained weights of stage 4 (default: the package's cascade+)")
    ] = None,
    ensemble: Ensemble = False,
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Restore a photo: fill what a mask marks, remove blur and noise."""
    from cascade_lab import photo_files, published
    from cascade_lab.devices import fabric_for

    if not (mask or deblur):
        raise ValueError("nothing to do: give a --mask of what is missing, --deblur, or both")
    weights = weights or published.weights("cascade+")
    photo_files.check_outputs(filter(None, (inpainted, out)), filter(None, (photo, mask, weights)), force)
    where = fabric_for("32-true", device).device
    for line in photo_files.restore_files(photo, mask, out, inpainted, weights, deblur, where, ensemble):
        typer.echo(line, err=line.startswith("note: "))


@app.command()
def publish(
    weights: Annotated[Path, typer.Argument(metavar="WEIGHTS", help="a finished run's weights.safetensors")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="the file to write, named .safetensors")],
    force: Force = False,
) -> None:
    """Write a run's weights in half precision."""
    from cascade_lab import published

    published.publish(weights, out, force)
    typer.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


@app.command("export")
def export_network(
    out: Annotated[Path, typer.Option(metavar="FILE", help="the file to write, named .onnx")],
    weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="trained weights (default: the package's cascade+)")
    ] = None,
    network: Annotated[str, typer.Option(help="generator, deblur_denoise or cascade, which is both")] = "cascade",
    store: Annotated[str, typer.Option(help="how the weights are kept: float32, float16 or int8")] = "float32",
    force: Force = False,
) -> None:
    """Write a trained network as an ONNX file."""
    from cascade_lab import export, published

    export.check_output(out, force)
    export.write(export.export(weights or published.weights("cascade+"), network, store), out)
    typer.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


@app.command("profiles")
def show_profiles(name: Annotated[str, typer.Argument(metavar="PROFILE")] = "") -> None:
    """Show the profiles, or the settings of one and their sources."""
    from cascade_lab.training import profiles

    if not name:
        for profile in profiles.PROFILES.values():
            typer.echo(f"{profile.name:<7}{profile.about}")
        return
    for setting, value in vars(profiles.read(name)).items():
        typer.echo(f"{setting:<28}{value}")
    typer.echo("\nWhat the paper leaves open")
    for row in profiles.open_questions():
        typer.echo(f"- {row['question']}: {row[name]} ({row['source']})")


@data.command()
def bsd300(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="new folder")] = Path("data/bsd300"),
    url: Annotated[str, typer.Option(help="archive of the photos: an address or a file (default: a mirror)")] = "",
) -> None:
    """BSD300: 200 train and 100 test photos of 481 x 321 pixels."""
    from data_scripts import bsd300 as script

    typer.echo(script.prepare(out, url or script.URL))


@data.command()
def imagenette(
    size: Annotated[str, typer.Option(help="short side: full, 320px or 160px")] = "320px",
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="default: data/imagenette2-320 and so on")] = None,
) -> None:
    """Imagenette: 13,394 photos of ten classes of ImageNet."""
    from data_scripts import imagenette as script

    if size not in script.ARCHIVES:
        raise typer.BadParameter(f"there are {', '.join(script.ARCHIVES)}, and no {size}", param_hint="--size")
    typer.echo(script.prepare_size(size, out))


@data.command()
def imagenet(
    copy: Annotated[Path, typer.Argument(metavar="COPY", help="folder that holds train/ and val/")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="where the shards go")] = Path("data/imagenet"),
    per_shard: Annotated[int, typer.Option(min=1, help="photos in a shard")] = 1000,
    workers: Annotated[int, typer.Option(min=1, help="processes")] = 1,
) -> None:
    """ImageNet from a local copy, verified, in tar shards."""
    from data_scripts import imagenet as script

    typer.echo(script.prepare(copy, out, per_shard, workers))


@data.command()
def folder(
    photos: Annotated[Path, typer.Argument(metavar="FOLDER")],
    test: Annotated[float, typer.Option(help="share that is held out for testing, from 0 to 1")] = 0.1,
) -> None:
    """Any folder of photos, some of them held out for testing."""
    from data_scripts import folder as script

    typer.echo(script.prepare(photos, test))


@data.command()
def trainingset(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="gets train, imagenet")] = Path("data/trainingset"),
    first: Annotated[int | None, typer.Option(min=0, help="of photos8k's 8,349 photos only so many")] = None,
    url: Annotated[str, typer.Option(help="address or folder in place of raw.githubusercontent.com")] = "",
    workers: Annotated[int, typer.Option(min=1, help="downloads at a time")] = 8,
) -> None:
    """The training photos and the ImageNet test set, from GitHub."""
    from data_scripts import trainingset as script

    typer.echo(script.prepare(out, url or script.URL, first, workers))


@data.command()
def verify(photos: Annotated[Path, typer.Argument(metavar="FOLDER")]) -> None:
    """Compare the files of a prepared data set with its manifest."""
    from data_scripts import verify as script

    typer.echo(script.prepare(photos))


if __name__ == "__main__":
    main()
