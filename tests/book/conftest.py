"""A small book in a temporary folder: the real workflow, with a few made-up chapters that need no torch."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat import v4

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "book" / "tools"
sys.path.insert(0, str(TOOLS))

PARAMETERS = 'profile_name = "smoke"\ndata_folder = None\nruns_folder = "runs"\nseed = 0'


def notebook(*cells: str, parameters: str = PARAMETERS):
    """A notebook with a title, a parameters cell and these code cells."""
    first = v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})
    nb = v4.new_notebook(cells=[v4.new_markdown_cell("# Title"), first, *map(v4.new_code_cell, cells)])
    nb.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    return nb


# In place of Jupyter Book, which takes seconds for each build: a page is its notebook's text, and a link to a page that
# is not there is a fault. Jupyter Book itself runs in test_render.py.
QUICK = """
def jupyter_book(build, output, *options, **manner):
    html = output / "_build" / "html"
    html.mkdir(parents=True)
    for source in (build / "stage").glob("*.*"):
        (html / f"{source.stem}.html").write_text(source.read_text("utf-8"), "utf-8")
    lost = "nowhere.md" in (html / "index.html").read_text("utf-8")
    return subprocess.CompletedProcess([], int(lost), "index.md: WARNING: nowhere.md" if lost else "")


"""


class Book:
    """A copy of the project's workflow with chapters a, b and c, where c stands on a."""

    def __init__(self, root: Path, quick: bool = False):
        self.root, self.book, self.build = root, root / "book", root / "_build"
        self.tools = self.book / "tools"
        self.tools.mkdir(parents=True)
        for name in ("build.py", "command.py", "execute.py", "inputs.py", "kaggle.py", "offline.py", "render.py"):
            shutil.copy(TOOLS / name, self.tools)
        if quick:
            main, render = 'if __name__ == "__main__":', self.tools / "render.py"
            render.write_text(render.read_text().replace(main, QUICK.lstrip() + main))
        shutil.copy(ROOT / "_config.yml", root)
        needs = 'NEEDS = {"c": ["a"]}'
        text, count = re.subn(r"NEEDS = \{.*?\n\}", needs, (TOOLS / "Snakefile").read_text(), flags=re.S)
        assert count == 1
        (self.tools / "Snakefile").write_text(text)
        for package in ("cascade_core", "cascade_lab"):
            (root / package).mkdir()
            (root / package / "models.py").write_text("x = 1\n")
        (root / "results").mkdir()
        files = "".join(f"  - file: {name}\n" for name in "abc")
        (self.book / "_toc.yml").write_text(f"format: jb-book\nroot: index\nchapters:\n{files}")
        (self.book / "references.bib").write_text("")
        (self.book / "index.md").write_text("# The book\n\nSee [chapter a](a.ipynb).\n")
        for name in "abc":
            self.write(name, notebook(self.trace(name)))

    def make_with(self, path: Path, more: str):
        """The outcome of a build while a file has more text at its end."""
        good = path.read_text()
        path.write_text(good + more)
        run = self.make()
        path.write_text(good)
        return run

    def trace(self, name: str) -> str:
        """Code by which a chapter leaves a line each time it is executed."""
        return f"with open({str(self.root / 'trace')!r}, 'a') as file:\n    print({name!r}, seed, file=file)"

    def write(self, name: str, nb) -> None:
        nbformat.write(nb, self.book / f"{name}.ipynb")

    def traced(self) -> list[str]:
        """The chapters executed since the last call, sorted."""
        path = self.root / "trace"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return sorted(line.split()[0] for line in lines)

    def make(self, *options: str, **environment: str) -> subprocess.CompletedProcess:
        command = [sys.executable, self.tools / "build.py", "--cores", "2", *options]
        env = os.environ | environment
        return subprocess.run(command, capture_output=True, text=True, errors="replace", env=env)

    def execute(
        self, name: str, timeout: float = 60, env=None, script="execute.py", **parameters
    ) -> subprocess.CompletedProcess:
        """Runs one chapter as the workflow does, or by another script of the tools."""
        inputs = self.build / "smoke" / "inputs" / f"{name}.json"
        inputs.parent.mkdir(parents=True, exist_ok=True)
        inputs.write_text(json.dumps({"parameters": parameters}))
        command = [sys.executable, self.tools / script, self.book / f"{name}.ipynb"]
        options = ["--build", self.build / "smoke", "--timeout", str(timeout)]
        manner = {"capture_output": True, "text": True, "env": env, "stdin": subprocess.DEVNULL}
        return subprocess.run([*command, *options], **manner)

    def executed(self, name: str) -> Path:
        return self.build / "smoke" / "executed" / f"{name}.ipynb"

    def partial(self, name: str) -> Path:
        return self.build / "smoke" / "partial" / f"{name}.ipynb"


PLACE = "ein Büchlein's {copy}, $(HOME)"  # a folder may have any name


@pytest.fixture
def book(tmp_path) -> Book:
    return Book(tmp_path / PLACE)
