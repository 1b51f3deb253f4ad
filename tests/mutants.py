"""Mutation testing: `make mutants` changes a line of the code at a time and asks whether a test notices.

A sample, drawn by a seed, of what mutmut makes of losses, models, degradations, metrics, steps, the loop, the
splits and the saves (``[tool.mutmut]`` in pyproject.toml); takes half an hour. What no test notices is shown. A mutant
that computes the same, as `EQUIVALENT` says of its line, is not counted.
"""

import argparse
import json
import random
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
EQUIVALENT: dict[str, str] = json.loads((Path(__file__).parent / "equivalent_mutants.json").read_text())
"""The changed line, as it is after the change -> why no test can notice it."""


def mutmut(*arguments: str) -> str:
    command = [sys.executable, "-m", "mutmut", *arguments]
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout


def outcomes() -> dict[str, int | None]:
    """The exit status of the tests by mutant: 0 where they pass, ``None`` where they did not run yet."""
    found: dict[str, int | None] = {}
    for path in sorted((ROOT / "mutants").rglob("*.meta")):
        found |= json.loads(path.read_text())["exit_code_by_key"]
    return found


def changed(name: str) -> str:
    """What stands in the place of a mutant's line, without its indentation."""
    lines = [line[1:].strip() for line in mutmut("show", name).splitlines() if line[:1] == "+" and line[:3] != "+++"]
    return " / ".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300, help="mutants to try (default: 300)")
    parser.add_argument("--seed", type=int, default=0, help="which of them (default: 0)")
    parser.add_argument("--processes", type=int, default=2, help="that run tests at a time (default: 2)")
    args = parser.parse_args()
    processes = f"--max-children={args.processes}"
    mutmut("run", processes, "cascade_core.losses.x_mse_loss__mutmut_1")  # makes the mutants of all modules
    names = random.Random(args.seed).sample(sorted(outcomes()), args.count)
    mutmut("run", processes, *names)
    status = outcomes()
    survived = {name: changed(name) for name in names if status[name] in (0, 33)}  # noticed by none, or run by none
    alike = {name for name, line in survived.items() if line in EQUIVALENT}
    for name in sorted(set(survived) - alike):
        print(f"{name}\n    {survived[name]}")
    counted = len(names) - len(alike)
    noticed = len(names) - len(survived)
    late = sum(status[name] not in (0, 1, 33) for name in names)
    print(
        f"{noticed} of {counted} mutants noticed ({noticed / counted:.1%}); {late} of these kept the tests from ending"
    )
    print(f"{len(alike)} more compute the same")
    sys.exit(noticed < 0.95 * counted)


if __name__ == "__main__":
    main()
