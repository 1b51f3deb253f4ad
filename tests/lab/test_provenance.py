"""The commit in a record: the package's own, or none."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from cascade_lab import provenance


@pytest.fixture
def module(tmp_path) -> Path:
    """A module that a repository tracks."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    (tmp_path / "package").mkdir()
    module = tmp_path / "package" / "module.py"
    module.write_text("x = 1\n")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "package")
    git(tmp_path, "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "--quiet", "-m", "one")
    return module


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", folder, *arguments], check=True, capture_output=True, text=True).stdout.strip()


def test_the_commit_of_the_own_repository(module):
    head = git(module.parent, "rev-parse", "HEAD")
    assert provenance.commit(module) == head[:12]
    module.write_text("x = 2\n")
    assert provenance.commit(module) == f"{head[:12]}-dirty"


def test_an_installed_package_is_not_the_repository_around_it(module):
    """A virtual environment in somebody's repository, ignored there or just not added."""
    installed = module.parent.parent / ".venv" / "site-packages" / "module.py"
    installed.parent.mkdir(parents=True)
    installed.write_text("x = 1\n")
    assert provenance.commit(installed) == "unknown"
    (module.parent.parent / ".gitignore").write_text(".venv\n")
    assert provenance.commit(installed) == "unknown"


def test_outside_of_any_repository(tmp_path):
    (tmp_path / "module.py").write_text("")
    assert provenance.commit(tmp_path / "module.py") == "unknown"


def test_gits_variables_mean_another_repository(module, tmp_path, monkeypatch):
    head = provenance.commit(module)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path))
    assert provenance.commit(module) == head


def test_without_git_a_record_is_made_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("git") is None
    record = provenance.circumstances(torch.device("cpu"), "32-true")
    assert record["commit"] == "unknown"
    assert record["device"].endswith(f"{os.cpu_count()} cores")
    assert record["devices"].split()[0] == str(torch.get_num_threads())
