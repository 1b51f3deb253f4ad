"""Builds the pages from the executed chapters; a warning is an error.

    python book/render.py --build _build/smoke 01_data_synthesis 02_networks ...

The sources' pages and the executed copies are laid side by side in BUILD/stage under the names that they have in
book/, so a page's links, and its Colab button, mean the source notebook. Jupyter Book would build a page from a
notebook that failed and say nothing, so each copy is checked once more.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import yaml
from execute import MEASURED, RECORD, ChapterError, read_executed, tags
from PIL import Image

from cascade_lab import published

BOOK = Path(__file__).resolve().parent
CONFIG = BOOK.parent / "_config.yml"


def toc_entries(toc: Path) -> list[str]:
    """The pages that the table of contents names, in its order."""

    def files(node: object) -> list[str]:
        if isinstance(node, list):
            return [name for item in node for name in files(item)]
        if isinstance(node, dict):
            own = [node[key] for key in ("root", "file") if key in node]
            return own + [name for value in node.values() for name in files(value)]
        return []

    return files(yaml.safe_load(toc.read_text("utf-8")))


def stage(folder: Path, executed: Path, chapters: list[str]) -> None:
    """Lays out the pages' sources; raises ValueError if a page of the contents is missing or a chapter is in none."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for source in [*BOOK.glob("*.md"), *BOOK.glob("*.bib"), BOOK / "_toc.yml"]:
        shutil.copy(source, folder)
    if (BOOK / "_static").is_dir():
        shutil.copytree(BOOK / "_static", folder / "_static")
    for chapter in chapters:
        nb = read_executed(executed / f"{chapter}.ipynb", chapter)
        # The reader who downloads the page's notebook gets the source and its outputs, not one machine's paths.
        nb.cells = [cell for cell in nb.cells if "injected-parameters" not in tags(cell)]
        for output in [output for cell in nb.cells for output in cell.get("outputs", [])]:
            # a picture's size, which the page would fix, also where the page is narrower; see `lighten`
            output.get("metadata", {}).pop("image/png", None)
        for part in [nb, *nb.cells]:
            part.metadata.pop("papermill", None)
        profile = nb.metadata.pop(RECORD, {}).get("parameters", {}).get("profile_name", "")
        nb.cells[0].source += f"\n\n*{took(profile, **nb.metadata.pop(MEASURED))}{recorded(chapter)}*"
        nb.metadata.pop("widgets", None)  # with it the page would fetch a program, and no Python stands behind it
        nbformat.write(nb, folder / f"{chapter}.ipynb")
    entries = toc_entries(folder / "_toc.yml")
    for entry in entries:
        if not any((folder / f"{entry}{end}").exists() for end in ("", ".md", ".ipynb")):
            raise ValueError(f"_toc.yml names {entry!r}: there is no such page or chapter")
    for chapter in chapters:
        if chapter not in entries:
            raise ValueError(f"chapter {chapter}: _toc.yml does not name it, so no page would show it")


def took(profile: str, seconds: float, bytes: int, threads: int) -> str:
    """What the execution of a chapter took, as its page says it.

    >>> took("smoke", 74.2, 1_230_000_000, 1)
    'For this page it took 74 s and at most 1.2 GB of memory: profile smoke, 1 processor thread.'
    """
    time = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
    where = f"profile {profile}, {threads} processor thread{'s' * (threads > 1)}"
    return f"For this page it took {time} and at most {bytes / 1e9:.1f} GB of memory: {where}."


def recorded(chapter: str) -> str:
    """What the long run of the stage that a chapter trains took, from its record; nothing for another chapter."""
    if not (stage := re.search(r"_stage(\d)$", chapter)):
        return ""
    record = published.trainings()[int(stage[1])]
    where = f"{record['profile']}, {record['device']}, on {record['devices']}".replace(" 1 threads", " 1 thread")
    return f" The recorded long run of this stage took {record['seconds'] / 60:.0f} min: profile {where}."


def render(build: Path) -> None:
    """Runs Jupyter Book on BUILD/stage and puts the pages into BUILD/html."""
    site = build / "site"
    shutil.rmtree(site, ignore_errors=True)
    command = [Path(sys.executable).with_name("jupyter-book"), "build", build / "stage"]
    options = ["--config", CONFIG, "--toc", build / "stage" / "_toc.yml", "--path-output", site]
    run = subprocess.run(
        [*command, *options, "-W", "-n", "--keep-going"],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    (build / "logs").mkdir(exist_ok=True)
    log = build / "logs" / "pages.log"
    log.write_text(run.stdout)
    if run.returncode:
        plain = re.sub(r"\x1b\[[0-9;]*m", "", run.stdout)
        warnings = [line for line in plain.splitlines() if re.search(r"WARNING|ERROR|Error:", line)]
        raise ValueError("\n".join(["pages: Jupyter Book found faults", *warnings, f"  all it said: {log}"]))
    lighten(site / "_build" / "html")
    shutil.rmtree(build / "html", ignore_errors=True)
    os.replace(site / "_build" / "html", build / "html")
    shutil.rmtree(site)


def lighten(html: Path) -> None:
    """The pages' PNG pictures as WebP, which is a third as large. Each ``img`` gets its size: an inch of a figure is
    100 px of the page, whatever its resolution, so a figure with 200 dots an inch is sharp on a dense screen. It also
    becomes a link to the picture alone: on a phone a figure's small print wants a whole screen."""
    made = {}
    for path in html.glob("_images/*.png"):
        with Image.open(path) as image:
            plain = image.convert("RGBA" if "A" in image.getbands() else "RGB")
            plain.save(path.with_suffix(".webp"), quality=80, method=6)
            scale = 100 / image.info["dpi"][0] if "dpi" in image.info else 1
            made[path.name] = [round(side * scale) for side in image.size]
        path.unlink()

    def lighter(match: re.Match) -> str:
        (width, height), path = made[match[2]], f"_images/{match[2].removesuffix('png')}webp"
        return f'<a class="alone" href="{path}"><img width="{width}" height="{height}" {match[1]}{path}{match[3]}</a>'

    for page in html.glob("*.html"):
        text = page.read_text("utf-8")
        page.write_text(re.sub(r'<img ([^>]*src=")_images/([^"]+\.png)("[^>]*>)', lighter, text), "utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chapters", nargs="+", help="names of the chapters, without .ipynb")
    parser.add_argument("--build", type=Path, required=True, help="the folder that has executed/")
    args = parser.parse_args()
    build = args.build.resolve()
    try:
        stage(build / "stage", build / "executed", args.chapters)
        render(build)
    except (ChapterError, ValueError) as error:
        (build / "partial").mkdir(exist_ok=True)
        (build / "partial" / "pages.txt").write_text(f"{error}\n")
        print("pages: FAILED", flush=True)
        return 1
    (build / "done" / "pages").touch()
    print("pages: done", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
