"""The pages: what Jupyter Book lets pass must not pass here."""

import os
import re
import shlex
import subprocess
import sys

import nbformat
import pytest
import render
import yaml
from nbformat import v4
from PIL import Image

from .conftest import PLACE, ROOT, Book, notebook

CAPTION = {"mystnb": {"figure": {"caption": "A line.", "name": "fig-line"}, "image": {"alt": "a line"}}}


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """A book that was made once, with a terminal that cannot show what a chapter says, and with a git that fails."""
    book = Book(tmp_path_factory.mktemp("made") / PLACE)
    nb = notebook("for i in range(3):\n    print('line', i)", "import matplotlib.pyplot as plt\nplt.plot([1, 2]);")
    nb.cells[3].metadata.update(CAPTION)
    book.write("a", nb)
    nb = notebook("print('Größe Ω')")
    nb.cells.append(v4.new_markdown_cell("## Exercises\n\nSay one."))
    said = {"stub": "'answer'", "check": "print('Not yet. Say it.')", "solution": "print('Right.')"}
    nb.cells += [v4.new_code_cell(source, metadata={"tags": [tag]}) for tag, source in said.items()]
    book.write("b", nb)
    (book.root / "photos").mkdir()
    program = book.root / "bin" / "git"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {shlex.quote(str(book.root / 'asked'))}\nexit 1\n")
    program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    run = book.make("--data", str(book.root / "photos"), PATH=path, PYTHONIOENCODING="ascii")
    assert run.returncode == 0, run.stdout + run.stderr
    return book


def stage(book):
    render.stage(book.build / "smoke")


@pytest.fixture(autouse=True)
def _in_the_small_book(monkeypatch, book):
    monkeypatch.setattr(render, "BOOK", book.book)


def test_a_notebook_without_solutions_lies_beside_the_page(book):
    page = (book.build / "html" / "b.html").read_text()
    (lent,) = (book.build / "html" / "_downloads").glob("*/b.ipynb")
    assert f'href="{lent.relative_to(book.build / "html")}"' in page
    cells = nbformat.read(lent, 4).cells
    assert [cell.metadata.get("tags") for cell in cells[-2:]] == [["stub"], ["check"]]
    assert not any(cell.get("outputs") for cell in cells)


def test_the_page(book):
    page = (book.build / "html" / "a.html").read_text()
    address = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"].removeprefix(
        "https://github.com/"
    )
    assert f"https://colab.research.google.com/github/{address}/blob/main/book/a.ipynb" in page
    kaggle = f'href="https://kaggle.com/kernels/welcome?src=https://github.com/{address}/blob/main/book/a.ipynb"'
    assert page.count(kaggle) == 1
    assert "kaggle" not in (book.build / "html" / "index.html").read_text(), "a page without a notebook has no button"
    # an inch of the figure is 100 px of the page; book.css lets it scroll where it would become too small
    figure = re.search(r'<a class="alone" style="--width: (\d+)px" href="([^"]+\.webp)"><img width="(\d+)"', page)
    assert figure[1] == figure[3]
    with Image.open(book.build / "html" / figure[2]) as image:
        assert abs(image.width - 2 * int(figure[1])) <= 1
    assert 'alt="a line"' in page
    assert "A line." in page
    assert page.count("line 1") == 1
    assert "line 0\nline 1\nline 2" in page, "what one cell prints is one block"
    assert re.search(r"For this page it took \d+ s and at most 0\.\d GB of memory: profile smoke, \d+ processor", page)
    assert str(book.root) not in page, "the cell with the parameters that were put in is not the reader's"
    assert str(book.root) not in (book.build / "html" / "_sources" / "a.ipynb").read_text()


def test_the_book_needs_no_git(book):
    """Neither a repository, which the small book is not in, nor the program."""
    assert not (book.root / "asked").exists()


def test_a_letter_that_the_terminal_cannot_show_is_on_the_page(book):
    assert "Größe Ω" in (book.build / "html" / "b.html").read_text("utf-8")


def test_a_stage_tells_of_its_long_run():
    assert re.fullmatch(r" The recorded long run .* took \d+ min: profile \w+, .+\.", render.recorded("05_stage3"))
    assert render.recorded("11_your_photo") == ""


def test_pictures_are_light_and_know_their_size(tmp_path):
    """An inch of a figure is 100 px of the page; a drawing without a size in points is left alone."""
    images = tmp_path / "_images"
    images.mkdir()
    Image.new("RGB", (300, 200)).save(images / "a.png", dpi=(200, 200))
    (images / "b.svg").write_text('<svg viewBox="0 0 1 1" width="144pt" height="72pt"></svg>')
    (images / "c.svg").write_text('<svg viewBox="0 0 1 1"></svg>')
    page = tmp_path / "a.html"
    page.write_text("".join(f'<img alt="x" src="_images/{name}" />' for name in ("a.png", "b.svg", "c.svg")))
    render.lighten(tmp_path)
    image = '<img width="{0}" height="{1}" alt="x" src="_images/{2}" />'
    link = '<a class="alone" style="--width: {0}px" href="_images/{2}">' + image + "</a>"
    shown = link.format(150, 100, "a.webp") + link.format(200, 100, "b.svg") + '<img alt="x" src="_images/c.svg" />'
    assert page.read_text() == shown
    assert sorted(path.name for path in images.iterdir()) == ["a.webp", "b.svg", "c.svg"]


def test_a_failed_notebook_is_not_built(book):
    """As papermill leaves it when a cell fails. Jupyter Book would build it without a word."""
    path = book.executed("a")
    good = path.read_text()
    nb = nbformat.read(path, 4)
    nb.cells[-1].outputs = [nbformat.v4.new_output("error", ename="ValueError", evalue="bad", traceback=[])]
    nbformat.write(nb, path)
    with pytest.raises(ValueError, match=r"chapter a, cell 4 \(import matplotlib.*: ValueError: bad"):
        stage(book)
    path.write_text(good)


def test_a_page_of_the_contents_must_exist(book):
    run = book.make_with(book.book / "_toc.yml", "  - file: d\n")
    assert run.returncode == 1
    assert "_toc.yml names 'd': there is no such page" in run.stderr


def test_a_warning_is_an_error(book):
    """A link to nowhere, and a plot cell whose last line has a value: a second figure of the same name."""
    build = book.build / "smoke"
    nb = nbformat.read(book.executed("a"), 4)
    nb.cells[-1].metadata["mystnb"]["figure"]["name"] = "fig-twice"
    nb.cells[-1].outputs.insert(0, v4.new_output("execute_result", {"text/plain": "[a line]"}, execution_count=3))
    nbformat.write(nb, book.executed("b"))
    index = book.book / "index.md"
    index.write_text(index.read_text() + "\n[lost](nowhere.md)\n")
    (build / "done" / "pages").unlink()
    run = subprocess.run([sys.executable, book.tools / "render.py", "--build", build], capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (1, "pages: FAILED\n"), run.stderr
    said = (build / "partial" / "pages.txt").read_text("utf-8")
    assert "pages: Jupyter Book found faults" in said
    assert "nowhere.md" in said
    assert "fig-twice" in said
    assert not (build / "done" / "pages").exists()
