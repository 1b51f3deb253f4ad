"""Runs the benchmarks, one after the other, and records them: `python -m benchmarks [name ...]`, or `make bench`,
which puts the names into the environment variable BENCHMARKS.

The table results/benchmarks.parquet has a row for each measurement, results/runs.json what made it. Both are written
anew after each benchmark; rows of other benchmarks, and those of another device, stay as they are.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import pandas as pd
import torch

from benchmarks import book, degradations, metrics, restoring, training
from cascade_lab.devices import best_precision
from cascade_lab.evaluation import records
from cascade_lab.published import folder

# The short ones first: what they find in the caches does not depend on an hour of building before them.
BENCHMARKS = {
    "metrics": metrics.measure,
    "degradations": degradations.measure,
    "restoring": restoring.measure,
    "training": training.measure,
    "book": book.measure,
}


COUNTS = ["multiply_adds", "peak_memory", "photo", "batch"]  # whole numbers, also where some rows lack them


def record(out: Path, name: str, rows: list[dict], device: str, seconds: float) -> None:
    """Put a benchmark's rows into the table, with what made them."""
    table = pd.DataFrame(rows).assign(device=device, benchmark=name)
    table = table.astype({column: "Int64" for column in COUNTS if column in table})
    where = torch.device(device)
    about = {"kind": "benchmark", "benchmark": name, "seconds": round(seconds, 1)}
    about |= records.circumstances(where, best_precision("auto", where))
    records.write(out, "benchmarks", table, about, force=True)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Run the benchmarks and record them.")
    parser.add_argument("names", nargs="*", metavar="name", help=f"only these of {', '.join(BENCHMARKS)}")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=folder(), help="the folder of the table (default: results)")
    args = parser.parse_args(arguments)
    if unknown := set(args.names) - set(BENCHMARKS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    records.check_output(args.out, "benchmarks")
    for name in args.names or BENCHMARKS:
        print(f"{name} ...", flush=True)
        start = time.perf_counter()
        rows = BENCHMARKS[name](args.device)
        record(args.out, name, rows, args.device, time.perf_counter() - start)
        for row in rows:
            ratio = row["ours_is_times_as_fast"]
            print(
                f"  {row['task']:18} {row['way']:21} "
                + (f"{row['seconds']:10.4f} s" if row["seconds"] else "not installed")
                + (f"   ours is {ratio:.2f} times as fast" if ratio else "")
            )
    print(args.out)


if __name__ == "__main__":
    main(sys.argv[1:] or os.environ.get("BENCHMARKS", "").split())
