"""The one command: ``cascade train``, ``evaluate``, ``ablate``, ``restore`` and the rest.

The same option means the same thing everywhere: ``--photos`` a folder of photos, ``--device`` where to compute,
``--out`` what is written, ``--force`` that it may be replaced. A command opens what it is given, calls one function of
the laboratory and says what was written. Trouble that is to be expected ends in one line that names it.
"""

import sys
from enum import StrEnum
from typing import Annotated

import typer

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


Device = Annotated[DeviceName, typer.Option(help="where to compute; auto takes a GPU if there is one")]
Photos = Annotated[str | None, typer.Option(metavar="FOLDER", help="photos (default: those that scikit-image carries)")]
ProfileName = Annotated[str, typer.Option("--profile", help="smoke, cpu, gpu or paper")]
Settings = Annotated[list[str], typer.Option("--set", metavar="NAME=VALUE", help="change a setting of the profile")]
Seed = Annotated[int, typer.Option(min=0)]
Minutes = Annotated[float, typer.Option(help="stop, saved, after so long (exit status 75); the same command goes on")]
Force = Annotated[bool, typer.Option("--force", help="replace files that are there")]


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
