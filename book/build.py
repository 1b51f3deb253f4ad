"""Executes the chapters and builds the book: what `make book` calls.

    python book/build.py --profile smoke                 the whole book
    python book/build.py --profile smoke 04_stage2       one chapter and those that it stands on, no pages

Snakemake does the work (see `Snakefile`); this holds the build folder against a second run, hands on what was asked,
and ends all of it on Ctrl-C.
"""

import argparse
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

BOOK = Path(__file__).resolve().parent
BUILD = BOOK.parent / "_build"


def profile(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9_-]+", name):
        raise argparse.ArgumentTypeError(f"{name!r} is no profile's name")
    return name


def tell_failure(build: Path, chapters: list[str], log: Path) -> None:
    """Ends the output with what failed: each chapter and its cell, else what Snakemake itself said."""
    messages = sorted((build / "partial").glob("*.txt"))
    print("\nThe book was not built.", file=sys.stderr)
    for path in messages:
        print(path.read_text().strip(), file=sys.stderr)
    if not messages:
        print(log.read_text().strip(), file=sys.stderr)
        return
    asked = chapters or sorted(path.stem for path in (build / "inputs").glob("*.json"))
    failed = {path.stem for path in messages}
    waiting = [name for name in asked if name not in failed and not (build / "done" / name).exists()]
    if waiting:
        print(f"not run: {', '.join(waiting)}", file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chapters", nargs="*", help="only these chapters, by name, and what they stand on")
    parser.add_argument("--profile", type=profile, default="smoke", help="a profile of cascade_core.profiles")
    parser.add_argument("--data", default="", help="folder of photos; without it, those that scikit-image carries")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cores", default="all", help="cores to use; all of them if not given")
    parser.add_argument("--timeout", type=float, help="seconds for one chapter, if not the profile's own limit")
    args = parser.parse_args()

    BUILD.mkdir(exist_ok=True)
    # The lock goes with the processes that hold it, Snakemake among them, so a killed run leaves nothing to clear up;
    # Snakemake's own locks would stay, and are off.
    lock = (BUILD / "lock").open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        print(f"another build (process {lock.read()}) is at work in {BUILD}; wait for it or end it", file=sys.stderr)
        return 1
    config = BUILD / "config.json"
    data = str(Path(args.data).resolve()) if args.data else None
    asked = {"profile": args.profile, "data": data, "seed": args.seed, "timeout": args.timeout}
    config.write_text(json.dumps(asked))
    targets = [f"{args.profile}/done/{chapter}" for chapter in args.chapters]
    build, log = BUILD / args.profile, BUILD / "snakemake.log"
    for message in (build / "partial").glob("*.txt"):
        message.unlink()
    workflow = ["--snakefile", BOOK / "Snakefile", "--directory", BUILD, "--configfile", config]
    manner = ["--cores", args.cores, "--keep-going", "--nolock", "--rerun-incomplete"]
    quiet = ["--quiet", "rules", "progress", "reason", "host"]
    triggers = ["--rerun-triggers", "mtime", "input", "--"]  # the marks decide, and they go by content
    command = [sys.executable, "-m", "snakemake", *workflow, *manner, *quiet, *triggers, *targets]
    # In a session of its own: a signal to this process alone, as a CI system sends it, ends every chapter too.
    # The chapters speak on stdout; stderr is Snakemake's.
    with log.open("w") as stderr:
        snakemake = subprocess.Popen(command, stderr=stderr, start_new_session=True, pass_fds=[lock.fileno()])
    lock.truncate(0)
    print(snakemake.pid, end="", file=lock, flush=True)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: os.killpg(snakemake.pid, signal.SIGTERM))
    if snakemake.wait() != 0:
        tell_failure(build, args.chapters, log)
        return 1
    if not targets:
        link = BUILD / "html.new"
        link.unlink(missing_ok=True)
        link.symlink_to(f"{args.profile}/html")
        os.replace(link, BUILD / "html")
        print(f"The book: {BUILD / 'html' / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
