"""The workflow from one `make book` to the next: what runs again, what does not, and what a failure stops.

The tests share one small book and follow each other, because each step needs what the one before has left."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import build
import command
import inputs
import psutil
import pytest

from .conftest import PLACE, ROOT, Book, notebook


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    book = Book(tmp_path_factory.mktemp("made") / PLACE, quick=True)
    run = book.make()
    assert run.returncode == 0, run.stdout + run.stderr
    assert book.traced() == ["a", "b", "c"]
    return book


def page(book) -> str:
    return (book.build / "html" / "a.html").read_text()


def test_a_second_run_does_nothing(book):
    run = book.make()
    assert run.returncode == 0
    assert book.traced() == []
    assert run.stdout == f"The book: {book.build / 'html' / 'index.html'}\n"


def test_touching_files_runs_nothing(book):
    for path in [*book.book.iterdir(), *book.root.glob("cascade_core/*"), book.root / "_config.yml"]:
        path.touch()
    assert "done" not in book.make().stdout
    assert book.traced() == []


def test_only_the_changed_chapter_runs_again(book):
    """c stands on a, but what a says is not what c loads."""
    book.write("a", notebook(book.trace("a"), "print('said anew')"))
    assert book.make("a").returncode == 0
    assert book.traced() == ["a"]
    assert "said anew" not in page(book)
    assert book.make().returncode == 0
    assert book.traced() == []
    assert "said anew" in page(book), "the pages must follow a chapter that ran without them"
    book.write("a", notebook(book.trace("a"), "print('said again')"))
    run = book.make()
    assert book.traced() == ["a"]
    assert run.stdout.startswith("a: started (notebook changed)\na: done in ")
    assert "said again" in page(book)


@pytest.mark.parametrize("path", ["cascade_core/models.py", "cascade_lab/show/a.svg", "cascade_lab/profiles.toml"])
def test_a_package_is_its_sources_and_what_it_carries(book, path):
    """Comments, too, because chapters show the sources."""
    before, file = inputs.package_hash(book.root), book.root / path
    file.parent.mkdir(exist_ok=True)
    file.write_text("x = 1  # a comment\n")
    assert inputs.package_hash(book.root) != before


def test_a_change_to_a_package_or_a_result_runs_all_again(book):
    assert book.make("b").returncode == 0
    assert book.traced() == ["b"]
    (book.root / "results" / "weights.safetensors").write_text("1")
    assert book.make("b").returncode == 0
    assert book.traced() == ["b"]
    (book.root / "results" / "evaluations.parquet").write_text("1")
    assert book.make("a", "b", "c").returncode == 0
    assert book.traced() == ["a", "b", "c"]
    asked = json.loads((book.build / "smoke" / "inputs" / "a.json").read_text())
    assert asked["parameters"]["runs_folder"] == "../_build/runs"


def test_seed_data_and_profile_run_again(book, tmp_path):
    options = ["--data", str(tmp_path), "--seed", "1", "b"]
    for change in (lambda: None, lambda: (tmp_path / "photo.png").write_bytes(b"1")):
        change()
        assert book.make(*options).returncode == 0
        assert book.traced() == ["b"]
    assert book.make(*options).returncode == 0
    assert book.traced() == []
    assert book.make("--profile", "cpu", "b").returncode == 0
    assert book.traced() == ["b"]


def test_a_failure_stops_what_stands_on_it_and_stays_a_failure(book):
    book.write("a", notebook("1 / 0"))
    book.write("c", notebook(book.trace("c"), "1"))
    for expected in (
        ["b"],
        [],
    ):  # b, last made with another seed, stands on nothing; the second run must not be green because pages are there
        run = book.make()
        assert run.returncode == 1
        assert book.traced() == expected
        end = run.stderr.strip().splitlines()
        assert end[-3] == "chapter a, cell 3 (1 / 0): ZeroDivisionError: division by zero"
        assert end[-1] == "not run: c, pages"
        assert book.partial("a").exists()
        assert not book.executed("a").exists()
    book.write("a", notebook(book.trace("a")))
    assert book.make().returncode == 0
    assert book.traced() == ["a", "c"]


def test_a_lost_copy_is_made_again(book):
    book.executed("b").unlink()
    assert book.make("b").returncode == 0
    assert book.traced() == ["b"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "nowhere"], "data folder 'nowhere': there is no such folder; give DATA the path of one"),
        (["nochapter"], "there is no chapter nochapter; the chapters are a, b, c"),
        (["--seed", "false"], "invalid int value: 'false'"),
        (["--profile", "../x"], "'../x' is not the name of a profile"),
        (["--cores", "0"], "argument --cores: '0' is not a number above zero or the word all"),
        (["--cores", "-2"], "argument --cores: '-2' is not a number above zero or the word all"),
        (["--cores", "two"], "argument --cores: 'two' is not a number above zero or the word all"),
    ],
)
def test_what_cannot_be_made_is_said_in_one_line(book, options, message, monkeypatch, capsys):
    monkeypatch.setattr(build, "TOOLS", book.tools)
    monkeypatch.setattr(build, "BUILD", book.build)
    monkeypatch.setattr(sys, "argv", ["build.py", *options])
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the tests' own stay as they are
    monkeypatch.setattr(sys.stdout, "reconfigure", lambda **_: None, raising=False)
    with pytest.raises(SystemExit) as ended:
        command.run(build.main)
    output, error = capsys.readouterr()
    assert ended.value.code != 0
    assert message in error
    assert len(error.splitlines()) == 1
    assert output == ""


def test_a_build_folder_that_cannot_be_written_is_named(book):
    away = book.build.rename(book.root / "away")
    book.build.write_text("a file")
    run = book.make("a")
    book.build.unlink()
    away.rename(book.build)
    assert run.returncode == 1
    assert re.fullmatch(r"build\.py: .*/_build cannot be written \(File exists\); make it a folder .*\n", run.stderr)


def kernels(pid: int) -> list[psutil.Process]:
    return [p for p in psutil.Process(pid).children(recursive=True) if "ipykernel_launcher" in " ".join(p.cmdline())]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_second_build_waits_and_a_signal_ends_the_first(book, number):
    """SIGKILL goes to Snakemake, which cannot clear up: its chapter notices."""
    book.write("a", notebook("import time\ntime.sleep(60)"))
    command = [sys.executable, book.tools / "build.py", "a"]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert re.match("a: started", first.stdout.readline())
    second = book.make()
    assert second.returncode == 1
    assert re.fullmatch(r"build\.py: another build \(process \d+\) uses .*; wait for it or end it\n", second.stderr)
    while not kernels(first.pid):
        time.sleep(0.1)
    below = psutil.Process(first.pid).children(recursive=True)
    snakemake = int((book.build / "lock").read_text())
    os.kill(snakemake if number == signal.SIGKILL else first.pid, number)
    out, err = first.communicate(timeout=90)
    if number != signal.SIGKILL:
        assert first.returncode == 128 + number
        assert err == f"build.py: stopped by {number.name}; the next run goes on from what is finished\n"
        assert out == ""
    assert first.returncode != 0
    assert psutil.wait_procs(below, timeout=5)[1] == []
    assert not any((book.build / "smoke" / "scratch").iterdir())


def test_what_a_signal_ended_does_not_block_the_next_run(book):
    book.write("a", notebook(book.trace("a")))
    assert book.make("a").returncode == 0
    assert not book.partial("a").exists()
    assert book.traced() == ["a"]


def test_what_a_killed_run_has_left_is_cleared(book):
    site = book.build / "smoke" / "site"
    scratch = book.build / "smoke" / "scratch" / "a"
    for folder in (site, scratch, book.build / ".snakemake" / "incomplete"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "left").write_text("")
    (book.build / "html.new").symlink_to("nowhere")
    assert book.make("a").returncode == 0
    assert book.traced() == []
    assert not site.exists()
    assert not scratch.exists()
    assert not (book.build / ".snakemake" / "incomplete" / "left").exists()
    assert not (book.build / "html.new").is_symlink()


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_terminal_that_cannot_show_a_letter_still_learns_which_cell_failed(book, encoding):
    book.write("b", notebook("print('Größe')\n1 / 0  # Ω"))
    run = book.make("b", PYTHONIOENCODING=encoding)
    assert run.returncode == 1
    assert "chapter b, cell 3 (print('" in run.stderr
    assert "ZeroDivisionError" in run.stderr
    assert "Traceback" not in run.stderr


def test_a_fault_of_the_pages_is_a_failure(book):
    book.write("b", notebook(book.trace("b")))
    run = book.make_with(book.book / "index.md", "\n[lost](nowhere.md)\n")
    assert run.returncode == 1
    assert "pages: Jupyter Book found faults\nindex.md: WARNING: nowhere.md" in run.stderr
    assert not (book.build / "smoke" / "done" / "pages").exists()
    assert book.make().returncode == 0


def test_snakemake_runs_the_workflow_by_itself(book):
    command = [sys.executable, "-m", "snakemake", "--snakefile", book.tools / "Snakefile", "--directory", book.build]
    run = subprocess.run([*command, "--cores", "2"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "Nothing to be done" in run.stderr
    book.traced()
    book.write("a", notebook(book.trace("a"), "'on a cluster'"))
    run = subprocess.run([*command, "--cores", "2"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert book.traced() == ["a"]
    assert "on a cluster" in (book.build / "smoke" / "html" / "a.html").read_text("utf-8")


class TestMake:
    """What a person types after `make book` arrives as it was typed, on the command line and in the environment."""

    @pytest.fixture
    def checkout(self, book):
        """The small book with the real Makefile and an environment that looks installed."""
        for name in ("Makefile", "pyproject.toml", "requirements.lock"):
            shutil.copy(ROOT / name, book.root)
        python = book.root / ".venv" / "bin" / "python"
        python.parent.mkdir(parents=True, exist_ok=True)
        python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
        python.chmod(0o755)
        (book.root / ".venv" / "ready").write_text("")
        return book.root

    def make(self, checkout, *words: str, **environment: str) -> subprocess.CompletedProcess:
        env = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
        return subprocess.run(["make", *words], cwd=checkout, capture_output=True, text=True, env=env | environment)

    @pytest.mark.parametrize(
        "value", ["$(shell touch x)", "`touch x`", "$$(touch x)", 'a\'b "c"; touch x #', "$HOME", "${HOME}", "a\\ b"]
    )
    @pytest.mark.parametrize("way", ["word", "environment"])
    def test_values_are_not_read_by_make_or_the_shell(self, checkout, value, way):
        given = ([f"DATA={value}"], {}) if way == "word" else ([], {"DATA": value})
        run = self.make(checkout, "book", *given[0], **given[1])
        assert run.returncode != 0
        assert f"data folder {value!r}: there is no such folder" in run.stderr
        assert not (checkout / "x").exists()

    @pytest.mark.parametrize("name", ["PROFILE", "SEED", "CORES"])
    def test_nor_are_those_of_the_other_names(self, checkout, name):
        run = self.make(checkout, "book", f"{name}=$(shell touch x)`touch x`")
        assert run.returncode != 0
        assert "'$(shell touch x)`touch x`'" in run.stderr
        assert not (checkout / "x").exists()

    def test_nor_are_the_names_of_benchmarks(self, checkout):
        (checkout / ".venv" / "bin" / "python").write_text("#!/bin/sh\necho \"$* '$BENCHMARKS'\" >&2\nexit 1\n")
        run = self.make(checkout, "bench", "ONLY=$(shell touch x)`touch x`")
        assert run.returncode != 0
        assert "-m benchmarks '$(shell touch x)`touch x`'" in run.stderr
        assert not (checkout / "x").exists()

    def test_links_of_a_book_that_is_not_built(self, checkout):
        run = self.make(checkout, "links", "PROFILE=cpu")
        assert f"render.py: {checkout / '_build' / 'cpu'} has no pages; run `make book` first" in run.stderr

    def test_a_tilde_and_spaces_are_a_folder(self, checkout, tmp_path):
        (tmp_path / "my photos").mkdir()
        script = checkout / "book" / "tools" / "build.py"
        good = script.read_text()
        script.write_text(good.replace("    lock = locked()\n", "    raise ValueError(f'{data} is there')\n"))
        run = self.make(checkout, "book", "DATA=~/my photos", HOME=str(tmp_path))
        script.write_text(good)
        assert f"build.py: {tmp_path / 'my photos'} is there" in run.stderr
