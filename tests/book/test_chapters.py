"""The real chapters' sources: what a reader, Colab and the workflow each need of them."""

import ast
import re
import tomllib

import execute
import inputs
import nbformat
import pytest
import yaml

from .conftest import ROOT, TOOLS

SOURCES = sorted((ROOT / "book").glob("*.ipynb"))
REPOSITORY = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]
# On Colab and Kaggle alone, and beside their own torch, numpy, ipykernel and ipywidgets: without versions, and without
# the `book` group, which a reader there does not need and whose ipykernel would replace the running one. The baselines
# are small.
COLAB = f"""import os
import sys

if "google.colab" in sys.modules or "KAGGLE_KERNEL_RUN_TYPE" in os.environ:
    address = "git+{REPOSITORY["url"]}@{REPOSITORY["branch"]}"
    %pip install -q "cascade-core[baselines] @ {{address}}"
"""
EXPORT = ("11_your_photo", "elsewhere")  # they write ONNX files
EXPECTED = {"profile_name": "smoke", "data_folder": None, "runs_folder": "runs", "seed": 0}


def test_contents_workflow_and_sources_name_the_same_chapters():
    block = re.search(r"NEEDS = (\{.*?\n\})", (TOOLS / "Snakefile").read_text(), flags=re.S)
    needs = ast.literal_eval(block[1])
    chapters = inputs.chapters(ROOT / "book")
    assert sorted(chapters) == [path.stem for path in SOURCES]
    assert {*needs, *sum(needs.values(), [])} <= set(chapters)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_source(path):
    nb = nbformat.read(path, 4)
    nbformat.validate(nb)
    execute.check_source(nb, path.stem, EXPECTED)  # no outputs, no unknown parameter
    assert execute.defaults(nb, path.stem) == EXPECTED
    assert nb.metadata.kernelspec.name == "python3"  # without a kernel the page shows no Colab button
    code = [cell for cell in nb.cells if cell.cell_type == "code"]
    export = "[baselines,export]" if path.stem in EXPORT else "[baselines]"
    assert code[0].source.strip() == COLAB.strip().replace("[baselines]", export)
    assert "parameters" in execute.tags(code[1])
    assert nb.cells[0].cell_type == "markdown"
    assert nb.cells[0].source.startswith("# ")
    # these can leave papermill waiting for ever; a slider, an Image and observe() do not
    assert not [cell.source for cell in code if re.search(r"\binteract\(\w|\bOutput\(\)", cell.source)]
    # a training's progress line would be a second output of the figure's name
    figures = [cell.source for cell in code if "figure" in cell.metadata.get("mystnb", {})]
    assert not [source for source in figures if "stages.train(" in source or "stages.fit(" in source]
    ids = [cell.id for cell in nb.cells]
    assert len(set(ids)) == len(ids)


def test_the_lock_holds_exact_versions_of_what_make_installs():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    groups = [project["dependencies"], *(extras[name] for name in ("baselines", "book", "dev", "export"))]
    names = {re.match(r"[\w-]+", line)[0].lower() for group in groups for line in group}
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.+]+", line) for line in lines)
    assert names <= {line.split("==")[0].lower().replace("_", "-") for line in lines}
