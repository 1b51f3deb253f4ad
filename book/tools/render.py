"""Builds the pages from the executed chapters; a warning is an error.

    python book/tools/render.py --build _build/smoke            the pages: what `make book` calls at the end
    python book/tools/render.py --links                         asks every address outside: what `make links` calls

The sources' pages and the executed copies are laid side by side in BUILD/stage under the names that they have in
book/, so a page's links, and its Colab button, mean the source notebook. Jupyter Book would build a page from a
notebook that failed and say nothing, so each copy is checked once more.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
from command import Parser, run
from execute import MEASURED, RECORD, read_executed, tags
from inputs import chapters
from PIL import Image

from cascade_lab import show

BOOK = Path(__file__).resolve().parents[1]
CONFIG = BOOK.parent / "_config.yml"
SHOW = Path(show.__file__).parent
LARGE = re.compile(r'<script class="cascade-demo-file">.*?</script>', re.DOTALL)


def stage(build: Path) -> None:
    """Lays out the pages' sources in BUILD/stage."""
    folder = build / "stage"
    shutil.rmtree(folder, ignore_errors=True)
    sources = [(BOOK, path) for end in ("*.md", "*.bib", "_toc.yml", "_static/**/*") for path in BOOK.glob(end)]
    for root, source in [*sources, *((SHOW, path) for path in SHOW.glob("drawings/*.svg"))]:
        if source.is_file():
            target = folder / source.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)  # without its mode, which may be read-only
    first_page = (BOOK / "index.md").read_text("utf-8")
    if "_static/demo/" in first_page:
        from cascade_lab.show import demo  # it takes seconds, and a book without it need not wait

        demo.write(folder / "_static" / "demo")
    if "_static/made/" in first_page:
        tell(folder / "_static" / "made")
    for chapter in chapters(BOOK):
        nb = read_executed(build / "executed" / f"{chapter}.ipynb", chapter)
        # The reader who downloads the page's notebook gets the source and its outputs, not one machine's paths.
        nb.cells = [cell for cell in nb.cells if "injected-parameters" not in tags(cell)]
        for output in [output for cell in nb.cells for output in cell.get("outputs", [])]:
            if "text/html" in (shown := output.get("data", {})):
                # what the demo needs in a notebook, a page reads from beside it, and when it is asked for
                shown["text/html"] = LARGE.sub("", shown["text/html"])
            # a picture's size, which the page would fix, also where the page is narrower; see `lighten`
            output.get("metadata", {}).pop("image/png", None)
        for part in [nb, *nb.cells]:
            part.metadata.pop("papermill", None)
            part.metadata.pop(RECORD, None)
        lend(nb, chapter, folder)
        nb.cells[0].source += f"\n\n*{took(build.name, **nb.metadata.pop(MEASURED))}{recorded(chapter)}*"
        nb.metadata.pop("widgets", None)  # with it the page would fetch a program, and no Python stands behind it
        nbformat.write(nb, folder / f"{chapter}.ipynb")


def tell(folder: Path) -> None:
    """What the first page says of the results and the weights, from their records."""
    from cascade_lab import published
    from cascade_lab.evaluation import claims

    folder.mkdir()
    shown = claims.table(claims.verdicts()).to_html()
    wrapped = f'<div class="cell_output"><div class="output text_html">{shown}</div></div>'  # as a chapter's tables
    (folder / "verdicts.html").write_text(wrapped, "utf-8")
    for name, file in published.NAMES.items():
        said = f"<p><em>Made by the published weights of {name}, {published.training(name)}.</em></p>"
        (folder / file).with_suffix(".html").write_text(said, "utf-8")


def lend(nb: nbformat.NotebookNode, chapter: str, folder: Path) -> None:
    """Writes the student's notebook, the source without its solutions, and links it under the exercises' heading."""
    if not any("solution" in tags(cell) for cell in nb.cells):
        return
    source = nbformat.read(BOOK / f"{chapter}.ipynb", 4)
    source.cells = [cell for cell in source.cells if "solution" not in tags(cell)]
    target = folder / "exercises" / f"{chapter}.ipynb"
    target.parent.mkdir(exist_ok=True)
    nbformat.write(source, target)
    heading = next((cell for cell in nb.cells if re.search("^## Exercises$", cell.source, re.MULTILINE)), None)
    if heading is None:
        raise ValueError(f"chapter {chapter} has exercises, but no heading ## Exercises above them")
    link = f"{{download}}`A notebook without the solutions <exercises/{chapter}.ipynb>` is for whoever solves them."
    heading.source = re.sub("^## Exercises$", rf"\g<0>\n\n{link}", heading.source, flags=re.MULTILINE)


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
    from cascade_lab import published  # it takes seconds, and only four chapters ask

    record = published.trainings()[int(stage[1])]
    where = f"{record['profile']}, {record['device']}, on {record['devices']}".replace(" 1 threads", " 1 thread")
    return f" The recorded long run of this stage took {record['seconds'] / 60:.0f} min: profile {where}."


def jupyter_book(build: Path, output: Path, *options: str, **manner) -> subprocess.CompletedProcess:
    """Runs Jupyter Book on BUILD/stage."""
    staged = build / "stage"
    command = [Path(sys.executable).with_name("jupyter-book"), "build", staged, "--config", CONFIG]
    folders = ["--toc", staged / "_toc.yml", "--path-output", output]
    return subprocess.run([*command, *folders, *options], **manner)


def render(build: Path) -> None:
    """Puts the pages into BUILD/html."""
    site, log = build / "site", build / "logs" / "pages.log"
    shutil.rmtree(site, ignore_errors=True)
    manner = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "encoding": "utf-8", "errors": "replace"}
    utf8 = os.environ | {"PYTHONIOENCODING": "utf-8"}
    made = jupyter_book(build, site, "-W", "-n", "--keep-going", **manner, env=utf8)
    log.parent.mkdir(exist_ok=True)
    log.write_text(made.stdout, "utf-8")
    if made.returncode:
        plain = re.sub(r"\x1b\[[0-9;]*m", "", made.stdout)
        warnings = [line for line in plain.splitlines() if re.search(r"WARNING|ERROR|Error:", line)]
        raise ValueError("\n".join(["pages: Jupyter Book found faults", *warnings, f"  its whole output: {log}"]))
    lighten(site / "_build" / "html")
    shutil.rmtree(build / "html", ignore_errors=True)
    os.replace(site / "_build" / "html", build / "html")
    shutil.rmtree(site)


def lighten(html: Path) -> None:
    """The pages' PNG pictures as WebP, which is a third as large. Each ``img`` gets its size: an inch of a figure is
    100 px of the page, whatever its resolution, so a figure with 200 dots an inch is sharp on a dense screen. It also
    becomes a link to the picture alone, and says its size to book.css, which lets a wide one scroll on a phone."""
    made = {}
    for path in html.glob("_images/*.png"):
        with Image.open(path) as image:
            plain = image.convert("RGBA" if "A" in image.getbands() else "RGB")
            plain.save(path.with_suffix(".webp"), quality=75, method=6)
            scale = 100 / image.info["dpi"][0] if "dpi" in image.info else 1
            made[path.name] = path.with_suffix(".webp").name, *(round(side * scale) for side in image.size)
        path.unlink()
    for path in html.glob("_images/*.svg"):  # matplotlib's, in points
        if size := re.search(r'<svg [^>]*width="([\d.]+)pt" height="([\d.]+)pt"', path.read_text("utf-8")):
            made[path.name] = path.name, *(round(float(points) * 100 / 72) for points in size.groups())

    def lighter(match: re.Match) -> str:
        if match[2] not in made:
            return match[0]
        name, width, height = made[match[2]]
        image = f'<img width="{width}" height="{height}" {match[1]}_images/{name}{match[3]}'
        return f'<a class="alone" style="--width: {width}px" href="_images/{name}">{image}</a>'

    for page in html.glob("*.html"):
        text = page.read_text("utf-8")
        page.write_text(re.sub(r'<img ([^>]*src=")_images/([^"]+\.(?:png|svg))("[^>]*>)', lighter, text), "utf-8")


def main() -> int:
    parser = Parser(__doc__)
    made = BOOK.parent / "_build" / (os.environ.get("BOOK_PROFILE") or "smoke")
    parser.add_argument("--build", type=Path, default=made, help="the folder that has executed/")
    parser.add_argument("--links", action="store_true", help="check the addresses outside instead")
    args = parser.parse_args()
    build = args.build.resolve()
    if args.links:
        if not (build / "stage").is_dir():
            raise ValueError(f"{build} has no pages; run `make book` first, with the same PROFILE")
        return jupyter_book(build, build.parent / "links", "--builder", "linkcheck").returncode
    try:
        stage(build)
        render(build)
    except ValueError as error:
        (build / "partial" / "pages.txt").write_text(f"{error}\n", "utf-8")
        print("pages: FAILED", flush=True)
        return 1
    (build / "done" / "pages").touch()
    print("pages: done", flush=True)
    return 0


if __name__ == "__main__":
    run(main)
