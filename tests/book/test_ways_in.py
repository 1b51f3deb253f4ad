"""README, citation, changelog, workflow, environment and the pages to look up say what is true."""

import json
import re
import subprocess
import sys
import tomllib

import inputs
import numpy as np
import pytest
import yaml
from PIL import Image

from .conftest import ROOT, TOOLS

BOOK = ROOT / "book"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REPOSITORY = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]
TARGETS = set(re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.M)[1].split())
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
PAGES = [*BOOK.glob("*.md"), *BOOK.glob("*.ipynb")]


def make_targets(text: str) -> list[str]:
    """The targets of every `make ...` in code of a text, without its options."""
    found = []
    for command in re.findall(r"(?:`|^|\s)(make [^`\n#]*)", text, re.M):
        words = command.split()[1:]
        found += [word for word in words if re.fullmatch(r"[a-z]+", word)][:1]
    return found


class TestCitation:
    cff = yaml.safe_load((ROOT / "CITATION.cff").read_text())

    def test_has_what_its_format_asks_for(self):
        assert self.cff["cff-version"] == "1.2.0"
        assert {"message", "title", "authors"} <= set(self.cff)
        assert all({"name"} <= set(author) or {"family-names"} <= set(author) for author in self.cff["authors"])

    def test_agrees_with_the_project(self):
        assert self.cff["version"] == PROJECT["version"]
        assert self.cff["license"] == PROJECT["license"]
        assert self.cff["repository-code"] == REPOSITORY["url"]

    def test_names_the_paper_as_the_bibliography_does(self):
        (paper,) = self.cff["references"]
        entry = re.search(r"@article\{zhao2018cascade,.*?\n\}", (BOOK / "references.bib").read_text(), re.S)[0]
        for key in ("title", "journal", "volume", "year", "doi"):
            assert f"{key} = {{{paper[key]}}}" in entry
        assert [f"{a['family-names']}, {a['given-names']}" for a in paper["authors"]] == re.search(
            r"author = \{(.*)\}", entry
        )[1].split(" and ")


def test_the_first_pages_quick_start_restores_a_photo(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "book" / "index.md").read_text(), flags=re.DOTALL)
    photo, mask = np.full((96, 96, 3), 90, np.uint8), np.zeros((96, 96), np.uint8)
    mask[40:50, 40:50] = 255
    Image.fromarray(photo).save(tmp_path / "photo.png")
    Image.fromarray(mask).save(tmp_path / "mask.png")
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    restored = np.asarray(Image.open(tmp_path / "restored.png"))
    assert (restored[mask == 0] == 90).all()
    assert abs(restored[mask > 0].astype(int) - 90).mean() < 10


def test_the_changelog_has_this_version():
    assert re.search(rf"^## {re.escape(PROJECT['version'])}\b", (ROOT / "CHANGELOG.md").read_text(), re.M)


class TestReadme:
    text = (ROOT / "README.md").read_text()

    def test_badges_are_true(self):
        assert f"license-{PROJECT['license'].replace('-', '--')}-" in self.text
        needed = PROJECT["requires-python"].removeprefix(">=")
        assert f"python-{needed}%20or%20newer" in self.text
        owner = REPOSITORY["url"].removeprefix("https://github.com/")
        path = REPOSITORY["path_to_book"]
        assert f"https://mybinder.org/v2/gh/{owner}/{REPOSITORY['branch']}?urlpath=lab/tree/{path})" in self.text


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_files_that_are_named_exist(path):
    text = path.read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    named = re.findall(r"`((?:\w+/)+[\w.]+|\w+\.(?:toml|yml|md|cff|py))`", text)
    roots = (ROOT, BOOK, ROOT / "cascade_lab" / "baselines", ROOT / "tests" / "lab" / "baselines")
    made = ("_build/", "book/12_name", "cascade_lab/baselines/name")
    missing = [name for name in [*links, *named] if not any((root / name).exists() for root in roots)]
    assert [name for name in missing if not name.startswith(made)] == []


@pytest.mark.parametrize("path", [*TEXTS, *PAGES, ROOT / ".ci" / "run"], ids=lambda path: path.name)
def test_make_targets_that_are_named_exist(path):
    text = path.read_text()
    if path.suffix in (".md", ".ipynb", ""):  # in prose, "make" is a word like others
        text = "\n".join(re.findall(r"`make [^`]*`|^make [^\n]*$", text, re.M))
    assert set(make_targets(text)) <= TARGETS


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
class TestWorkflow:
    def test_runs_make_targets_that_exist(self, path):
        jobs = yaml.safe_load(path.read_text())["jobs"]
        runs = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
        targets = [target for run in runs for target in make_targets(run)]
        assert targets
        assert set(targets) <= TARGETS
        assert all(("run" in step) != ("uses" in step) for job in jobs.values() for step in job["steps"])

    def test_names_places_that_the_build_writes(self, path):
        text = path.read_text()
        assert "path: _build/smoke/html" in text
        assert 'BUILD / "html"' in (TOOLS / "build.py").read_text()
        assert 'build / "html"' in (TOOLS / "render.py").read_text()

    def test_the_gpu_job_waits_for_a_runner_that_somebody_has_named(self, path):
        gpu = yaml.safe_load(path.read_text())["jobs"]["gpu"]
        assert gpu["if"].startswith("vars.GPU_RUNNER != ''")
        assert gpu["runs-on"] == ["self-hosted", "${{ vars.GPU_RUNNER }}"]

    def test_publishes_what_was_pushed_to_the_books_branch(self, path):
        flow = yaml.safe_load(path.read_text())
        triggers = flow[True]  # YAML 1.1 reads the key `on` as true
        assert triggers["push"]["branches"] == [REPOSITORY["branch"]]
        assert triggers["schedule"]
        assert flow["jobs"]["publish"]["if"] == "github.event_name == 'push'"


def test_the_environment_installs_groups_that_exist():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    (pip,) = [part["pip"] for part in environment["dependencies"] if isinstance(part, dict)]
    groups = re.search(r"-e \.\[(.*)\]", " ".join(pip))[1].split(",")
    assert set(groups) <= set(PROJECT["optional-dependencies"])
    assert (ROOT / re.search(r"-c (\S+)", " ".join(pip))[1]).exists()


class TestPagesToLookUp:
    def test_every_module_is_on_the_page_of_the_package_once(self):
        modules = re.findall(r"automodule:: (\S+)", (BOOK / "api.md").read_text())
        files = [path for package in ("cascade_core", "cascade_lab") for path in (ROOT / package).rglob("*.py")]
        names = [
            ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            for path in files
            if path.stem != "__main__"
        ]
        assert sorted(modules) == sorted(
            set(names)
            - {"cascade_core", "cascade_lab", *(f"cascade_lab.{n}" for n in ("evaluation", "show", "training"))}
        )

    def test_the_glossary_is_in_order(self):
        block = re.search(r":::\{glossary\}\n(.*):::", (BOOK / "glossary.md").read_text(), re.S)[1]
        terms = re.findall(r"^(\S.*)$", block, re.M)
        assert terms == sorted(terms, key=str.lower)

    def test_a_symbol_stands_in_an_equation_of_the_chapter_that_is_named(self):
        def plain(text):
            return re.sub(r"\\[,;!]|[\s{}]", "", text)

        rows = re.findall(r"^\| (\$.*?) \|.*\((\S+\.ipynb)\) \|$", (BOOK / "symbols.md").read_text(), re.M)
        assert len(rows) > 40
        for symbols, chapter in rows:
            cells = json.loads((BOOK / chapter).read_text())["cells"]
            prose = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
            math = "\n".join(re.findall(r"\$\$.+?\$\$|\$[^$]+\$", prose, re.S))
            for symbol in re.findall(r"\$(.*?)\$", symbols):
                for part in re.split(r",\s(?![^{]*\})", symbol):
                    letter = rf"(?<![A-Za-z\\]){part}(?![A-Za-z])"
                    there = re.search(letter, math) if len(part) == 1 else plain(part) in plain(math)
                    assert there, f"{part} is in no equation of {chapter}"

    def test_every_page_is_in_the_contents_and_every_entry_is_cited(self):
        entries = inputs.toc_entries(BOOK / "_toc.yml")
        assert {path.stem for path in PAGES} == set(entries)
        keys = re.findall(r"^@\w+\{(\w+),", (BOOK / "references.bib").read_text(), re.M)
        assert len(set(keys)) == len(keys)
        text = "\n".join(path.read_text() for path in PAGES)
        cited = {key for keys in re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", text) for key in keys.split(",")}
        assert cited == set(keys)
