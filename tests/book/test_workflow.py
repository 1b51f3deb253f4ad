"""The workflow from one `make book` to the next: what runs again, what does not, and what a failure stops.

The tests share one small book and follow each other, because each step needs what the one before has left."""

import os
import re
import signal
import subprocess
import sys
import time

import nbformat
import psutil
import pytest

from .conftest import notebook


@pytest.fixture(scope="module")
def book(shared_book):
    run = shared_book.make()
    assert run.returncode == 0, run.stdout + run.stderr
    assert shared_book.traced() == ["a", "b", "c"]
    return shared_book


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


def runs_folder(book) -> str:
    return nbformat.read(book.executed("a"), 4).metadata["cascade_book"]["parameters"]["runs_folder"]


def test_a_change_to_the_package_runs_all_again(book):
    before = runs_folder(book)
    module = book.root / "cascade_core" / "models.py"
    module.write_text("x = 1  # a comment\n")
    assert book.make("a").returncode == 0
    assert runs_folder(book) == before, "a comment must not throw trained networks away"
    module.write_text("x = 2\n")
    assert book.make("a", "b", "c").returncode == 0
    assert book.traced() == ["a", "a", "b", "c"]
    assert runs_folder(book) != before


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
        (["--data", "nowhere"], "nowhere': no such folder; give DATA the path of one"),
        (["nochapter"], "No rule to produce smoke/done/nochapter"),
        (["--seed", "false"], "invalid int value: 'false'"),
        (["--profile", "../x"], "'../x' is no profile's name"),
    ],
)
def test_what_cannot_be_made_is_said(book, options, message):
    run = book.make(*options)
    assert run.returncode != 0
    assert message in run.stderr


def test_a_second_build_waits_and_a_signal_ends_the_first(book):
    book.write("a", notebook("import time\ntime.sleep(60)"))
    command = [sys.executable, book.book / "build.py", "a"]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    line = first.stdout.readline()
    assert re.match("a: started", line)
    second = book.make()
    assert second.returncode == 1
    assert "is at work in" in second.stderr
    while not any("ipykernel" in " ".join(p.cmdline()) for p in psutil.Process(first.pid).children(recursive=True)):
        time.sleep(0.1)
    below = psutil.Process(first.pid).children(recursive=True)
    os.kill(first.pid, signal.SIGTERM)
    assert first.wait(timeout=20) == 1
    assert psutil.wait_procs(below, timeout=5)[1] == []
    book.write("a", notebook(book.trace("a")))
    assert book.make("a").returncode == 0, "what a signal ended must not block the next run"
