"""The command that changes the repository's address."""

import json
import re
import shutil

import address
import pytest
import yaml

from .conftest import ROOT


@pytest.fixture
def copy(tmp_path):
    (tmp_path / "book").mkdir()
    for name in ("_config.yml", "README.md", "book/01_data_synthesis.ipynb", "book/index.md"):
        shutil.copy(ROOT / name, tmp_path / name)
    repository = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]
    line = f"\n[here]({repository['url']}/blob/{repository['branch']}/README.md)\n"
    (tmp_path / "README.md").write_text((tmp_path / "README.md").read_text() + line)
    return tmp_path


def texts(folder):
    return {path.name: path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_it_changes_all_and_back_again(copy):
    before, repository = texts(copy), yaml.safe_load((copy / "_config.yml").read_text())["repository"]
    address.move(copy, "https://github.com/someone/a-book.git", "release-1")
    after = texts(copy)
    assert yaml.safe_load(after["_config.yml"])["repository"] == repository | {
        "url": "https://github.com/someone/a-book",
        "branch": "release-1",
    }
    cells = json.loads(after["01_data_synthesis.ipynb"])["cells"]
    assert "git+https://github.com/someone/a-book@release-1" in "".join(cells[1]["source"])
    assert "https://github.com/someone/a-book/blob/release-1/README.md" in after["README.md"]
    assert not re.search(address.slug(repository["url"]), "".join(after.values()))
    address.move(copy, repository["url"], repository["branch"])
    assert texts(copy) == before


def test_another_repository_with_a_longer_name_is_left_alone(copy):
    url = yaml.safe_load((copy / "_config.yml").read_text())["repository"]["url"]
    (copy / "README.md").write_text(f"{url}-data")
    address.move(copy, "https://github.com/someone/a-book")
    assert (copy / "README.md").read_text() == f"{url}-data"


@pytest.mark.parametrize("url", ["github.com/a/b", "https://gitlab.com/a/b", "https://github.com/a"])
def test_what_is_no_address_is_refused(copy, url):
    before = texts(copy)
    with pytest.raises(ValueError, match="is not of the form https://github.com/NAME/REPO"):
        address.move(copy, url)
    assert texts(copy) == before
