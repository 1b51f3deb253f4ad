"""Seconds that the book takes, from clean and with nothing changed: `python -m benchmarks.book [chapter ...]`.

The committed files are cloned into a temporary folder that has no `_build`, and the book's own steps are run there by
this Python; setting up an environment is not counted. With chapters named, only these are executed, and no page made.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


def build(checkout: Path, chapters: tuple[str, ...], profile: str) -> float:
    """Seconds of one build; raises ``CalledProcessError`` where it fails, after the build's own words."""
    command = [sys.executable, "book/tools/build.py", "--profile", profile, *chapters]
    start = time.perf_counter()
    # the checkout's own package, also where another is installed
    subprocess.run(command, cwd=checkout, check=True, env={**os.environ, "PYTHONPATH": str(checkout)})
    return time.perf_counter() - start


def measure(device: str = "cpu", chapters: tuple[str, ...] = (), profile: str = "smoke") -> list[dict]:
    """Rows of task, way and seconds; there is no peer. A GPU is used if there is one, whatever ``device`` says."""
    with tempfile.TemporaryDirectory() as folder:
        checkout = Path(folder) / "book"
        subprocess.run(["git", "clone", "-q", ROOT, checkout], check=True)
        return [
            {
                "task": f"the {profile} book",
                "way": way,
                "chapters": list(chapters),  # none named: all of them, and the pages
                "seconds": build(checkout, chapters, profile),
                "ours_is_times_as_fast": None,
            }
            for way in ("from clean", "nothing changed")
        ]


def main() -> None:
    for row in measure(chapters=tuple(sys.argv[1:])):
        print(f"{row['task']}, {row['way']:16} {row['seconds']:7.1f} s")


if __name__ == "__main__":
    main()
