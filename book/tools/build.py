"""Executes the chapters and builds the book: what `make book` calls.

    python book/tools/build.py --profile smoke                 the whole book
    python book/tools/build.py --profile smoke 04_stage2       one chapter and those that it stands on, no pages

Snakemake does the work (see `Snakefile`). This command checks what was asked, protects the build folder against a
second build, and ends everything on Ctrl-C.
"""

import argparse
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TextIO

from command import Parser, run
from inputs import chapters, data_folder

TOOLS = Path(__file__).resolve().parent
BUILD = TOOLS.parents[1] / "_build"


def arguments() -> argparse.Namespace:
    """What was asked, by option or, from `make`, by an environment variable."""
    parser = Parser(__doc__)
    parser.add_argument("chapters", nargs="*", help="only these chapters, by name, and what they stand on")
    parser.add_argument("--profile", default="smoke", help="a profile of the package")
    parser.add_argument("--data", default="", help="folder of photos; without it, those that scikit-image carries")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cores", default="all", help="cores to use; all of them if not given")
    parser.add_argument("--timeout", type=float, help="seconds for one chapter, if not the profile's own limit")
    names = ("profile", "data", "seed", "cores")
    parser.set_defaults(**{name: value for name in names if (value := os.environ.get(f"BOOK_{name.upper()}"))})
    args = parser.parse_args()
    if not re.fullmatch("[a-z0-9_-]+", args.profile):
        parser.error(f"argument --profile: {args.profile!r} is not the name of a profile, such as smoke or cpu")
    if not re.fullmatch("all|0*[1-9][0-9]*", args.cores):
        parser.error(f"argument --cores: {args.cores!r} is not a number above zero or the word all")
    if unknown := set(args.chapters) - set(known := chapters(TOOLS.parent)):
        parser.error(f"there is no chapter {', '.join(sorted(unknown))}; the chapters are {', '.join(known)}")
    return args


def locked() -> TextIO:
    """The build folder's lock, which goes with the processes that hold it, so a killed run leaves nothing to clear up;
    Snakemake's own locks would stay, and are off."""
    try:
        BUILD.mkdir(exist_ok=True)
        lock = (BUILD / "lock").open("a+")
    except OSError as error:
        remedy = "make it a folder that can, or a link to one"
        raise ValueError(f"{BUILD} cannot be written ({error.strerror}); {remedy}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        raise ValueError(f"another build (process {lock.read()}) uses {BUILD}; wait for it or end it") from None
    return lock


def clear(build: Path) -> None:
    """Removes what earlier runs, also killed ones, have left for nobody: messages, half a site, records."""
    for path in (build / "partial").glob("*.txt"):
        path.unlink()
    for folder in (BUILD / ".snakemake", build / "site", build / "scratch"):
        shutil.rmtree(folder, ignore_errors=True)
    (BUILD / "html.new").unlink(missing_ok=True)


def snakemake(cores: str, targets: list[str], lock: TextIO, log: Path) -> int:
    """Runs the workflow and prints what the chapters say; a signal ends all of it and nothing more is printed."""
    folders = ["--snakefile", TOOLS / "Snakefile", "--directory", BUILD, "--configfile", BUILD / "config.json"]
    manner = ["--cores", cores, "--keep-going", "--nolock", "--runtime-source-cache-path", BUILD / ".snakemake/sources"]
    quiet = ["--quiet", "rules", "progress", "reason", "host"]
    triggers = ["--rerun-triggers", "mtime", "--"]  # the marks decide, and they go by content
    # In a session of its own, so that one signal ends Snakemake and every chapter, whoever was meant by the first.
    # The chapters write to stdout, in UTF-8 whatever the terminal can show; stderr is Snakemake's.
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "snakemake", *folders, *manner, *quiet, *triggers, *targets],
            stdout=subprocess.PIPE,
            stderr=stderr,
            encoding="utf-8",
            env=os.environ | {"PYTHONIOENCODING": "utf-8"},
            start_new_session=True,
            pass_fds=[lock.fileno()],
        )
    lock.truncate(0)
    print(process.pid, end="", file=lock, flush=True)
    try:
        for line in process.stdout:
            print(line, end="", flush=True)
        return process.wait()
    except BaseException:
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate()
        raise


def failure(build: Path, asked: list[str], log: Path) -> str:
    """What failed: each chapter and its cell, else what Snakemake itself said."""
    messages = sorted((build / "partial").glob("*.txt"))
    lines = [path.read_text("utf-8", "replace").strip() for path in messages or [log]]
    failed = {path.stem for path in messages}
    waiting = [name for name in asked if name not in failed and not (build / "done" / name).exists()]
    if messages and waiting:
        lines.append(f"not run: {', '.join(waiting)}")
    return "\n".join(["\nThe book was not built.", *lines])


def main() -> int:
    args = arguments()
    data = data_folder(args.data)
    build, log = BUILD / args.profile, BUILD / "snakemake.log"
    lock = locked()
    clear(build)
    asked = {"profile": args.profile, "data": data and str(data), "seed": args.seed, "timeout": args.timeout}
    (BUILD / "config.json").write_text(json.dumps(asked))
    if snakemake(args.cores, [f"{args.profile}/done/{chapter}" for chapter in args.chapters], lock, log) != 0:
        print(failure(build, args.chapters or [*chapters(TOOLS.parent), "pages"], log), file=sys.stderr)
        return 1
    if not args.chapters:
        link = BUILD / "html.new"
        link.symlink_to(f"{args.profile}/html")
        os.replace(link, BUILD / "html")
        print(f"The book: {BUILD / 'html' / 'index.html'}")
    return 0


if __name__ == "__main__":
    run(main)
