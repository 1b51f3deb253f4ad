"""Runs the benchmarks, one after the other, and records them: `python -m benchmarks [name ...]`, or `make bench`,
which puts the names into the environment variable BENCHMARKS.

results/benchmarks.json holds for each benchmark its rows and what made them; on a GPU, results/benchmarks-cuda.json.
It is written anew after each benchmark; those that do not run now stay as they are.
"""

import argparse
import datetime
import json
import os
import sys
import time
from pathlib import Path

import torch

from benchmarks import book, degradations, metrics, restoring, training
from cascade_lab.devices import best_precision
from cascade_lab.provenance import circumstances
from cascade_lab.published import folder
from cascade_lab.training.checkpoints import try_writing, write_atomically

# The short ones first: what they find in the caches does not depend on an hour of building before them.
BENCHMARKS = {
    "metrics": metrics.measure,
    "degradations": degradations.measure,
    "restoring": restoring.measure,
    "training": training.measure,
    "book": book.measure,
}


def record(path: Path, name: str, rows: list[dict], device: str, seconds: float) -> None:
    """Put a benchmark's rows into the record, with what made them."""
    known = json.loads(path.read_text()) if path.is_file() else {}
    known[name] = {
        "rows": rows,
        "seconds": round(seconds, 1),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **circumstances(torch.device(device), best_precision("auto", torch.device(device))),
    }
    ordered = {name: known[name] for name in BENCHMARKS if name in known}
    write_atomically(path, lambda file: file.write_text(json.dumps(ordered, indent=1) + "\n"))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Run the benchmarks and record them.")
    parser.add_argument("names", nargs="*", metavar="name", help=f"only these of {', '.join(BENCHMARKS)}")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, help="the record (default: results/benchmarks.json)")
    args = parser.parse_args(arguments)
    if unknown := set(args.names) - set(BENCHMARKS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    out = args.out or folder() / ("benchmarks.json" if args.device == "cpu" else f"benchmarks-{args.device}.json")
    try_writing(out)
    for name in args.names or BENCHMARKS:
        print(f"{name} ...", flush=True)
        start = time.perf_counter()
        rows = BENCHMARKS[name](args.device)
        record(out, name, rows, args.device, time.perf_counter() - start)
        for row in rows:
            ratio = row["ours_is_times_as_fast"]
            print(
                f"  {row['task']:18} {row['way']:21} "
                + (f"{row['seconds']:10.4f} s" if row["seconds"] else "not installed")
                + (f"   ours is {ratio:.2f} times as fast" if ratio else "")
            )
    print(out)


if __name__ == "__main__":
    main(sys.argv[1:] or os.environ.get("BENCHMARKS", "").split())
